"""A comparison as a small table in Markdown, kept up to date between two marks in a file such as README.md."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fluxion.compare.environments import OWN
from fluxion.compare.export import of
from fluxion.compare.pictures import named
from fluxion.compare.report import rivals
from fluxion.compare.summary import FAILED, OTHER, SAME, baseline, duration, three
from fluxion.errors import FileFormatError
from fluxion.files import atomic_write

BEGIN, END = "<!-- fluxion compare: begin -->", "<!-- fluxion compare: end -->"


def front_page(documents: Sequence[dict[str, Any]]) -> str:
    """A row for each framework, a column for each workload: the median step of its fastest mode, and the ratio.

    The sentences below the table say first where Fluxion is slower, and on which machine all was measured.
    `documents` are results of fair comparisons; of a workload that is in several, the last one counts.
    """
    places = {name: document for document in documents if document["protocol"] == "fair"
              for name in document["workloads"]}  # fmt: skip
    titles: dict[str, str] = {}
    for document in places.values():
        told = {name: facts["title"] for name, facts in document["frameworks"].items()}
        titles |= told | {p["framework"]: p["title"] for p in document["programs"]}  # not all need be in this call
    measured = {e["framework"] for name, document in places.items() for e in of(document, name)}
    own = [framework for framework in titles if framework.startswith(OWN) and framework in measured]
    others = [framework for framework in titles if not framework.startswith(OWN) and framework in measured]
    lines = ["| a training step | " + " | ".join(map(_heading, places.values(), places)) + " |",
             "|---|" + "---:|" * len(places)]  # fmt: skip
    for framework in own + others:
        cells = [_cell(document, name, framework) for name, document in places.items()]
        lines.append(f"| {escaped(titles[framework])} | " + " | ".join(cells) + " |")
    return "\n".join([*lines, "", *_sentences(places)]) + "\n"


def put(file: Path, text: str) -> None:
    """Put `text` between the two marks in a file, in the place of what is there.

    Errors: `FileFormatError` where the file does not have both, once each.
    """
    before = file.read_text(encoding="utf-8")
    if before.count(BEGIN) != 1 or before.count(END) != 1 or before.index(BEGIN) > before.index(END):
        raise FileFormatError(f"{file}: expected the lines {BEGIN} and {END} in it, once each.")
    start, end = before.index(BEGIN) + len(BEGIN), before.index(END)
    after = f"{before[:start]}\n{text.strip()}\n{before[end:]}"
    atomic_write(file, lambda stream: stream.write(after.encode()))


def escaped(text: str) -> str:
    """Text as a cell of a table shows it.

    >>> from fluxion.compare.markdown import escaped
    >>> print(escaped("a|b <c>"))
    a\\|b &lt;c&gt;
    """
    text = " ".join(text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").split())
    return "".join(f"\\{c}" if c in "\\|*_`[]" else c for c in text)


def _heading(document: dict[str, Any], name: str) -> str:
    run = document["runs"].get(name, {})
    return escaped(name) + (" (synthetic data)" if run.get("data") == "synthetic" else "")


def _cell(document: dict[str, Any], name: str, framework: str) -> str:
    entries = [e for e in of(document, name) if e["framework"] == framework]
    timed = [e for e in entries if e["verdict"] == SAME and "step" in e["times"]]
    if not timed:
        verdicts = {e["verdict"] for e in entries}
        return OTHER if OTHER in verdicts else FAILED if FAILED in verdicts else ""
    entry = min(timed, key=lambda e: e["times"]["step"]["median"])
    step = duration(entry["times"]["step"]["median"])
    if entry["ratio"] is None:
        return step
    fastest = not any(e["ratio"] is not None and e["ratio"] < entry["ratio"] for e in of(document, name))
    text = f"{step} ({three(entry['ratio'])})"
    return f"**{text}**" if fastest else text


def _sentences(places: dict[str, dict[str, Any]]) -> list[str]:
    slower = [
        f"{escaped(named(entry))} on {escaped(name)} ({three(1 / entry['ratio'])} times as long)"
        for name, document in places.items()
        for entry in rivals(document, name)[0]
    ]
    found = [f"Fluxion is slower than {', '.join(slower)}."] if slower else []
    if any(baseline(document["summary"], name) is not None for name, document in places.items()) and not slower:
        found.append("Fluxion is slower than none of them.")
    how = dict.fromkeys(
        f"{escaped(d['machine']['processor'])}, threads: {d['settings']['threads']}, fresh processes: "
        f"{d['settings']['runs']}, {d['date'][:10]}"
        for d in places.values()
    )
    found.append(
        "Medians, each framework in its fastest mode; in brackets, how many times as long as Fluxion's. Same weights, "
        "same batches, losses of the first steps compared; whoever did other work has no time here. "
        f"{'; '.join(how)}."
    )
    if any(d["settings"]["quick"] for d in places.values()):
        found.insert(0, "QUICK: one sample of everything on a little data. No time here counts.")
    return ["\n\n".join(found)]
