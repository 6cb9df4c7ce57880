"""Other people's models: counted from their configuration, held against what is published of them."""

from __future__ import annotations

import socket
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NoReturn

import pytest
import torch
from torch import Tensor, nn

from bench.cli import main
from bench.errors import RunError, UsageError
from bench.guards.baselines import path_of
from bench.guards.memory import peak_memory
from bench.measuring.subject import Subject, footage_for
from bench.systems.builtin import registry, resized
from bench.systems.costs import count_system
from bench.systems.libraries import loading
from bench.systems.libraries.clips import ChannelsFirst, TwoPathways
from bench.systems.libraries.find import LIBRARIES
from bench.systems.libraries.loading import load
from bench.systems.registry import System

GIGA_MACS = {
    # The README of VideoMAE: 16 x 224 x 224, one view
    "transformers:videomae-small": 57,
    "transformers:videomae-base": 180,
    "transformers:videomae-large": 597,
    "transformers:videomae-huge": 1192,
    # The paper of TimeSformer: 0.59 TFLOPs for three views of 8 x 224 x 224
    "transformers:timesformer-base": 590 / 3,
    # The paper of ViViT: the unfactorised B/16x2 on 32 x 224 x 224
    "transformers:vivit-b-16x2": 455.2,
    # The paper of X3D, at the size of training
    "pytorchvideo:x3d_xs": 0.60,
    "pytorchvideo:x3d_s": 1.96,
    "pytorchvideo:x3d_m": 4.73,
    "pytorchvideo:x3d_l": 18.37,
    # The paper of MViT
    "pytorchvideo:mvit_base_16x4": 70.5,
    "pytorchvideo:mvit_base_32x3": 170,
    # The paper of SlowFast, R50 8x8: 65.7 at 256 pixels, so at 224 by the areas of the images
    "pytorchvideo:slowfast_r50": 65.7 * (224 / 256) ** 2,
}
"""Multiply-accumulates of a clip in 1e9 that are published, which the papers call FLOPs."""

TORCHVISION = ["mc3_18", "mvit_v1_b", "mvit_v2_s", "r2plus1d_18", "r3d_18", "s3d", "swin3d_b", "swin3d_s", "swin3d_t"]
SMALL = ["timm:mobilenetv3_small_050", "pytorchvideo:x3d_xs", "torchvision:s3d", "transformers:videomae-small"]
"""A cheap model of each library."""


