from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from training_material import make_system

from adaptive_models.hallucinator import Hallucinator
from adaptive_models.parts import PartError, load_part, load_parts, parts_of, save_part
from adaptive_models.training import checkpointing


def save_all(model: nn.Module, folder: Path) -> None:
    for name, module in parts_of(model).items():  # type: ignore[arg-type]
        save_part(module, folder / f"{name}.safetensors")


@pytest.mark.parametrize(
    ("crops", "max_skip", "audio", "parts"),
    [
        (0, None, False, {"rgb-112", "heads-s0"}),
        (3, None, True, {"rgb-112", "rgb-224", "spectrogram", "heads-s3"}),
        (2, 4, True, {"rgb-112", "rgb-224", "spectrogram", "hallucinator", "sampler-s2-t4"}),
    ],
)
def test_a_system_comes_back_from_its_parts(
    tmp_path: Path, crops: int, max_skip: int | None, audio: bool, parts: set[str]
) -> None:
    trained, fresh = make_system(crops, max_skip, audio), make_system(crops, max_skip, audio)
    for tensor in fresh.state_dict().values():
        tensor.add_(1)
    save_all(trained, tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {f"{part}.safetensors" for part in parts}
    load_parts(fresh, tmp_path)
    loaded = fresh.state_dict()
    assert all(torch.equal(loaded[name], own) for name, own in trained.state_dict().items())


def test_the_sampler_comes_with_the_heads_that_were_trained_with_it(tmp_path: Path) -> None:
    save_all(make_system(1, 2), tmp_path)
    names = load_file(tmp_path / "sampler-s1-t2.safetensors")
    assert {name.partition(".")[0] for name in names} == {"temporal_sampler", "classifier"}


def test_what_is_wrong_is_told_with_the_file(tmp_path: Path) -> None:
    system = make_system(1, None)
    with pytest.raises(PartError, match=r"rgb-112\.safetensors: no such file; the phase that trains it"):
        load_parts(system, tmp_path)
    save_all(make_system(2, None), tmp_path)
    (tmp_path / "heads-s2.safetensors").rename(tmp_path / "heads-s1.safetensors")
    with pytest.raises(
        PartError, match=r"heads-s1\.safetensors: checkpoint does not fit ThreeHeads: wrong shape: heads"
    ):
        load_parts(system, tmp_path)
    save_part({"weight": torch.zeros(1)}, tmp_path / "rgb-224.safetensors")
    with pytest.raises(PartError, match=r"rgb-224\.safetensors: .* missing: conv_in.weight, .* unexpected: weight"):
        load_parts(system, tmp_path)
    (tmp_path / "rgb-112.safetensors").write_bytes(b"cut off")
    with pytest.raises(PartError, match=r"rgb-112\.safetensors: not a safetensors file"):
        load_parts(system, tmp_path)
    (tmp_path / "text.pth").write_text("no checkpoint")
    with pytest.raises(PartError, match=r"text\.pth: not a checkpoint that can be read safely") as caught:
        load_part(system.low_rgb, tmp_path / "text.pth")
    assert str(caught.value).count("text.pth") == 1


def test_published_checkpoints_are_starting_points(tmp_path: Path) -> None:
    torch.manual_seed(0)
    published, own = Hallucinator(2, 4), Hallucinator(2, 4)
    names = {new: old for old, new in Hallucinator.REFERENCE_NAMES.items()}
    state = {}
    for name, tensor in published.state_dict().items():
        prefix = next(new for new in names if name.startswith(new))
        state[f"module.{names[prefix]}{name.removeprefix(prefix)}"] = tensor
    torch.save({"state_dict": state}, tmp_path / "published.model")
    load_part(own, tmp_path / "published.model")
    assert all(torch.equal(own.state_dict()[name], tensor) for name, tensor in published.state_dict().items())


def test_a_part_that_cannot_be_written_leaves_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "hallucinator.safetensors"
    save_part(Hallucinator(2, 4), path)
    before = path.read_bytes()

    def full_disk(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpointing.os, "fsync", full_disk)
    with pytest.raises(OSError, match="No space left"):
        save_part(Hallucinator(2, 8), path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]
