from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tiny_data import TinySet
from torch import nn

from adaptive_models.parts import SUFFIX, save_part
from adaptive_models.system import AdaptiveSystem
from adaptive_models.training.cache import FeatureCache, fill_cache
from baselines.san_base import SANBase
from bench.errors import RunError, UsageError
from bench.evaluating.campaign import evaluate_all
from bench.evaluating.evaluate import evaluate
from bench.evaluating.models import digest, frozen_networks
from bench.evaluating.replay import FeatureClip, Replay
from bench.evaluating.runner import Task
from bench.records.evaluation import Evaluation, read_evaluations
from bench.systems.builtin import registry
from bench.systems.weights import load_model

MakeTask = Callable[..., Task]

ALTERNATING = """
class Alternating:
    def choose(self, videos, t, logits):
        return [(2 * video + t) % 4 for video in videos]
"""


@pytest.fixture(scope="module")
def features(make_task: MakeTask, weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    task = make_task()
    networks = frozen_networks(task.find(), registry(task.adapters), weights)
    return fill_cache(networks, TinySet(4), 6, tmp_path_factory.mktemp("features"))


@pytest.fixture(scope="module")
def alternating(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("policies") / "own.py"
    path.write_text(ALTERNATING)
    return f"{path}:Alternating"


def assert_same_but_for_rounding(a: Evaluation, b: Evaluation) -> None:
    for ours, theirs in zip(a.clips, b.clips, strict=True):
        assert (ours.decisions, ours.flops, ours.top) == (theirs.decisions, theirs.flops, theirs.top)
        assert sum(ours.logits, ()) == pytest.approx(sum(theirs.logits, ()), rel=1e-3, abs=1e-5)


@pytest.mark.parametrize(
    "case", [("learned", "small/s2-t3"), ("alternating", "small/s2-t3"), ("always-full", "small/s2")]
)
def test_kept_features_stand_for_running_the_networks(
    make_task: MakeTask, weights: Path, features: Path, alternating: str, case: tuple[str, str]
) -> None:
    policy, system = case
    task = make_task(alternating if policy == "alternating" else policy, system, weights=weights)
    replayed = make_task(task.policy, system, weights=weights, features=features)
    plain, again = evaluate(task, TinySet(4))[0], evaluate(replayed, TinySet(4))[0]
    assert_same_but_for_rounding(plain, again)
    assert (plain.replayed, again.replayed) == (False, True)
    assert plain.weights == again.weights


def test_what_is_kept_is_looked_up(make_task: MakeTask, weights: Path, features: Path) -> None:
    model = load_model(make_task().find(), weights, 0)
    assert isinstance(model, AdaptiveSystem)
    cache = FeatureCache(features)
    kept = cache.read([3])
    clip, replay = FeatureClip(kept), Replay(model, kept_crops=2)
    frames = list(replay.stream(clip))
    found = torch.stack([frame.attention for frame in frames if frame.attention is not None])
    torch.testing.assert_close(found, kept.attention[0])
    for t, frame in enumerate(frames):
        assert frame.features is not None
        assert frame.boxes is not None
        assert frame.features.audio is not None
        assert frame.features.crops is not None
        assert kept.audio is not None
        torch.testing.assert_close(frame.features.image[0], kept.image[0, t])
        torch.testing.assert_close(frame.features.audio[0], kept.audio[0, t])
        # boxes may have changed places, and their crops with them
        assert sorted(frame.boxes.tolist()) == sorted(kept.boxes[0, t].tolist())
        for box, crop in zip(frame.boxes, frame.features.crops[0], strict=True):
            slots = [slot for slot in range(2) if box.equal(kept.boxes[0, t, slot])]
            assert any(crop.equal(kept.crops[0, t, slot]) for slot in slots)


def test_fewer_crops_than_are_kept(make_task: MakeTask, weights: Path, features: Path) -> None:
    kept = FeatureCache(features).read([1])
    with torch.random.fork_rng():
        torch.manual_seed(0)
        narrow = load_model(make_task().find(), weights, 0)
        assert isinstance(narrow, AdaptiveSystem)
        one = AdaptiveSystem(
            1, None, (5, 3), audio=True, head_layers=1, make_backbone=lambda _: narrow.low_rgb, hidden=16
        ).eval()
        none = AdaptiveSystem(
            0, None, (5, 3), audio=True, head_layers=1, make_backbone=lambda _: narrow.low_rgb, hidden=16
        ).eval()
    boxes = [frame.boxes for frame in Replay(one, 2).stream(FeatureClip(kept)) if frame.boxes is not None]
    assert torch.stack(boxes).equal(kept.boxes[0, :, :1])
    frames = list(Replay(none, 2).stream(FeatureClip(kept)))
    assert all(frame.boxes is None and frame.logits is not None for frame in frames)


def test_many_systems_share_what_is_kept(make_task: MakeTask, weights: Path, tmp_path: Path) -> None:
    common = make_task("", "", weights=weights, features=tmp_path / "features")
    systems = [make_task(system=name).find() for name in ("small/squares", "small/s2", "small/s2-t3")]
    made = evaluate_all(systems, ["random", "learned"], common, TinySet(4, {2: "damaged"}), 1, tmp_path)
    assert [(each.system, each.policy, each.replayed) for each in made] == [
        ("small/squares", "fixed", False),
        ("small/s2", "always-full", True),
        ("small/s2-t3", "learned", True),
        ("small/s2-t3", "random", True),
    ]
    assert len(list((tmp_path / "features").iterdir())) == 1
    for each in made:
        assert [clip.id for clip in each.clips] == ["clip-0", "clip-1", "clip-3"]
        assert "clip-2" in each.left_out
        assert each.trained
    assert read_evaluations(tmp_path / "evaluations", lambda _: None) == sorted(
        made, key=lambda each: f"{each.system}.{each.policy}"
    )
    plain = evaluate_all(systems[1:], ["learned"], replace(common, features=None), TinySet(4), 1, tmp_path / "plain")
    assert [each.weights for each in plain] == [made[1].weights, made[2].weights]


def test_parts_of_fixed_systems(tmp_path: Path) -> None:
    for name in ("mini/san19-base", "mini/tsn-resnet50"):
        system = replace(registry().find(name), weights=None)
        trained, other = load_model(system, None, 1), load_model(system, None, 2)
        assert digest(trained) != digest(other)
        if name == "mini/san19-base":
            assert isinstance(trained, SANBase)
            save_part(trained.backbones["rgb"], tmp_path / f"rgb-224{SUFFIX}")
            save_part(trained.backbones["spectrogram"], tmp_path / f"spectrogram{SUFFIX}")
            top = nn.ModuleDict({"fusion": trained.fusion, "classifiers": trained.classifiers})
            save_part(top, tmp_path / f"san-base{SUFFIX}")
        else:
            save_part(trained, tmp_path / f"tsn{SUFFIX}")
        assert digest(load_model(system, tmp_path, 2)) == digest(trained)


def test_random_networks_are_not_shared(make_task: MakeTask) -> None:
    task = make_task()
    with pytest.raises(UsageError, match="--features needs --weights"):
        frozen_networks(task.find(), registry(task.adapters), None)
    with pytest.raises(RunError, match=r"small/s2-t3: none/rgb-112.safetensors: no such file"):
        frozen_networks(task.find(), registry(task.adapters), Path("none"))
