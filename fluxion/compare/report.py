"""A comparison as a page, `report.html`, made from its results document; the pictures beside it as PNG and SVG.

The page needs nothing from outside: its style and its pictures are in it. Whatever comes from a results file is escaped
by `tag`, which is the only maker of markup.
"""

from __future__ import annotations

import html
import json
import re
from pathlib import Path
from typing import Any

import numpy as np

from fluxion.compare import pictures
from fluxion.compare.environments import OWN
from fluxion.compare.export import REST, START, number, of, published
from fluxion.compare.pictures import Picture, curves_of, named, time_to
from fluxion.compare.summary import FAILED, OTHER, SAME, STRICT, baseline, duration, three
from fluxion.errors import FileFormatError
from fluxion.files import atomic_write

REPORT, PICTURES = "report.html", "pictures"
NEEDED = ("protocol", "date", "fluxion", "machine", "settings", "workloads", "runs", "frameworks", "programs",
          "measurements", "summary")  # fmt: skip
COSTS = START | REST
STYLE = Path(__file__).with_name("report.css")


def write_report(document: dict[str, Any], folder: Path, notes: dict[str, str] | None = None) -> list[Path]:
    """`report.html` in a folder, and the pictures in its folder `pictures`; the paths of both.

    Arguments:
        document: what `results.json` holds.
        folder: where to write.
        notes: for a workload, what is to be said on the first screen beside its verdict: why it is so.
    """
    folder.mkdir(parents=True, exist_ok=True)
    drawn = {
        picture.name: pictures.write(picture, folder / PICTURES)
        for name in document["workloads"]
        for picture in pictures.pictures(document, name)
    }
    text = page(document, drawn, notes or {})
    atomic_write(folder / REPORT, lambda file: file.write(text.encode()))
    return [folder / REPORT, folder / PICTURES]


def read_results(path: Path) -> dict[str, Any]:
    """The results document in a file.

    Errors: `FileFormatError` where it is none.
    """
    try:
        document = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise FileFormatError(f"{path}: expected the results of a comparison: {error}.") from None
    if not isinstance(document, dict) or document.get("format") != "fluxion.compare":
        raise FileFormatError(f"{path}: expected the results of a comparison, got another file.")
    if document.get("version") != 1:
        raise FileFormatError(f"{path}: expected version 1 of the results, got {document.get('version')!r}.")
    if missing := [name for name in NEEDED if name not in document]:
        raise FileFormatError(f"{path}: expected the results of a comparison; there is no {', '.join(missing)}.")
    return document


