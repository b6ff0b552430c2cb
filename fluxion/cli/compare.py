"""`fluxion compare`: the same training by several frameworks, side by side; which there are, and how to get them."""

from __future__ import annotations

import itertools
import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from fluxion.cli.output import JSON, CtrlC, Debug, failures, only_result, say, show, table, warn, width, write_json
from fluxion.errors import DataError

RESULTS, TABLE, NOTES = "results.json", "results.csv", "notes.md"
GAP, LEAST = 3, 78  # characters between two programs side by side, and of one at least


def compare(
    names: Annotated[
        list[str],
        typer.Argument(metavar="WORKLOAD", help="Workloads such as iris; or list; setup NAME; report FOLDER."),
    ],
    with_: Annotated[
        str | None, typer.Option("--with", metavar="NAMES", help="Frameworks, such as fluxion,jax,torch. Default: all.")
    ] = None,
    env: Annotated[
        list[str] | None, typer.Option("--env", metavar="NAME=PYTHON", help="The interpreter that has a framework.")
    ] = None,
    protocol: Annotated[str, typer.Option(help="fair, or as-published: each post's own settings.")] = "fair",
    runs: Annotated[int, typer.Option(min=1, help="Fresh processes for the times of each framework.")] = 10,
    seeds: Annotated[int, typer.Option(min=0, help="Trainings for accuracy; 0 for none.")] = 3,
    threads: Annotated[int | None, typer.Option(min=1, help="Cores for each framework. Default: all.")] = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="Epochs of a training, instead of the workload's.")] = None,
    limit: Annotated[float, typer.Option(min=1, help="Seconds for a process; ten times as long for accuracy.")] = 300,
    out: Annotated[Path | None, typer.Option(help="Folder of the results. Default: runs/compare-WORKLOAD-1.")] = None,
    continue_: Annotated[bool, typer.Option("--continue", help="Go on with the results that are there.")] = False,
    quick: Annotated[bool, typer.Option("--quick", help="One sample of everything, to see that all works.")] = False,
    code: Annotated[bool, typer.Option("--code", help="Show the programs side by side, and run nothing.")] = False,
    markdown: Annotated[
        str | None, typer.Option(metavar="FILE", help="For report: the file to put a table in; - to print it.")
    ] = None,
    index_url: Annotated[str | None, typer.Option(help="For setup: where pip looks.")] = None,
    json: JSON = False,
    debug: Debug = False,
) -> None:
    """Train the same network by several frameworks, and compare times, losses, accuracy and code.

    fluxion compare list shows the workloads and frameworks; fluxion compare setup torch makes an environment for one
    that this interpreter does not have; fluxion compare report DIR writes a report anew. A run that was stopped goes
    on with --continue.
    """
    with failures(debug), only_result(json) as stream:
        frameworks = tuple(name for name in (with_ or "").split(",") if name)
        pythons = dict(map(parse_env, env or []))
        if names[0] == "list":
            show_list(pythons, stream if json else None)
        elif names[0] == "setup":
            set_up(names[1:], index_url)
        elif names[0] == "report":
            write_reports(names[1:], markdown)
        elif code:
            show_code(names, frameworks, stream if json else None)
        else:
            from fluxion.compare.protocol import Settings

            settings = Settings(
                tuple(dict.fromkeys(names)), frameworks, pythons, protocol, 1 if quick else runs,
                min(seeds, 1) if quick else seeds, threads or cores(), epochs, limit, quick,
            )  # fmt: skip
            folder = place(out, settings.names, protocol, continue_)
            run(settings, folder, stream if json else None)


def run(settings: Any, folder: Path, stream: Any) -> None:
    """Measure what is not there yet and show everything; Ctrl-C ends the measuring only."""
    from fluxion.compare.export import write_csv
    from fluxion.compare.protocol import Comparing
    from fluxion.compare.report import read_notes, write_report

    comparing = Comparing(settings, folder / RESULTS, warn)
    stopped = False
    with CtrlC() as pressed:
        try:
            comparing.run()
            pressed.check()
        except KeyboardInterrupt:
            stopped = True
    document = comparing.report()
    if stream:
        write_json(stream, document)
    else:
        tell(document)
    write_csv(document, folder / TABLE)
    pages = write_report(document, folder, read_notes(folder / NOTES))
    if not stream:
        for file in (folder / RESULTS, folder / TABLE, *pages):
            show(str(file))
    if stopped:
        warn(f"Stopped. What was measured is kept; the same command with --continue --out {folder} goes on.")
        raise typer.Exit(130)


def parse_env(text: str) -> tuple[str, str]:
    name, separator, python = text.partition("=")
    if not (separator and name and python):
        raise typer.BadParameter(f"expected NAME=PYTHON, such as torch=/usr/bin/python3, got {text!r}.")
    return name, python


def cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def place(out: Path | None, names: tuple[str, ...], protocol: str, again: bool) -> Path:
    """The folder of the results: a new one, or with `again` the one named or made last."""
    from fluxion.cli.runs import claim

    stem = f"compare-{'-'.join(names) if len(names) < 4 else 'several'}"
    stem += "" if protocol == "fair" else f"-{protocol}"
    if again and out is None:
        made = [path for path in Path("runs").glob(f"{stem}-*") if path.name.removeprefix(f"{stem}-").isdigit()]
        if not made:
            raise DataError(
                f"--continue: there is nothing to go on with, no runs/{stem}-1. Leave it away, or give --out."
            )
        return max(made, key=lambda path: int(path.name.rpartition("-")[2]))
    if again and out is not None:
        if not (out / RESULTS).is_file():
            raise DataError(f"--continue: there is no {out / RESULTS}.")
        return out
    if out is not None and out.is_dir() and any(out.iterdir()):
        raise DataError(f"{out} is not empty. Use another folder, or --continue to go on with what is there.")
    return claim(out, stem, False)


