"""Still images in a folder or a tar archive, found by name and read one by one."""

from __future__ import annotations

import io
import os
import re
import tarfile
from functools import cache
from pathlib import Path
from typing import Protocol

import av
import numpy as np

from adaptive_models.data.media import ClipError

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp")
FLOW = re.compile(r"flow_|[uvxy]_\d", re.IGNORECASE)
"""How names of optical flow begin that lies beside the frames."""
JPEG_START, JPEG_END = b"\xff\xd8", b"\xff\xd9"


class Images(Protocol):
    """Images by name."""

    path: Path

    def names(self) -> list[str]:
        """All of them but optical flow, in the order of the numbers in their names."""
        ...

    def size(self, name: str) -> int:
        """Bytes of one; 0 if it is missing."""
        ...

    def read(self, name: str) -> bytes:
        """The encoded image; OSError if it cannot be read."""
        ...

    def close(self) -> None:
        """Close what is open."""
        ...


class ImageFolder:
    """The images in a folder."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def names(self) -> list[str]:
        """All of them but optical flow, in the order of the numbers in their names."""
        return sorted(filter(is_frame, os.listdir(self.path)), key=_natural)

    def size(self, name: str) -> int:
        """Bytes of one; 0 if it is missing."""
        try:
            return (self.path / name).stat().st_size
        except OSError:
            return 0

    def read(self, name: str) -> bytes:
        """The encoded image; OSError if it cannot be read."""
        return (self.path / name).read_bytes()

    def close(self) -> None:
        """Nothing is open."""


class ImageArchive:
    """The images in a tar archive that is not compressed, as EPIC-KITCHENS is handed out.

    The archive is searched once per process; what is kept of it is some 40 bytes an image.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        status = path.stat()
        self._names, self._offsets, self._sizes = _members(path, status.st_size, status.st_mtime_ns)
        self._file = path.open("rb")

    def names(self) -> list[str]:
        """All of them but optical flow, in the order of the numbers in their names."""
        return sorted((name.decode() for name in self._names.tolist()), key=_natural)

    def size(self, name: str) -> int:
        """Bytes of one; 0 if it is missing."""
        place = self._place(name)
        return 0 if place is None else int(self._sizes[place])

    def read(self, name: str) -> bytes:
        """The encoded image; OSError if it cannot be read."""
        place = self._place(name)
        if place is None:
            raise FileNotFoundError(name)
        self._file.seek(self._offsets[place])
        return self._file.read(self._sizes[place])

    def close(self) -> None:
        """Close the archive."""
        self._file.close()

    def _place(self, name: str) -> int | None:
        place = int(np.searchsorted(self._names, name.encode()))
        return place if place < len(self._names) and self._names[place] == name.encode() else None


@cache
def _members(path: Path, size: int, changed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Names, offsets and sizes of an archive's images, by name; of a truncated archive those that are whole."""
    found = []
    try:
        with tarfile.open(path, "r:") as archive:
            while (member := archive.next()) is not None:
                name = os.path.basename(member.name)
                if member.isfile() and is_frame(name) and member.offset_data + member.size <= size:
                    found.append((name.encode(), member.offset_data, member.size))
                archive.members.clear()  # type: ignore[attr-defined]  # else it keeps a kilobyte for each
    except tarfile.TarError as error:
        if not found:
            raise ClipError(f"{path}: cannot be read as a tar archive ({error})") from None
    names, offsets, sizes = zip(*sorted(found), strict=True) if found else ((), (), ())
    return np.array(names, dtype=bytes), np.array(offsets, dtype=np.int64), np.array(sizes, dtype=np.int32)


def open_images(path: Path) -> ImageFolder | ImageArchive:
    """The images of a folder or a tar archive.

    Raises:
        ClipError: there is neither, or the archive cannot be read.
    """
    if path.is_dir():
        return ImageFolder(path)
    if not path.is_file():
        raise ClipError(f"{path}: no such folder or archive")
    return ImageArchive(path)


def is_frame(name: str) -> bool:
    """Whether a name is that of an image that is not optical flow."""
    return name.lower().endswith(SUFFIXES) and not FLOW.match(name)


def decode_image(data: bytes) -> np.ndarray:
    """Pixels of an encoded image: (H, W, 3) uint8.

    Raises:
        ValueError: if it is no image, or a JPEG that is cut short, of which decoders make grey areas.
    """
    if data.startswith(JPEG_START) and not data.rstrip(b"\0").endswith(JPEG_END):
        raise ValueError("the JPEG is cut short")
    try:
        with av.open(io.BytesIO(data)) as container:
            for frame in container.decode(video=0):
                return frame.to_ndarray(format="rgb24")
    except (av.FFmpegError, IndexError) as error:
        raise ValueError(f"not an image ({error})") from None
    raise ValueError("not an image")


def _natural(name: str) -> list[tuple[int, str]]:
    """A key that sorts numbers in names as numbers."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name)]