@pytest.fixture(autouse=True)
def _nothing_is_downloaded(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> NoReturn:
        raise AssertionError("a connection was asked for")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


def find(id: str) -> System:
    library = id.partition(":")[0]
    if find_spec(library) is None:
        pytest.skip(f"{library} is not installed")
    return registry().find(id)


@pytest.mark.parametrize("id", GIGA_MACS)
def test_counts_are_those_that_are_published(id: str) -> None:
    profile = count_system(find(id)).profile
    assert profile.macs / 1e9 == pytest.approx(GIGA_MACS[id], rel=0.01)
    assert profile.unknown == []
    assert profile.device == "meta"


@pytest.mark.parametrize("name", TORCHVISION)
def test_torchvision_publishes_what_we_count(name: str) -> None:
    profile = count_system(find(f"torchvision:{name}")).profile
    published = load("torchvision", "torchvision.models").get_model_weights(name).DEFAULT.meta
    assert round(profile.macs / 1e9, 3) == published["_ops"]
    assert profile.params == published["num_params"]


@pytest.mark.parametrize(
    ("name", "same"), [("resnet50", "resnet50"), ("mobilenetv2_100", "mobilenet_v2"), ("vgg16", "vgg16")]
)
def test_networks_of_timm_cost_what_torchvision_publishes_of_the_same(name: str, same: str) -> None:
    system = find(f"timm:{name}")
    published = load("torchvision", "torchvision.models").get_model_weights(same).DEFAULT.meta
    assert system.inputs == {"rgb": (3, 224, 224)}
    profile = count_system(system).profile
    assert profile.macs / 1e9 == pytest.approx(published["_ops"], abs=0.001)
    assert profile.params == published["num_params"]


def test_a_model_of_v_jepa_2_counts_as_its_layers_do() -> None:
    cost = count_system(find("transformers:vjepa2-vitl-fpc16-256"))
    tokens, width, layers = 8 * 16 * 16, 1024, 24
    patches = tokens * width * 3 * 2 * 16 * 16
    encoder = layers * (12 * tokens * width**2 + 2 * tokens**2 * width)
    pooler = cost.profile.macs - patches - encoder  # three layers of its own and a query that attends once
    own = 3 * (12 * tokens * width**2 + 2 * tokens**2 * width)
    assert own < pooler < 1.05 * own
    assert cost.per_frame == cost.profile.flops / 16


@pytest.mark.parametrize("id", SMALL)
def test_a_model_runs_on_a_real_clip(shared: Path, id: str) -> None:
    system = find(id)
    footage = footage_for(system, str(shared / "clips" / "clip_silent.mp4"), system.frames)
    subject = Subject(system, footage, "fixed", torch.device("cpu"), "float32")
    said: list[Any] = []
    subject.model.register_forward_hook(lambda module, inputs, output: said.append(output))
    assert next(subject.stream()).decision == "full"
    (logits,) = said
    logits = getattr(logits, "logits", logits)
    assert logits.ndim == 2
    assert bool(logits.isfinite().all())
    assert subject.frames == system.frames


def test_frames_of_the_slow_pathway_are_those_of_the_published_sampling() -> None:
    seen: list[list[Tensor]] = []

    class Net(nn.Module):
        def forward(self, pathways: list[Tensor]) -> None:
            seen.append(pathways)

    for frames in (32, 64):
        clip = torch.arange(frames).float().view(1, frames, 1, 1, 1).expand(2, -1, 3, 4, 4)
        TwoPathways(Net())(clip)
        slow, fast = seen.pop()
        assert fast.shape == (2, 3, frames, 4, 4)
        assert slow.shape == (2, 3, frames // 4, 4, 4)
        assert slow[1, 2, :, 3, 3].tolist() == torch.linspace(0, frames - 1, frames // 4).long().tolist()


def test_a_clip_is_turned_for_networks_with_channels_first() -> None:
    clip = torch.randn(2, 5, 3, 4, 4)
    assert torch.equal(ChannelsFirst(nn.Identity())(clip), torch.stack([clip[:, :, c] for c in range(3)], dim=1))


def test_a_model_is_guarded_by_its_id(tmp_path: Path) -> None:
    id = find(SMALL[0]).id
    assert path_of(tmp_path, id) == tmp_path / "timm-mobilenetv3_small_050.json"
    assert peak_memory([id]) > 0  # in a fresh process, which finds it by that id


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_library_that_is_not_installed_is_named_with_its_extra(
    library: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(loading, "find_spec", lambda name: None)
    (id,) = (id for id in SMALL if id.startswith(library))
    with pytest.raises(SystemExit) as exit_:
        main(["flops", id])
    assert exit_.value.code == 2
    assert capsys.readouterr().err == (f"foveabench: {library} is not installed: pip install 'foveabench[{library}]'\n")


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_library_that_cannot_be_imported_says_why(
    library: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == library]:
        monkeypatch.delitem(sys.modules, name)
    (tmp_path / f"{library}.py").write_text("raise ImportError('no such symbol\\nsecond line')")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(RunError) as error:
        load(library, library)
    assert str(error.value) == f"{library} is installed but cannot be imported: ImportError: no such symbol"


@pytest.mark.parametrize(
    ("id", "message"),
    [
        ("timm:resnet5O", r"no model 'resnet5O' in timm: did you mean resnet50, "),
        ("torchvision:r3d18", r"no model 'r3d18' in torchvision: did you mean r3d_18, "),
        ("torchvision:", r"no model '' in torchvision: did you mean mc3_18, "),
        ("pytorchvideo:slowfast_r50_detection", r"no model 'slowfast_r50_detection' .* did you mean slowfast_r50, "),
        ("transformers:videomae", r"no model 'videomae' in transformers: did you mean videomae-"),
    ],
)
def test_a_model_that_there_is_not(id: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        find(id)


def test_other_ids_have_no_colon() -> None:
    with pytest.raises(ValueError, match="system id 'mine:net'"):
        System("mine:net", nn.Identity, {"x": (3,)})
    with pytest.raises(UsageError, match="no system or backbone 'mine:net'"):
        registry().find("mine:net")


def test_sizes_of_a_librarys_models_are_theirs() -> None:
    with pytest.raises(UsageError, match="timm:resnet50 has fixed inputs"):
        resized(find("timm:resnet50"), 112, None)
