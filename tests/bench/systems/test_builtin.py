from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from adaptive_models.data.mini import Mini
from adaptive_models.system import AdaptiveSystem
from bench.errors import UsageError
from bench.measuring.subject import Frame, Subject, footage_for
from bench.published.tables import FRAMES
from bench.systems.builtin import BACKBONES, registry, resized
from bench.systems.workloads import WORKLOADS


def test_every_system_of_the_tables_is_there() -> None:
    ids = [f"{workload}/{name}" for workload in WORKLOADS for name in ("san19-base", "s0", "s1", "s2", "s3")]
    ids += [f"{workload}/s{k}-t{m}" for workload in WORKLOADS for k in range(4) for m in range(1, 5)]
    ids += ["ucf101/tsn-resnet50", "epic/tbn-ra", "epic/tbn-raf", "mini/tsn-resnet50", "mini/tbn-ra"]
    ids += ["epic/slowfast-r101-8x8", "epic/avslowfast-r101-8x8", "ucf101/res3d-18", "ucf101/dsn", "ucf101/smart"]
    assert {system.id for system in registry()} == {*ids, *BACKBONES}


def test_workloads_sample_the_published_numbers_of_frames() -> None:
    assert {name: WORKLOADS[name].frames for name in FRAMES} == FRAMES


def test_mini_has_the_classes_of_its_data_set() -> None:
    assert WORKLOADS["mini"].classes == tuple(map(len, Mini.classes))


@pytest.mark.parametrize(
    ("id", "crops", "max_skip", "classes", "audio", "layers"),
    [
        ("epic/s0", 0, None, (125, 352), True, 2),
        ("epic/s3-t4", 3, 4, (125, 352), True, 2),
        ("ucf101/s2-t1", 2, 1, (101,), False, 1),
        ("mini/s1-t2", 1, 2, (8, 9), True, 1),
    ],
)
def test_adaptive_systems_are_built_as_their_ids_say(
    id: str, crops: int, max_skip: int | None, classes: tuple[int, ...], audio: bool, layers: int
) -> None:
    system = registry().find(id)
    with torch.device("meta"):
        model = system.build()
    assert isinstance(model, AdaptiveSystem)
    assert (model.crops, model.max_skip, model.classes, model.audio) == (crops, max_skip, classes, audio)
    assert (system.crops, system.max_skip) == (crops, max_skip)
    assert set(system.inputs) == ({"rgb", "spectrogram"} if audio else {"rgb"})
    heads = [module for module in model.classifier.modules() if isinstance(module, nn.GRU)]
    assert [head.num_layers for head in heads] == [layers] * (3 if crops else 1)
    sampler = model.temporal_sampler
    assert (sampler is None) == (max_skip is None)
    assert sampler is None or sampler.fc_out.out_features == (max_skip or 0) + 1


@pytest.mark.parametrize("name", BACKBONES)
def test_backbones_take_the_inputs_that_they_name(name: str) -> None:
    system = resized(registry().find(name), size=64, modality="spec")
    assert system.inputs == {"x": (1, 64, 64)}
    with torch.device("meta"):
        features = system.build().eval()(torch.empty(1, 1, 64, 64))
    assert features.ndim == 2


def test_backbones_at_other_sizes() -> None:
    san19 = registry().find("san19")
    assert resized(san19, None, None) is san19
    assert resized(san19, 112, None).inputs == {"x": (3, 112, 112)}
    assert resized(san19, None, "spec").inputs == {"x": (1, 256, 256)}
    assert resized(san19, None, "rgb").inputs == {"x": (3, 224, 224)}


@pytest.mark.parametrize(
    ("id", "given", "sampled", "modalities"),
    [
        ("epic/slowfast-r101-8x8", 32, 64, "R"),
        ("epic/avslowfast-r101-8x8", 32, 64, "R+A"),
        ("ucf101/res3d-18", 8, 16, "R"),
        ("epic/tbn-raf", 1, 10, "R+A+F"),
        ("epic/s3-t4", 1, 10, "R+A"),
    ],
)
def test_clips_are_sampled_for_what_calls_are_given(id: str, given: int, sampled: int, modalities: str) -> None:
    system = registry().find(id)
    assert system.clip_frames == given
    assert system.sampled(10) == sampled  # two calls of eight frames each
    assert system.modalities == modalities


@pytest.mark.parametrize(
    ("id", "clip", "notes"),
    [
        ("epic/slowfast-r101-8x8", "clip_silent.mp4", ["rgb is resized to 256x256"]),
        ("epic/avslowfast-r101-8x8", "clip_with_audio.avi", ["rgb is resized to 256x256"]),
        ("ucf101/res3d-18", "clip_silent.mp4", ["rgb is resized to 112x112"]),
    ],
)
def test_video_networks_run_on_real_clips(shared: Path, id: str, clip: str, notes: list[str]) -> None:
    system = registry().find(id)
    footage = footage_for(system, str(shared / "clips" / clip), 8)
    subject = Subject(system, footage, "fixed", torch.device("cpu"), "float32")
    said: list[Tensor] = []
    subject.model.register_forward_hook(lambda module, inputs, output: said.extend(output))
    assert next(subject.stream()) == Frame(0, 0, "full")
    assert [logits.shape for logits in said] == [(1, count) for count in WORKLOADS[system.workload].classes]
    assert all(bool(logits.isfinite().all()) for logits in said)
    assert (subject.frames, subject.notes) == (8, notes)


def test_sizes_that_make_no_sense() -> None:
    with pytest.raises(UsageError, match="epic/s3 has fixed inputs"):
        resized(registry().find("epic/s3"), 64, None)
    with pytest.raises(UsageError, match="--size 31"):
        resized(registry().find("san19"), 31, None)


def test_adapters_are_added_to_this_registry_alone(small_adapter: str) -> None:
    assert "small/s2-t3" in [system.id for system in registry([small_adapter])]
    assert "small/s2-t3" not in [system.id for system in registry()]
    with pytest.raises(UsageError, match="'small/s2-t3' already"):
        registry([small_adapter, small_adapter])
