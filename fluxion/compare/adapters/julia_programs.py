"""What the adapters of Julia's frameworks share: a process of Julia that is asked by lines and answers by lines.

Arrays go through files: for each a line `Float32 28 28 1 128`, with the sizes as Julia counts them, and then its bytes.
Julia's first index is the fastest, so that an array of NumPy arrives with its axes in reverse.

The clock runs in Python: a call costs some 50 microseconds more than Julia itself needs, starting Julia and loading the
packages count as building the model, and the memory is that of Python alone.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from .. import parts as w
from .. import programs

PROGRAMS = ("julia",)
THREADS = {"count": 1}

SERVER = """

# ------------------------------------------------------------- the glue: commands in lines, arrays in files

function read_arrays(path)
    open(path) do file
        found = Any[]
        while !eof(file)
            kind, sizes... = split(readline(file))
            T = kind == "Float32" ? Float32 : Int32
            push!(found, read!(file, Array{T}(undef, parse.(Int, sizes)...)))
        end
        found
    end
end

function pairs_of(path)
    arrays = read_arrays(path)
    [(inputs(arrays[i]), labels(arrays[i + 1])) for i in 1:2:length(arrays)]
end

const prepared = Any[]

function answer(command, arguments)
    if command == "load"
        load!(read_arrays(arguments[1]))
    elseif command == "prepare"
        push!(prepared, pairs_of(arguments[1]))
        return [length(prepared)]
    elseif command == "release"
        prepared[parse(Int, arguments[1])] = nothing
    elseif command == "losses" || command == "train"
        values = train!(prepared[parse(Int, arguments[1])])
        return command == "losses" ? values : []
    elseif command == "fit"
        fit!(only(pairs_of(arguments[1]))..., parse(Int, arguments[2]))
    elseif command == "evaluate"
        return evaluate(pairs_of(arguments[1]))
    elseif command == "forward"
        x = inputs(only(read_arrays(arguments[1])))
        write(arguments[2], Array{Float32}(model(x)))
    elseif command == "restart"
        restart!()
    end
    return []
end

for line in eachline(stdin)
    command, arguments... = split(line)
    values = answer(command, arguments)
    println(stdout, join(["ok"; string.(values)], " "))
    flush(stdout)
end
"""


def versions(framework: str) -> dict[str, str]:
    """Asked of Julia itself, with the packages loaded."""
    code = f'using {framework}; print(VERSION, " ", pkgversion({framework}))'
    found = subprocess.run(["julia", "-e", code], capture_output=True, text=True)
    if found.returncode:
        lines = found.stderr.strip().splitlines() or ["ended without a word"]
        raise RuntimeError(f"julia has no {framework}: {lines[0]}")
    julia, package = found.stdout.split()
    return {"julia": julia, f"{framework}.jl": package}


def threads(count: int) -> None:
    THREADS["count"] = count


class Prepared:
    """Batches that lie in the process of Julia, for as long as this object is kept."""

    def __init__(self, session: Session, number: int) -> None:
        self.session, self.number = session, number

    def __del__(self) -> None:
        if not self.session.errors.closed:
            self.session.ask("release", self.number)


class Session:
    """The methods of an adapter's session, by way of a process of Julia.

    An adapter's own class says what program and glue are, and in which order and layout its weights go.
    """

    def __init__(self, workload: w.Workload, weights: dict[str, np.ndarray], mode: str) -> None:
        self.workload = workload
        self.folder = tempfile.TemporaryDirectory()
        file = Path(self.folder.name) / "program.jl"
        file.write_text(self.text(mode))
        command = ["julia", "--startup-file=no", f"--threads={THREADS['count']}", str(file)]
        pipe = subprocess.PIPE
        count = str(THREADS["count"])
        environment = {**os.environ, "OPENBLAS_NUM_THREADS": count, "JULIA_NUM_THREADS": count}
        self.errors = (Path(self.folder.name) / "errors.txt").open("w+")
        self.process = subprocess.Popen(
            command, stdin=pipe, stdout=pipe, stderr=self.errors, text=True, env=environment
        )
        self.number = 0
        self.ask("load", self.file(self.arrays(weights)))

    def text(self, mode: str) -> str:
        """The program and the glue after it."""
        raise NotImplementedError

    def arrays(self, weights: dict[str, np.ndarray]) -> list[np.ndarray]:
        """The weights with their axes in the reverse of Julia's."""
        raise NotImplementedError

    def file(self, arrays: Iterable[np.ndarray]) -> str:
        self.number += 1
        path = Path(self.folder.name) / f"{self.number}.bin"
        with path.open("wb") as file:
            for array in arrays:
                kind = "Float32" if array.dtype.kind == "f" else "Int32"
                file.write(f"{kind} {' '.join(map(str, array.shape[::-1]))}\n".encode())
                file.write(np.ascontiguousarray(array, np.float32 if kind == "Float32" else np.int32).tobytes())
        return str(path)

    def ask(self, *words: Any) -> list[float]:
        """Say a line to Julia; the numbers of its answer."""
        assert self.process.stdin and self.process.stdout
        with contextlib.suppress(BrokenPipeError):  # it has ended; what it said last is told below
            print(*words, file=self.process.stdin, flush=True)
        for line in self.process.stdout:
            if line.startswith("ok"):
                return [float(word) for word in line.split()[1:]]
        self.errors.seek(0)
        said = [line for line in self.errors.read().splitlines() if line.strip()]
        self.close()
        raise RuntimeError(f"julia ended: {said[0] if said else 'without a word'}")

    def turned(self, x: np.ndarray) -> np.ndarray:
        """Images are (width, height, channels, batch) in Julia."""
        return x.transpose(0, 3, 1, 2) if x.ndim == 4 else x

    def prepare(self, batches: list[Any]) -> Prepared:
        file = self.file(array for x, y in batches for array in (self.turned(x), y))
        (number,) = self.ask("prepare", file)
        Path(file).unlink()
        return Prepared(self, int(number))

    def losses(self, prepared: Prepared) -> np.ndarray:
        return np.array(self.ask("losses", prepared.number))

    def train(self, prepared: Prepared) -> None:
        self.ask("train", prepared.number)

    def epochs(self, x: np.ndarray, y: np.ndarray, count: int) -> None:
        self.ask("fit", self.kept("epochs", x, y), count)

    def evaluate(self, x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
        loss, accuracy = self.ask("evaluate", self.kept("evaluate", x, y))
        return loss, accuracy

    def kept(self, name: str, x: np.ndarray, y: np.ndarray) -> str:
        """A file with these arrays; the same one as long as they are asked for again, so that it is not timed."""
        known = self.__dict__.setdefault("files", {})
        key = (name, x.__array_interface__["data"], x.shape)
        if key not in known:
            batches = programs.thousands(x, y) if name == "evaluate" else [(x, y)]
            known[key] = self.file(array for x, y in batches for array in (self.turned(x), y))
        return known[key]

    def inputs(self, x: np.ndarray) -> Any:
        return x

    def forward(self, x: Any) -> Any:
        out = Path(self.folder.name) / "outputs.bin"
        self.ask("forward", self.file([self.turned(x)]), out)
        steps = x.shape[1:] if programs.is_text(self.workload) else ()
        return np.fromfile(out, np.float32).reshape(len(x), *steps, self.workload.classes)

    def restart(self) -> None:
        self.ask("restart")

    def close(self) -> None:
        """End Julia and remove the files."""
        self.process.kill()
        self.process.communicate()
        self.errors.close()
        self.folder.cleanup()

    def __del__(self) -> None:
        if hasattr(self, "process") and not self.errors.closed:
            self.close()
