"""The measurements made so far, in a file that a second call continues."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fluxion.errors import FileFormatError
from fluxion.files import atomic_write


class Results:
    """A list of measurements, each a dict with the fields `names` that say which it is, and the `code` it is of.

    Those of other code than `fingerprint(measurement)` says today are left out: they are not what would be measured.

    Errors: `FileFormatError` for a file that holds something else; it is not overwritten.
    """

    def __init__(
        self, file: Path, names: tuple[str, ...], fingerprint: Callable[[dict[str, Any]], str], fresh: bool = False
    ) -> None:
        self.file, self.names, self.fingerprint = file, names, fingerprint
        known = [] if fresh or not file.exists() else self._read()
        self.measurements = [m for m in known if m["code"] == fingerprint(m)]

    def _read(self) -> list[dict[str, Any]]:
        try:
            known = json.loads(self.file.read_bytes())
        except (ValueError, RecursionError) as error:
            known = error
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
        self.file.parent.mkdir(parents=True, exist_ok=True)
        text = json.dumps(self.measurements, indent=0)
        atomic_write(self.file, lambda file: file.write(text.encode()))
