"""The measurements made so far, in a file that a second call continues."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fluxion.errors import FileFormatError
from fluxion.files import atomic_write


class Results:
    """Measurements, each a dict with the fields `names` that say which it is, and the `code` it is of.

    The file holds a list of them, or what `wrap` makes of the list: an object with it under "measurements".

    Those of other code than `fingerprint(measurement)` says today are left out: they are not what would be measured.

    Errors: `FileFormatError` for a file that holds something else; it is not overwritten.
    """

    def __init__(
        self,
        file: Path,
        names: tuple[str, ...],
        fingerprint: Callable[[dict[str, Any]], str],
        fresh: bool = False,
        wrap: Callable[[list[dict[str, Any]]], Any] = lambda measurements: measurements,
    ) -> None:
        self.file, self.names, self.fingerprint, self.wrap = file, names, fingerprint, wrap
        known = [] if fresh or not file.exists() else self._read()
        self.measurements = [m for m in known if m["code"] == fingerprint(m)]

    def _read(self) -> list[dict[str, Any]]:
        try:
            known = json.loads(self.file.read_bytes())
        except (ValueError, RecursionError) as error:
            known = error
        if isinstance(known, dict):
            known = known.get("measurements")
        fields = {*self.names, "code"}
        if not isinstance(known, list) or not all(isinstance(m, dict) and fields <= m.keys() for m in known):
            why = f": {known}" if isinstance(known, Exception) else ""
            raise FileFormatError(
                f"{self.file}: expected a list of measurements{why}. Move it away, or write to another folder."
            )
        return known

    def key(self, measurement: dict[str, Any]) -> tuple[Any, ...]:
        return tuple(measurement[name] for name in self.names)

    def done(self) -> set[tuple[Any, ...]]:
        """The keys of measurements that need not be repeated: those that failed do."""
        return {self.key(m) for m in self.measurements if "error" not in m}

    def add(self, measurement: dict[str, Any]) -> None:
        """Keep a measurement at once, in the place of an earlier one of the same key."""
        key = self.key(measurement)
        self.measurements = [m for m in self.measurements if self.key(m) != key]
        self.measurements.append({**measurement, "code": self.fingerprint(measurement)})
        self.write()

    def write(self) -> None:
        """Write the file anew, wholly or not at all; numbers that JSON does not have (NaN, infinity) become null."""
        self.file.parent.mkdir(parents=True, exist_ok=True)
        text = json.dumps(finite(self.wrap(self.measurements)), indent=0, allow_nan=False)
        atomic_write(self.file, lambda file: file.write(text.encode()))


def finite(value: Any) -> Any:
    """The same with None for every number that is none."""
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
