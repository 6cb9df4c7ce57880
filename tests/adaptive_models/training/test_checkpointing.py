from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from adaptive_models.checkpoints import CheckpointError
from adaptive_models.training.checkpointing import (
    Checkpoint,
    load_checkpoint,
    refuse_changes,
    save_checkpoint,
    write_atomically,
)

CHECKPOINT = Checkpoint(
    phase="heads-s3",
    settings={"data": {"name": "mini", "limit": None}, "theta": [0.3, 0.3, 0.4]},
    epochs=1,
    module={"weight": torch.arange(2000.0)},
    optimizer={"state": {0: {"step": torch.tensor(3.0)}}, "param_groups": [{"lr": 0.1, "betas": (0.9, 0.999)}]},
    scheduler={"last_epoch": 1},
    scaler={},
    history=[{"epoch": 1, "training": {"loss": 0.5}}],
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "new folder" / "checkpoint.pt"
    save_checkpoint(CHECKPOINT, path)
    return path


def test_what_was_saved_is_loaded(path: Path) -> None:
    loaded = load_checkpoint(path)
    assert torch.equal(loaded.module["weight"], CHECKPOINT.module["weight"])
    assert replace(loaded, module={}) == replace(CHECKPOINT, module={})
    assert [file.name for file in path.parent.iterdir()] == ["checkpoint.pt"]


@pytest.mark.parametrize("share", [0, 0.01, 0.5, 0.9, 0.999])
def test_a_file_that_is_cut_off_is_refused_by_name(path: Path, share: float) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(CheckpointError, match=r"^[^\n]*checkpoint.pt: a checkpoint that is cut off or damaged[^\n]*$"):
        load_checkpoint(path)


def test_a_file_with_a_changed_byte_is_refused(path: Path) -> None:
    content = bytearray(path.read_bytes())
    middle = content.index(torch.arange(1000.0, 1004.0).numpy().tobytes())
    content[middle] ^= 1
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match="damaged"):
        load_checkpoint(path)


class Code:
    """Touches a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


def test_code_in_a_checkpoint_does_not_run(path: Path, tmp_path: Path) -> None:
    entries = {**vars(CHECKPOINT), "scheduler": Code(tmp_path / "ran")}
    torch.save(entries, path)
    torch.load(path, weights_only=False)
    assert (tmp_path / "ran").exists()
    (tmp_path / "ran").unlink()
    with pytest.raises(CheckpointError, match="damaged"):
        load_checkpoint(path)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("entries", [{"weight": torch.zeros(1)}, [1, 2]])
def test_a_file_of_something_else_is_refused(path: Path, entries: Any) -> None:
    torch.save(entries, path)
    with pytest.raises(CheckpointError, match="not a checkpoint of training"):
        load_checkpoint(path)


def test_a_write_that_fails_leaves_the_file_that_was_there_and_nothing_else(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = path.read_bytes()

    def fail(_: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises(OSError, match="Input/output error"):
        write_atomically(path, b"new")
    assert path.read_bytes() == before
    assert [file.name for file in path.parent.iterdir()] == ["checkpoint.pt"]


def test_changes_are_named_whatever_their_depth() -> None:
    before = {"data": {"name": "mini", "limit": 40}, "seed": 0, "old": 1}
    refuse_changes(Path("x.pt"), before, {**before})
    with pytest.raises(CheckpointError) as caught:
        refuse_changes(Path("x.pt"), before, {"data": {"name": "mini", "limit": None}, "seed": 0, "new": [1]})
    assert str(caught.value).startswith(
        "x.pt was trained with other settings: data.limit was 40, is None; "
        "new was not set, is [1]; old was 1, is not set: "
    )