# ------------------------------------------------------------------------------------------------ showing


def tell(document: dict[str, Any]) -> None:
    """The tables and sentences of every workload."""
    from fluxion.compare import export

    for name in document["workloads"]:
        for line in export.heading(document, name):
            say(line)
        say()
        if document["protocol"] == "fair":
            tables = [
                ("Steady state: steps on batches that lie ready", export.speed(document, name)),
                ("Until the first step", export.start(document, name)),
                ("Around the steps", export.rest(document, name)),
                ("Accuracy on the test set", export.accuracies(document, name)),
            ]
        else:
            tables = [("As published", export.published(document, name))]
        for title, (header, rows) in tables:
            if rows:
                say(f"{title}:")
                table(header, rows, texts=("framework", "verdict", "post's", "run by"))
                say()
        for line in export.conclusions(document, name):
            say(line)
        say()
    absent = {name: facts for name, facts in document["frameworks"].items() if "missing" in facts}
    for name, facts in absent.items():
        say(f"{name}: not run here ({facts['missing']}): {facts['remedy']}")


def show_list(pythons: dict[str, str], stream: Any) -> None:
    from fluxion.compare import environments, workloads
    from fluxion.compare.examples import SETS
    from fluxion.data.catalogue import places

    entries: list[dict[str, Any]] = []
    for name in workloads.names():
        found = workloads.find(name)
        data = "real" if places(SETS[found.data][0]) else "synthetic"
        variants = [variant.name for variant in found.variants]
        entries.append({"name": name, "network": found.fair.title, "data": data, "published": variants})
    frameworks: list[dict[str, Any]] = []
    for name, adapter in environments.adapters().items():
        peer = environments.peer(name, pythons)
        here = environments.has(adapter.NEEDS) or peer.python in (
            *pythons.values(),
            *environments.remembered().values(),
        )
        where = peer.python if here else f"not here: {environments.remedy(name)}"
        frameworks.append({"name": name, "title": adapter.TITLE, "modes": list(adapter.MODES), "where": where})
    if stream:
        write_json(stream, {"workloads": entries, "frameworks": frameworks})
        return
    rows = [[e["name"], e["network"], e["data"], ", ".join(e["published"])] for e in entries]
    table(["workload", "network", "data", "as published"], rows, numbers=False, texts=("network", "as published"))
    say()
    rows = [[f["name"], f["title"], ", ".join(f["modes"]), f["where"]] for f in frameworks]
    table(["framework", "", "modes", "interpreter"], rows, numbers=False, texts=("modes", "interpreter"))


def set_up(names: list[str], index_url: str | None) -> None:
    from fluxion.compare import environments

    if not names:
        raise typer.BadParameter("expected a framework: fluxion compare setup torch.")
    for name in names:
        show(str(environments.setup(name, index_url)))


def write_reports(folders: list[str], markdown: str | None) -> None:
    """The report of the results in each folder; or, with `markdown`, one table of all of them."""
    from fluxion.compare.export import write_csv
    from fluxion.compare.markdown import front_page, put
    from fluxion.compare.report import read_notes, read_results, write_report

    if not folders:
        raise typer.BadParameter("expected the folder of a comparison: fluxion compare report runs/compare-iris-1.")
    documents = [read_results(Path(folder) / RESULTS) for folder in folders]
    if markdown is not None:
        text = front_page(documents)
        if markdown == "-":
            print(text, end="")
        else:
            put(Path(markdown), text)
            show(markdown)
        return
    for place, document in zip(map(Path, folders), documents, strict=True):
        write_csv(document, place / TABLE)
        for file in write_report(document, place, read_notes(place / NOTES)):
            show(str(file))


def show_code(names: list[str], frameworks: tuple[str, ...], stream: Any) -> None:
    """The programs of each workload: two side by side where the terminal is wide enough."""
    from fluxion.compare import environments, workloads
    from fluxion.compare.protocol import programs_of

    programs = []
    for name in names:
        workload = workloads.find(name).fair
        for framework in frameworks or environments.adapters():
            programs += programs_of(workload, framework)
    if stream:
        write_json(stream, {"programs": programs})
        return
    columns = max(1, (width() + GAP) // (LEAST + GAP)) if sys.stdout.isatty() else 1
    room = (width() - GAP * (columns - 1)) // columns
    blocks = []
    for program in programs:
        title = f"{program['title']}, {program['mode']}: {program['workload']}, {program['lines']} lines"
        lines = [title, "-" * len(title), *program["text"].splitlines(), ""]
        blocks.append([piece for line in lines for piece in folded(line, room)])
    for start in range(0, len(blocks), columns):
        row = blocks[start : start + columns]
        for cells in itertools.zip_longest(*row, fillvalue=""):
            show((" " * GAP).join(cell.ljust(room) for cell in cells).rstrip() if columns > 1 else cells[0])


def folded(line: str, room: int) -> list[str]:
    """A line of a program in pieces of at most so many characters, the later ones indented further.

    >>> from fluxion.cli.compare import folded
    >>> folded("  total = first + second", 18)
    ['  total = first +', '      second']
    """
    pieces = []
    indent = " " * (len(line) - len(line.lstrip()) + 4)
    while len(line) > room and len(indent) < room // 2 + 4:
        cut = line.rfind(" ", len(indent), room + 1)
        cut = room if cut <= 0 else cut
        pieces.append(line[:cut].rstrip())
        line = indent + line[cut:].lstrip()
    return [*pieces, line]
