"""Writes reference.md: every public name with its signature and the first sentence of its docstring.

The grouping is that of `fluxion/__init__.py`: its comments are the headings.
"""

import inspect
import pathlib
import re

import fluxion as fx

HERE = pathlib.Path(__file__).parent


def groups() -> list[tuple[str, list[str]]]:
    """The catalogue's headings, each with its names."""
    found: list[tuple[str, list[str]]] = []
    source = pathlib.Path(fx.__file__).read_text().split("__all__ =")[0]
    for line in map(str.strip, source.splitlines()):
        if line.startswith("# "):
            found.append((line[2:], []))
        elif found:
            names = re.sub(r"^from [\w.]+ import|[(),#]", " ", line)
            found[-1][1].extend(name for name in names.split() if name in fx.__all__)
    return found


def call(name: str) -> str:
    """The name with its parameters, without annotations: `fx.softmax(x, *, axis=-1)`."""
    value = getattr(fx, name)
    if inspect.ismodule(value) or (inspect.isclass(value) and issubclass(value, Exception)):
        return f"fx.{name}"
    try:
        parameters = inspect.signature(value).parameters.values()
    except (TypeError, ValueError):
        return f"fx.{name}"
    parts: list[str] = []
    for p in parameters:
        if p.kind is p.KEYWORD_ONLY and "*" not in parts and not any(part.startswith("*") for part in parts):
            parts.append("*")
        label = {p.VAR_POSITIONAL: "*", p.VAR_KEYWORD: "**"}.get(p.kind, "") + p.name
        parts.append(label if p.default is p.empty else f"{label}={default(p.default)}")
    return f"fx.{name}({', '.join(parts)})"


def default(value: object) -> str:
    return getattr(value, "__name__", None) or repr(value)


def text() -> str:
    lines = [
        "# Reference",
        "",
        "Every public name, by family. `help(fx.name)` gives the whole text: formula, shapes, arguments, errors,",
        "an example.",
        "This page is written from the docstrings by `make reference`.",
        "",
    ]
    for heading, names in groups():
        lines += [f"## {heading}", ""]
        for name in sorted(names, key=str.lower):
            value = getattr(fx, name)
            if name.startswith("__"):
                continue
            summary = (inspect.getdoc(value) or "").split("\n\n")[0].replace("\n", " ")
            lines.append(f"- **`{call(name)}`** {summary}")
        lines.append("")
    return "\n".join(lines)


if __name__ == "__main__":
    (HERE / "reference.md").write_text(text())
