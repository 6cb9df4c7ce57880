"""What the guards of one pytest run have to say at its end."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

FOLDER = "efficiency"
"""Of baselines, beside the test file."""


@dataclass
class Report:
    """Filled while the tests run.

    Attributes:
        updates: baselines that were written, and how they differ from before, a line each.
        notes: what was not judged, and why, a line each.
        used: baselines that tests asked for.
        tests: guards that were collected, by the folder of their file; also folders with other tests only.
        finished: guards that came to their verdict, passed or failed.
    """

    updates: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    used: set[Path] = field(default_factory=set)
    tests: dict[Path, set[str]] = field(default_factory=dict)
    finished: set[str] = field(default_factory=set)

    def orphans(self, asked_for: Iterable[Path]) -> list[Path]:
        """Baselines that no test used, of folders that were run as a whole.

        Args:
            asked_for: files and folders that pytest was told to run.
        """
        whole = [folder for folder, tests in self.tests.items() if tests <= self.finished]
        whole = [folder for folder in whole if any(folder.is_relative_to(path) for path in asked_for)]
        return sorted(path for folder in whole for path in (folder / FOLDER).glob("*.json") if path not in self.used)
