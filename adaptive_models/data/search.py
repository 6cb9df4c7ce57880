"""Finding the files of a data set under a folder, in whatever folders they lie."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from adaptive_models.data.datasets import DatasetError
from adaptive_models.data.images import is_frame

DEPTH = 6
"""Folders below the root that are looked into."""
VIDEOS = (".mp4", ".avi", ".mkv", ".mov", ".webm", ".m4v", ".mpg", ".mpeg")
SOUNDS = (".wav", ".flac", ".m4a", ".mp3")
FLOW = re.compile(r"^(?!.*rgb).*flow", re.IGNORECASE)
"""Folders of optical flow, but not `frames_rgb_flow`, which the official archives are in."""
NUMBERED = re.compile(r"\d\.\w+$")


@dataclass
class Found:
    """What lies under a folder: by file name without suffix, folders of images, archives, videos and sounds; by whole
    name, all other files. Of several with one name, the one nearest to the root.
    """

    folders: dict[str, Path] = field(default_factory=dict)
    archives: dict[str, Path] = field(default_factory=dict)
    videos: dict[str, Path] = field(default_factory=dict)
    sounds: dict[str, Path] = field(default_factory=dict)
    others: dict[str, Path] = field(default_factory=dict)

    def add(self, path: Path) -> None:
        """Note a file by its kind."""
        suffix = path.suffix.lower()
        for kind, suffixes in ((self.archives, (".tar",)), (self.videos, VIDEOS), (self.sounds, SOUNDS)):
            if suffix in suffixes:
                kind.setdefault(path.stem, path)
                return
        self.others.setdefault(path.name, path)

    def images(self, name: str) -> Path | None:
        """The folder or else the archive of images of this name."""
        return self.folders.get(name) or self.archives.get(name)

    def file(self, root: Path, name: str) -> Path:
        """A label file; DatasetError if it is missing."""
        if name not in self.others:
            raise DatasetError(f"{root}: {name} is missing, there and in the folders below")
        return self.others[name]


def search(root: Path) -> Found:
    """Find all that may belong to a data set.

    Folders of optical flow, hidden files, and what cannot be listed are passed over. A folder with numbered images is
    not read further than to the first of them, since it may hold 100 000.
    """
    found = Found()
    level = [root]
    for _ in range(DEPTH + 1):
        below: list[Path] = []
        for folder in level:
            if folder != root and _holds_frames(folder):
                found.folders.setdefault(folder.name, folder)
                continue
            for entry in sorted(_entries(folder), key=lambda entry: entry.name):
                if not entry.is_dir():
                    found.add(Path(entry.path))
                elif not FLOW.search(entry.name):
                    below.append(Path(entry.path))
        level = below
    return found


def _entries(folder: Path) -> Iterator[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            yield from (entry for entry in entries if not entry.name.startswith("."))
    except OSError:
        return


def _holds_frames(folder: Path) -> bool:
    """Whether an image with a number in its name comes before any folder, as the folder is listed."""
    for entry in _entries(folder):
        if is_frame(entry.name) and NUMBERED.search(entry.name):
            return True
        if entry.is_dir():
            return False
    return False
