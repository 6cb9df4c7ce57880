"""Writing files whole or not at all."""

from __future__ import annotations

import gc
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from pydantic import TypeAdapter, ValidationError

from bench.errors import RunError

T = TypeVar("T")


def write_file(path: Path, write: Callable[[Path], None]) -> None:
    """Let `write` fill a temporary file beside `path`, then put it in place.

    Raises:
        RunError: the folder cannot be made or written to, or the disk is full; a file that was there is unharmed.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}-", suffix=path.suffix)
        os.close(handle)
    except OSError as error:
        raise RunError(f"cannot write {path}: {error.strerror}") from error
    temporary = Path(name)
    try:
        write(temporary)
        temporary.chmod(0o644)
        temporary.replace(path)
    except OSError as error:
        raise RunError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a text file in UTF-8, whole or not at all.

    Raises:
        RunError: as `write_file`.
    """

    def write(temporary: Path) -> None:
        temporary.write_text(text, encoding="utf-8")

    write_file(path, write)


def write_forms(folder: Path, name: str, texts: Mapping[str, str]) -> list[Path]:
    """Write the same in several forms, as name.csv and name.md of the texts of "csv" and "md"; returns the files.

    Raises:
        RunError: as `write_text`.
    """
    files = {folder / f"{name}.{suffix}": text for suffix, text in texts.items()}
    for path, text in files.items():
        write_text(path, text)
    return [*files]


def read_json(path: Path, adapter: TypeAdapter[T], schema: int, missing: str) -> T:
    """Read a JSON file, and validate it.

    Args:
        path: the file.
        adapter: what it must hold, with its version in "schema".
        schema: the version that is read.
        missing: what to say if there is no such file.

    Raises:
        RunError: a file that is not there, damaged, or of another schema; it names the first thing that is wrong.
    """
    try:
        return adapter.validate_json(path.read_bytes())
    except FileNotFoundError:
        raise RunError(f"{path}: {missing}") from None
    except OSError as error:
        raise RunError(f"{path}: cannot be read ({error.strerror})") from None
    except ValidationError as error:
        first = error.errors()[0]
        if first["loc"] == ("schema",) and isinstance(first["input"], int):
            raise RunError(f"{path}: schema {first['input']}, this version reads {schema}") from None
        where = ".".join(str(part) for part in first["loc"]) or "the file"
        raise RunError(f"{path}: damaged ({where}: {first['msg'].removeprefix('Value error, ')})") from None


def read_each(paths: Iterable[Path], read: Callable[[Path], T], on_problem: Callable[[str], None]) -> list[T]:
    """What `read` makes of each file, in the order of their names; a damaged one costs itself alone.

    Args:
        paths: the files.
        read: may raise RunError.
        on_problem: called with what is wrong with a file that cannot be read.
    """
    found = []
    with _uncollected():
        for path in sorted(paths):
            try:
                found.append(read(path))
            except RunError as error:
                on_problem(str(error))
    return found


@contextmanager
def _uncollected() -> Iterator[None]:
    """Without the garbage collector, which would go through all that was read again and again: half of the time."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