def read_notes(path: Path) -> dict[str, str]:
    """What a file of notes says about each workload: the paragraphs below the heading `# WORKLOAD`. None: nothing."""
    if not path.is_file():
        return {}
    parts = re.split(r"^# +(.+)$", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {name.strip(): text.strip() for name, text in zip(parts[1::2], parts[2::2], strict=True)}


def page(document: dict[str, Any], drawn: dict[str, str], notes: dict[str, str]) -> str:
    """The whole page. `drawn` are the pictures by name, as SVG."""
    names = list(document["workloads"])
    fair = document["protocol"] == "fair"
    title = f"Frameworks compared: {', '.join(names)}"
    body = [
        tag("header", tag("h1", title), *_what(document)),
        *_warnings(document),
        *_slower(document),
        tag("div", *[_verdict(document, name, notes.get(name, "")) for name in names], klass="verdicts"),
        *_absent(document),
        _contents(names),
        tag("h2", "What was measured", id="measured"),
        *(_measured_fair(document) if fair else _measured_published(document)),
        tag("h2", "What it shows", id="shows"),
    ]
    for name in names:
        body += _workload(document, name, drawn)
    body += [tag("h2", "What it does not", id="limits"), _limits(document)]
    body += [tag("h2", "The programs", id="programs"), *_programs(document)]
    body += [tag("h2", "Versions and machine", id="versions"), *_versions(document)]
    head = [
        Markup('<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'),
        Markup('<meta name="color-scheme" content="light dark">'),
        tag("title", title),
        tag("style", Markup(STYLE.read_text(encoding="utf-8"))),
    ]
    return "<!DOCTYPE html>\n" + tag("html", tag("head", *head), tag("body", tag("main", *body)), lang="en") + "\n"


# ---------------------------------------------------------------------------------------- the first screen


def _what(document: dict[str, Any]) -> list[Markup]:
    machine, settings = document["machine"], document["settings"]
    run = {m["framework"] for m in document["measurements"]}
    threads = _count(settings["threads"], "thread")
    what = "networks" if len(document["workloads"]) > 1 else "network"
    what = f"same {what}" if document["protocol"] == "fair" else "networks of the posts"
    lines = [
        f"{_count(len(run), 'framework')} trained the {what}"
        f" on one machine: {machine['processor']}, {_count(machine['cores'], 'core')}, {threads} for each; "
        f"{document['date'][:10]}, Fluxion {document['fluxion']}."
    ]
    if document["protocol"] == "fair":
        lines.append(
            "Same data, same first weights, same batches in the same order, same formula of the optimizer, same "
            f"precision. Each in {_count(settings['runs'], 'fresh process', 'fresh processes')}, in turns."
        )
    else:
        lines.append("The settings of each post, faults included, beside the numbers that it published.")
    return [tag("p", line, klass="lead") for line in lines]


def _warnings(document: dict[str, Any]) -> list[Markup]:
    settings, found = document["settings"], []
    synthetic = [label for label, run in document["runs"].items() if run["data"] == "synthetic"]
    if settings["quick"]:
        found.append(
            ("QUICK", "one sample of everything on a little data, to see that all works. No time here counts.")
        )
    if synthetic:
        told = "all" if len(synthetic) == len(document["runs"]) else ", ".join(synthetic)
        found.append((
            "SYNTHETIC DATA",
            f"({told}) the set was not on this computer; random data of its shapes stand in. The times are what they "
            "would be, accuracy is not.",
        ))  # fmt: skip
    timed = [e["times"]["step"]["n"] for e in document["summary"] if "step" in e["times"] and not _seldom(document, e)]
    if timed and min(timed) < settings["runs"]:
        found.append(("Not complete", f"some modes ran {min(timed)} of {settings['runs']} times; --continue goes on."))
    if settings["epochs"] is not None:
        found.append(("Other epochs", f"trainings have {settings['epochs']} instead of the workload's."))
    return [tag("p", tag("strong", f"{name}: "), text, klass="warning") for name, text in found]


def _seldom(document: dict[str, Any], entry: dict[str, Any]) -> bool:
    """Whether a mode is timed less often than the others by plan: not the first one of a style of Fluxion."""
    framework = document["frameworks"][entry["framework"]]
    first = next(iter(framework.get("runs", {}).get(entry["workload"], ())), entry["mode"])
    planned = document["workloads"][entry["workload"]].get("others") is not None
    return planned and entry["framework"].startswith(OWN) and entry["mode"] != first


def _slower(document: dict[str, Any]) -> list[Markup]:
    """The sentence that comes first: where Fluxion is slower than another framework, and by how much."""
    if document["protocol"] != "fair":
        return []
    found = [
        f"{named(entry)} on {name} ({three(1 / entry['ratio'])} times as long)"
        for name in document["workloads"]
        for entry in rivals(document, name)[0]
    ]
    if found:
        return [tag("p", tag("strong", "Fluxion is slower than "), f"{_listed(found)}.", klass="warning")]
    compared = sum(len(rivals(document, name)[1]) for name in document["workloads"])
    behind = any(_behind(document, name) for name in document["workloads"])
    told = "In no step that was compared is Fluxion slower than another framework"
    return [tag("p", told, "; in other columns it is, as said below." if behind else ".")] if compared else []


def _absent(document: dict[str, Any]) -> list[Markup]:
    names = [facts["title"] for facts in document["frameworks"].values() if "missing" in facts]
    if not names:
        return []
    return [
        tag("p", "Not run here: ", ", ".join(names), ". ", tag("a", "Why, and how to add them", href="#absent"), ".")
    ]


def _verdict(document: dict[str, Any], name: str, note: str) -> Markup:
    """What came out for a workload, the bad news for Fluxion first."""
    entries = of(document, name)
    head, kind, lines = _outcome(document, name) if document["protocol"] == "fair" else _trained(name, entries)
    judged = [e for e in entries if e["verdict"]]
    if judged:
        same = sum(e["verdict"] == SAME for e in judged)
        mark = "same" if same == len(judged) else "other"
        lines.append(tag("span", f"{same} of {_count(len(judged), 'mode')}: same work", klass=mark))
    about = document["workloads"][name]["about"] if document["protocol"] == "fair" else ""
    return tag(
        "section",
        tag("h2", tag("a", head, href=f"#{_id(name)}")),
        tag("ul", *[tag("li", line) for line in [*lines, *_wrong(entries)]]),
        *([tag("p", about)] if about else []),
        *_note(note),
        klass=f"verdict {kind}",
    )


def _outcome(document: dict[str, Any], name: str) -> tuple[str, str, list[Any]]:
    """Headline, kind and sentences about the steps of a workload: each framework in its fastest mode."""
    best = baseline(document["summary"], name)
    if best is None:
        line = "Fluxion was not timed, or did not do the same work, so that nothing is compared to it."
        return f"{name}: no ratio to Fluxion", "unknown", [line]
    faster, slower = rivals(document, name)
    lines: list[Any] = [
        f"Slower than {named(entry)}: a step of {named(best)} takes {three(1 / entry['ratio'])} times as long "
        f"({duration(best['times']['step']['median'])} and {duration(entry['times']['step']['median'])})"
        f"{_overlap(best, entry)}."
        for entry in faster
    ]
    if slower:
        near = slower[0]
        nearest = f"the nearest, {named(near)}," if len(slower) > 1 else named(near)
        lines.append(
            f"Faster than {len(slower)}: a step of {nearest} takes {three(near['ratio'])} times as long as one of "
            f"{named(best)}{_overlap(best, near)}."
        )
    if behind := _behind(document, name):
        lines.append(f"Behind the best of the others: {', '.join(behind)}.")
    count = len(faster) + len(slower)
    if faster:
        return f"{name}: Fluxion is slower than {len(faster)} of {_count(count, 'other')}", "slower", lines
    if slower:
        return f"{name}: Fluxion is the fastest of {count + 1}", "fastest", lines
    return f"{name}: no other framework to compare with", "unknown", lines


def _behind(document: dict[str, Any], name: str) -> list[str]:
    """What else than a step takes Fluxion longer, or more memory, than the best of the others with the same work."""
    entries = [e for e in of(document, name) if e["verdict"] == SAME]
    level = pictures.common_level(of(document, name))
    quantities: dict[str, list[tuple[float, dict[str, Any]]]] = {}
    for entry in entries:
        spreads = {title.lower(): entry["times"].get(column) for column, (title, _) in pictures.TIMES.items()}
        medians = {
            title: spread["median"] for title, spread in (spreads | {"memory": entry["memory"]}).items() if spread
        }
        if level is not None:
            medians[f"time to {100 * level:.1f} % accuracy"] = _time_to(document, entry, level)
        for title, value in medians.items():
            if value is not None and title != pictures.TIMES["step"][0].lower():
                quantities.setdefault(title, []).append((value, entry))
    found = []
    for title, known in quantities.items():
        own = min((v for v, e in known if e["framework"].startswith(OWN)), default=None)
        others = [(v, e) for v, e in known if not e["framework"].startswith(OWN)]
        if own is not None and others:
            least, best = min(others, key=lambda pair: pair[0])
            if own > least:
                found.append(f"{title} ({three(own / least)} times that of {named(best)})")
    return found


def _time_to(document: dict[str, Any], entry: dict[str, Any], level: float) -> float | None:
    curves = curves_of(document, entry)
    seconds = time_to(curves, level) if curves else []
    return float(np.median(seconds)) if seconds else None


def _trained(name: str, entries: list[dict[str, Any]]) -> tuple[str, str, list[Any]]:
    trained = sum(e["accuracy"] is not None for e in entries)
    return f"{name}: {trained} of {_count(len(entries), 'training')} as published came to an end", "unknown", []


def rivals(document: dict[str, Any], name: str) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The fastest mode of every other framework that did the same work: those faster than Fluxion, those slower.

    Both begin with the fastest.
    """
    best: dict[str, dict[str, Any]] = {}
    for entry in sorted((e for e in of(document, name) if e["ratio"] is not None), key=lambda e: e["ratio"]):
        if not entry["framework"].startswith(OWN):
            best.setdefault(entry["framework"], entry)
    return [e for e in best.values() if e["ratio"] < 1], [e for e in best.values() if e["ratio"] >= 1]


def _overlap(a: dict[str, Any], b: dict[str, Any]) -> str:
    a, b = a["times"]["step"], b["times"]["step"]
    return "; the middle halves of their runs overlap" if a["q1"] <= b["q3"] and b["q1"] <= a["q3"] else ""


def _wrong(entries: list[dict[str, Any]]) -> list[Markup]:
    found = []
    for e in entries:
        if e["verdict"] == OTHER:
            found.append(join(tag("strong", f"{named(e)}: not the same work, no ratio given: "), e["why"]))
        elif e["errors"] and not e["times"] and not e["accuracy"]:
            found.append(join(tag("strong", f"{named(e)}: failed: "), tag("code", _short(e["errors"][0]))))
    return found


def _note(note: str) -> list[Markup]:
    return [tag("p", tag("strong", "Note. ") if not i else "", text)
            for i, text in enumerate(filter(None, re.split(r"\n\s*\n", note)))]  # fmt: skip


def _contents(names: list[str]) -> Markup:
    links = [("What was measured", "measured"), *[(name, _id(name)) for name in names],
             ("What it does not show", "limits"), ("Programs", "programs"), ("Versions", "versions")]  # fmt: skip
    return tag("nav", *[tag("a", text, href=f"#{target}") for text, target in links])


# -------------------------------------------------------------------------------------- what was measured


def _measured_fair(document: dict[str, Any]) -> list[Markup]:
    settings = document["settings"]
    threads = _count(settings["threads"], "thread")
    rows = [
        ("import", "a fresh process imports the framework"),
        ("data", "the arrays are read; all pixels become float32 here, before anything else is timed"),
        ("build", "the model is made and gets its first weights, and so does the optimizer"),
        ("1st step", "the first training step, with all compilation; no compiled program is kept from before"),
        ("a step", "steady state: one step after another on batches that lie ready, the compilation over"),
        ("batch", "the rows of a batch are gathered and made what the framework takes"),
        ("epoch", "the framework's own loop over arrays, shuffling and batches included"),
        ("eval", "loss and accuracy of the whole test set, in batches of 1000, nothing dropped out"),
        ("memory", "the most that the process ever had, training included"),
    ]
    steps = max((len(r["reference"]["losses"]) for r in document["runs"].values() if r.get("reference")), default=0)
    about = [
        f"{_count(settings['runs'], 'process', 'processes')} for the times of each mode, {threads} each, all "
        "modes in a new random order in every round. Given are the median, the smallest and the middle half (first to "
        "third quartile) over the processes, of which each gives the median of what it timed.",
        f"Same work means that the losses of the first {steps} steps are those of a reference, within what rounding "
        f"explains: within a narrow bound for the first {STRICT}, a wider one later. Where they are not, no ratio is "
        "given, for whatever was timed was something else. The reference is "
        + _listed(sorted({r["reference"]["what"] for r in document["runs"].values() if r.get("reference")}) or ["none"])
        + ".",
        f"Accuracy: {_count(settings['seeds'], 'training')} from different first weights and orders, apart from the "
        "times of steps; every test example once, the class with the largest output.",
    ]
    return [tag("p", about[0]), _table(["column", "what it is"], [list(row) for row in rows], "words"),
            *[tag("p", line) for line in about[1:]], _data(document)]  # fmt: skip


def _measured_published(document: dict[str, Any]) -> list[Markup]:
    told = (
        "Each framework was trained by the settings of its post: network, first weights, optimizer, batches. Nothing "
    )
    return [tag("p", told + "is equal between them, so nothing is compared but with the post itself."), _data(document)]


def _data(document: dict[str, Any]) -> Markup:
    items = []
    for name, told in document["workloads"].items():
        kinds = sorted({run["data"] for label, run in document["runs"].items() if label.partition("/")[0] == name})
        marked = [tag("strong", " SYNTHETIC.")] if "synthetic" in kinds else []
        items += [tag("dt", name), tag("dd", f"{told['network']}. Data: {told['split']}.", *marked,
                                       f" After {told['post']}.")]  # fmt: skip
    return tag("dl", *items)


# ------------------------------------------------------------------------------------------- what it shows


def _workload(document: dict[str, Any], name: str, drawn: dict[str, str]) -> list[Markup]:
    found = [tag("h3", name, id=_id(name)), tag("p", document["workloads"][name]["title"], ".")]
    available = [picture for picture in pictures.pictures(document, name) if picture.name in drawn]
    shown = [_figure(picture, drawn[picture.name]) for picture in available]
    if document["protocol"] != "fair":
        head, rows = published(document, name)
        faults = [
            item
            for label, run in document["runs"].items()
            if label.partition("/")[0] == name and run.get("faults")
            for item in (tag("dt", label.partition("/")[2]), tag("dd", run["faults"]))
        ]
        return [*found, _table(head, rows), tag("div", *shown, klass="pictures"), tag("dl", *faults)]
    tables = [
        ("Steady state", _speed(document, name)),
        ("Everything else, medians", _costs(document, name)),
        ("Accuracy on the test set", _accuracies(document, name)),
    ]
    if shown:
        found.append(tag("div", *shown, klass="pictures"))
    for title, (head, rows) in tables:
        if rows:
            found += [tag("h4", title), _table(head, rows)]
    if not shown:
        found.append(tag("p", "Nothing could be measured; below is why."))
    return found + _failures(of(document, name))


def _figure(picture: Picture, svg: str) -> Markup:
    image = Markup(pictures.inline(svg, picture.name, html.escape(picture.alt)))
    return tag("figure", tag("h4", picture.title), image, tag("figcaption", picture.about))


def _speed(document: dict[str, Any], name: str) -> tuple[list[str], list[list[Any]]]:
    rows = []
    for entry in sorted(of(document, name), key=lambda e: e["times"].get("step", {}).get("median", float("inf"))):
        step = entry["times"].get("step")
        mark = {SAME: "same", OTHER: "other", FAILED: "other"}.get(entry["verdict"], "")
        verdict = tag("span", entry["verdict"] or "not timed", klass=mark)
        if step is None:
            rows.append([named(entry), "", "", "", "", "", verdict])
            continue
        ratio = "none" if entry["ratio"] is None else three(entry["ratio"])
        half = f"{duration(step['q1'])} to {duration(step['q3'])}"
        rows.append(
            [named(entry), duration(step["median"]), duration(step["min"]), half, str(step["n"]), ratio, verdict]
        )
    return ["mode", "a step", "least", "middle half", "runs", "ratio", "verdict"], rows


def _costs(document: dict[str, Any], name: str) -> tuple[list[str], list[list[Any]]]:
    rows = []
    for entry in of(document, name):
        if entry["times"]:
            cells = [duration(t["median"]) if (t := entry["times"].get(column)) else "" for column in COSTS]
            memory = pictures.megabytes(entry["memory"]["median"]) if entry["memory"] else ""
            rows.append([named(entry), *cells, memory])
    return ["mode", *COSTS.values(), "memory"], rows


def _accuracies(document: dict[str, Any], name: str) -> tuple[list[str], list[list[Any]]]:
    """Accuracy in the end, and the seconds of training until the accuracy that all reach."""
    level = pictures.common_level(of(document, name))
    rows = []
    for entry in of(document, name):
        curves, found = curves_of(document, entry), entry["accuracy"]
        if not curves or not found:
            continue
        inside = {True: "inside", False: tag("strong", "OUTSIDE"), None: ""}[found["in band"]]
        values = [number(found[at]) for at in ("min", "median", "max")]
        seconds = None if level is None else _time_to(document, entry, level)
        reached = "never" if seconds is None else duration(seconds)
        total = duration(float(np.median(curves["seconds"].sum(1))))
        rows.append([named(entry), str(found["n"]), *values, inside, reached, total])
    to = "" if level is None else f"time to {100 * level:.1f} %"
    return ["mode", "seeds", "least", "median", "most", "expected band", to, "whole training"], rows


def _failures(entries: list[dict[str, Any]]) -> list[Markup]:
    rows = [[named(e), str(len(e["errors"])), tag("code", e["errors"][0])] for e in entries if e["errors"]]
    return [tag("h4", "What failed"), _table(["mode", "times", "with"], rows, "words")] if rows else []


# ----------------------------------------------------------------------------------- what it does not show


def _limits(document: dict[str, Any]) -> Markup:
    settings, fair = document["settings"], document["protocol"] == "fair"
    lines = [
        "One processor, and no GPU: on another one the order may be another.",
        "These networks at these sizes of batch, in float32; larger ones spend their time elsewhere.",
    ]
    if fair:
        lines += [
            "Same work is shown for the first steps. Later ones drift apart by rounding, so that accuracy is compared "
            "by its spread over the seeds, not number by number.",
            "A ratio close to 1 is no difference: where the middle halves of the runs overlap, read none.",
            "Few lines are not ease. Each program is what the documentation of its framework would have, in its usual "
            "and its best-known fast modes; an expert may get more out of any of them.",
        ]
    if settings["threads"] != document["machine"]["cores"]:
        used = f"{_count(settings['threads'], 'thread')} of {document['machine']['cores']} cores"
        lines.append(f"{used}; with more, some scale better than others.")
    for name, run in document["runs"].items():
        if run["data"] == "synthetic":
            lines.append(f"{name}: accuracy on random data says nothing about the real set.")
    return tag("ul", *[tag("li", line) for line in lines])


# ------------------------------------------------------------------------------------------- the programs


def _programs(document: dict[str, Any]) -> list[Markup]:
    """For each workload the programs side by side; modes with the same program share one.

    The usual mode of each framework comes before the others; of Fluxion's styles and one more they are unfolded.
    """
    found = [tag("p", "What is read here is what was run. Lines are counted without empty ones and comments.")]
    by_workload: dict[str, dict[tuple[str, str], list[dict[str, Any]]]] = {}
    for program in document["programs"]:
        same = by_workload.setdefault(program["workload"], {}).setdefault((program["framework"], program["text"]), [])
        same.append(program)
    for workload, groups in by_workload.items():
        usual: dict[str, str] = {}
        for framework, text in groups:
            usual.setdefault(framework, text)
        ordered = [group for (f, text), group in groups.items() if usual[f] == text]
        unfolded = [group for group in ordered if group[0]["framework"].startswith(OWN)]
        unfolded += [group for group in ordered if not group[0]["framework"].startswith(OWN)][:1]
        ordered += [group for (f, text), group in groups.items() if usual[f] != text]
        counts = [[_program_name(g), str(g[0]["lines"])] for g in sorted(ordered, key=lambda g: g[0]["lines"])]
        cards = [
            tag("details", tag("summary", tag("b", _program_name(g)), f" {_count(g[0]['lines'], 'line')}"),
                tag("pre", tag("code", highlighted(g[0]["text"]))), open="" if g in unfolded else None)
            for g in ordered
        ]  # fmt: skip
        found += [tag("h3", workload), _table(["program", "lines"], counts, "short"), tag("div", *cards, klass="code")]
    return found


def _program_name(group: list[dict[str, Any]]) -> str:
    return f"{group[0]['title']}: {', '.join(program['mode'] for program in group)}"


PIECES = re.compile(
    r"(?P<c>\#[^\n]*)|(?P<s>\"\"\".*?\"\"\"|\"(?:[^\"\\\n]|\\.)*\"|'(?:[^'\\\n]|\\.)*')"
    r"|(?P<k>\b(?:and|as|assert|break|class|const|continue|def|del|do|elif|else|elseif|end|except|finally|for|from|function"
    r"|global|if|import|in|is|lambda|let|module|mutable|nonlocal|not|or|pass|raise|return|struct|try|using|while|with|yield"
    r"|None|True|False|nothing|true|false)\b)|(?P<n>\b\d[\d_.]*(?:[eEf][+-]?\d+)?)",
    re.DOTALL,
)


def highlighted(text: str) -> Markup:
    """A program in Python or Julia with its comments, strings, keywords and numbers marked.

    >>> from fluxion.compare.report import highlighted
    >>> print(highlighted("return x < 1"))
    <i class="k">return</i> x &lt; <i class="n">1</i>
    """
    pieces: list[Any] = []
    place = 0
    for match in PIECES.finditer(text):
        pieces += [text[place : match.start()], tag("i", match[0], klass=match.lastgroup)]
        place = match.end()
    return join(*pieces, text[place:])


# --------------------------------------------------------------------------------------- versions, machine


def _versions(document: dict[str, Any]) -> list[Markup]:
    machine, settings = document["machine"], document["settings"]
    run, absent = [], []
    measured = {m["framework"]: m.get("versions") or {} for m in document["measurements"] if "error" not in m}
    told = document["frameworks"]
    for name in dict.fromkeys([*told, *measured]):
        facts = told.get(name, {})
        if "missing" in facts and name not in measured:
            absent.append([facts.get("title", name), facts["missing"], tag("code", facts.get("remedy", ""))])
            continue
        versions = facts.get("versions") or measured.get(name, {})
        text = ", ".join(f"{package} {version}" for package, version in versions.items())
        reasons = [
            f"{label}, {mode}: {why}"
            for label, modes in facts.get("reasons", {}).items()
            for mode, why in modes.items()
        ]
        run.append([facts.get("title", name), tag("code", name), text, "; ".join(reasons)])
    rows = [
        ["processor", f"{machine['processor']}, {machine['family']}, {_count(machine['cores'], 'core')}"],
        ["vectors", machine["vectors"] or "none of those asked for"],
        ["system", f"{machine['system']}, Python {machine['python']}"],
        ["threads", f"{settings['threads']} for each framework"],
        ["runs", f"{settings['runs']} processes for times, {_count(settings['seeds'], 'seed')} for accuracy, at most "
                 f"{settings['limit']:g} s for a process"],
        ["protocol", document["protocol"]],
    ]  # fmt: skip
    found = [_table(["", ""], rows, "words"), tag("h3", "Frameworks"),
             _table(["framework", "name", "versions", "modes left out, and why"], run, "words")]  # fmt: skip
    if absent:
        found += [tag("h3", "Not run here", id="absent"), tag("p", "The command adds the framework:"),
                  _table(["framework", "why", "command"], absent, "words")]  # fmt: skip
    hashes = [
        [label, name, value] for label, run_ in document["runs"].items() for name, value in run_["hashes"].items()
    ]
    if hashes:
        rows_ = [[label, name, tag("code", value)] for label, name, value in hashes]
        folded = tag("details", tag("summary", "Hashes of data, batches and first weights"),
                     _table(["workload", "array", "hash"], rows_))  # fmt: skip
        found.append(folded)
    return found


# ------------------------------------------------------------------------------------------------- markup


class Markup(str):
    """Text that is HTML already."""


def tag(name: str, *content: Any, klass: str | None = None, **attributes: str | None) -> Markup:
    """An element. Content that is not `Markup` is escaped; attributes that are None are left out.

    >>> from fluxion.compare.report import tag
    >>> print(tag("p", "a < b", tag("b", "!"), klass="x"))
    <p class="x">a &lt; b<b>!</b></p>
    """
    named_ = {"class": klass, **attributes}
    text = "".join(f' {key}="{html.escape(value)}"' for key, value in named_.items() if value is not None)
    return Markup(f"<{name}{text}>{join(*content)}</{name}>")


def join(*content: Any) -> Markup:
    """Contents after each other; what is not `Markup` is escaped, and loses the control characters it has."""
    return Markup("".join(part if isinstance(part, Markup) else html.escape(_plain(str(part))) for part in content))


def _plain(text: str) -> str:
    return "".join(c if c.isprintable() or c in "\n\t" else "\ufffd" for c in text)


def _table(head: list[str], rows: list[list[Any]], kind: str = "numbers") -> Markup:
    """A table that scrolls by itself where the screen is narrow."""
    top = [tag("thead", tag("tr", *[tag("th", text, scope="col") for text in head]))] if any(head) else []
    lines = []
    for row in rows:
        own = " own" if isinstance(row[0], str) and row[0].lower().startswith(OWN) else ""
        first = tag("th", row[0], scope="row")
        lines.append(tag("tr", first, *[tag("td", cell) for cell in row[1:]], klass=own.strip() or None))
    return tag("div", tag("table", *top, tag("tbody", *lines), klass=kind), klass="wide")


def _id(name: str) -> str:
    return f"w-{pictures.slug(name)}"


def _count(number: int, one: str, many: str | None = None) -> str:
    return f"{number} {one if number == 1 else many or one + 's'}"


def _listed(words: list[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def _short(text: str) -> str:
    return text if len(text) <= 160 else text[:159] + "…"
