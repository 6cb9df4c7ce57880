"""`foveabench data`: data sets of our own as files."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated, Optional

import typer

from bench.errors import UsageError


class DataSet(str, Enum):
    """What can be written."""

    mini = "mini"


class FolderForm(str, Enum):
    """As which public data set it lies on disk."""

    epic = "epic"
    epic_frames = "epic-frames"
    ucf101 = "ucf101"


def command(
    name: Annotated[DataSet, typer.Argument(help="Which data set.")],
    out: Annotated[Path, typer.Option("--out", help="Folder to make.")],
    form: Annotated[FolderForm, typer.Option("--form", help="Folders and label files of which.")] = FolderForm.epic,
    clips: Annotated[Optional[int], typer.Option("--clips", min=1, help="Of each split; all if not given.")] = None,  # noqa: UP045
    seed: Annotated[int, typer.Option("--seed", min=0, help="Another seed is another data set.")] = 0,
) -> None:
    """Write the built-in data set as encoded video with sound, as EPIC-KITCHENS-55 or UCF-101 lie on disk.

    Example: foveabench data mini --out mini --form ucf101 --clips 40
    """
    from adaptive_models.data.mini_files import files_to_write, write_mini
    from bench.display import progress

    with progress(files_to_write(form.value, clips)) as advance:
        try:
            write_mini(out, form.value, clips, seed, advance)
        except ValueError as error:
            raise UsageError(str(error)) from None
    print(out)
