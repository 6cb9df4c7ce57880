from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable
from functools import partial, wraps
from importlib.util import find_spec
from itertools import islice
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import bench.backends.backend
import bench.measuring.subject
from adaptive_models.data.demo import write_demo_clip
from adaptive_models.policies import AlwaysFull, GivenShares, Shares
from adaptive_models.recurrent import GRU
from adaptive_models.san import SAN
from adaptive_models.system import AdaptiveSystem
from baselines.selecting import Selecting
from bench.backends.backend import NEEDS, UnsupportedError, check_backend
from bench.backends.precision import to_precision
from bench.backends.replacing import replace_networks
from bench.errors import UsageError
from bench.measuring.cases import make_cases
from bench.measuring.changes import compare_outputs
from bench.measuring.clock import Clock
from bench.measuring.scenarios import timed_stages
from bench.measuring.subject import Footage, Subject, load_footage
from bench.records.measurement import BackendName, Change, Dtype
from bench.systems.registry import System

CPU = torch.device("cpu")


class Net(nn.Module):
    """Two groups of classes of an image, by position or name."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(3, 4, 3, stride=2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.classifiers = nn.ModuleList(nn.Linear(4, count) for count in (5, 3))

    def forward(self, rgb: Tensor) -> tuple[Tensor, ...]:
        features = self.features(rgb)
        return tuple(classifier(features) for classifier in self.classifiers)


class Branching(nn.Module):
    """What it computes depends on values, which no compiler of whole graphs takes."""

    def __init__(self) -> None:
        super().__init__()
        self.net = Net()

    def forward(self, rgb: Tensor) -> tuple[Tensor, ...]:
        return self.net(rgb if rgb.mean().item() > 0 else -rgb)


def narrow(channels: int) -> SAN:
    return SAN((0, 0, 0, 1, 0), channels=channels, widths=(32, 32, 32, 64, 64))


NET = System("small/net", Net, {"rgb": (3, 32, 32)})
ADAPTIVE = System(
    "small/s0-t2",
    partial(AdaptiveSystem, 0, 2, (5, 3), audio=False, head_layers=1, make_backbone=narrow, hidden=16),
    {"rgb": (3, 224, 224)},
    crops=0,
    max_skip=2,
)


def needs(name: BackendName) -> None:
    missing = [package for package in NEEDS.get(name, ()) if find_spec(package) is None]
    if missing:
        pytest.skip(f"{' and '.join(missing)} not installed")
    if name == "compile" and not any(map(shutil.which, ("g++", "clang++"))):
        pytest.skip("no C++ compiler")


@pytest.fixture(scope="module")
def footage(tmp_path_factory: pytest.TempPathFactory) -> Footage:
    folder = tmp_path_factory.mktemp("videos")
    for name, seed in (("a.mp4", 1), ("b.mp4", 2)):
        write_demo_clip(folder / name, seconds=2, fps=5, seed=seed)
    return load_footage(str(folder), 6, audio=False)


def subject(system: System, footage: Footage, backend: BackendName = "eager", dtype: Dtype = "float32") -> Subject:
    made = Subject(system, footage, "always-full" if system.adaptive else "fixed", CPU, dtype, 0, backend)
    if system.adaptive:
        made.policy = GivenShares(Shares(25.0, 35.0, 40.0), max_skip=2, frames=6)
    return made


# --- backends beside eager ---


@pytest.mark.parametrize("name", ["compile", "onnxruntime", "openvino"])
def test_a_fixed_system_says_the_same_alone_and_in_batches(name: BackendName, footage: Footage) -> None:
    needs(name)
    plain, fast = subject(NET, footage), subject(NET, footage, name)
    assert fast.backend is not None
    for batch in (None, 3):
        fast.compile(batch)
        compiled = fast.backend.compiled
        change = compare_outputs(fast.outputs(batch), plain.outputs(batch))
        assert change is not None
        assert change.largest_difference is not None
        assert change.largest_output > 0
        assert change.largest_difference <= 1e-5 * change.largest_output
        assert (change.changed, change.predictions) == (0, (batch or 2) * 6 * 2)  # clips, frames, groups
        assert fast.backend.compiled == compiled > 0
    assert any(note.startswith(f"{name}: ") for note in fast.notes)


def test_an_adaptive_system_decides_the_same_and_nothing_is_compiled_while_it_runs(footage: Footage) -> None:
    needs("onnxruntime")
    plain, fast = subject(ADAPTIVE, footage), subject(ADAPTIVE, footage, "onnxruntime")
    assert fast.backend is not None
    fast.compile(None)
    compiled = fast.backend.compiled
    frames = list(islice(fast.stream(), 12))
    assert frames == list(islice(plain.stream(), 12))
    assert {frame.decision for frame in frames} == {"full", "prescan", "skip"}
    change = compare_outputs(fast.outputs(None), plain.outputs(None))
    assert change is not None
    assert change.largest_difference is not None
    assert change.largest_difference <= 1e-4 * change.largest_output
    assert change.changed == 0
    assert fast.backend.compiled == compiled


@pytest.mark.parametrize("name", ["compile", "onnxruntime"])
def test_what_a_backend_cannot_run_is_told_with_the_cause(name: BackendName, footage: Footage) -> None:
    needs(name)
    fast = subject(System("small/branching", Branching, NET.inputs), footage, name)
    with pytest.raises(UnsupportedError, match=r"^the model cannot be compiled: \w+: [^\n]+$"):
        fast.compile(None)


# --- weights of 8 bits ---


@pytest.mark.parametrize(("name", "system"), [("eager", ADAPTIVE), ("onnxruntime", ADAPTIVE), ("onnxruntime", NET)])
def test_weights_of_8_bits_say_nearly_the_same(name: BackendName, system: System, footage: Footage) -> None:
    needs(name)
    plain, small = subject(system, footage), subject(system, footage, name, "int8")
    if small.backend is not None:
        small.compile(None)
        assert any("int8" in note for note in small.notes)
    change = compare_outputs(small.outputs(None), plain.outputs(None))
    assert change is not None
    assert change.largest_difference is not None
    assert 0 < change.largest_difference < 0.05 * change.largest_output
    decisions = [[frame.decision for frame in islice(each.stream(), 12)] for each in (small, plain)]
    assert decisions[0] == decisions[1]


def test_of_a_model_in_eager_gru_weights_alone_are_of_8_bits(footage: Footage) -> None:
    model = subject(ADAPTIVE, footage, dtype="int8").model
    kinds = {name: tensor.dtype for name, tensor in model.state_dict().items()}
    small = {name for name, kind in kinds.items() if kind is torch.int8}
    assert small == {
        f"{gru}.weight_{of}_l{layer}"
        for gru, layers in (("temporal_sampler.rnn", 2), ("classifier.heads.global.rnn", 1))
        for of in ("ih", "hh")
        for layer in range(layers)
    }
    others = {kind for name, kind in kinds.items() if name not in small and not name.endswith("num_batches_tracked")}
    assert others == {torch.float32}


@pytest.mark.parametrize(
    ("system", "backend", "message"),
    [
        (NET, "eager", "int8 is for the weights of GRUs that go frame by frame, and there are none in it"),
        (ADAPTIVE, "compile", "compile rounds no weights to int8 here: eager and onnxruntime do"),
        (ADAPTIVE, "openvino", "openvino rounds no weights to int8 here"),
    ],
)
def test_where_there_are_none_it_is_told(system: System, backend: BackendName, message: str, footage: Footage) -> None:
    needs(backend)
    with pytest.raises(UnsupportedError, match=message):
        subject(system, footage, backend, "int8")


def test_they_are_for_cpus() -> None:
    with pytest.raises(UnsupportedError, match="int8 is for weights on a CPU, not on meta"):
        to_precision(GRU(2, 3), torch.device("meta"), "int8")


# --- what is put in place of what ---


class Listener:
    """A backend that compiles nothing, and counts what is run."""

    notes = ("as it was",)

    def __init__(self) -> None:
        self.compiled = 0
        self.ran: Counter[str] = Counter()

    def accelerated(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(function)
        def run(*args: Any, **kwargs: Any) -> Any:
            self.ran[name] += 1
            return function(*args, **kwargs)

        return run


@pytest.fixture
def listener(monkeypatch: pytest.MonkeyPatch) -> Listener:
    made = Listener()
    monkeypatch.setattr(bench.measuring.subject, "make_backend", lambda name, _: made if name != "eager" else None)
    return made


def test_of_frames_that_are_not_full_only_what_looks_runs(listener: Listener, footage: Footage) -> None:
    fast = subject(ADAPTIVE, footage, "compile")
    frames = list(islice(fast.stream(), 6))
    decided = Counter(frame.decision for frame in frames)
    assert decided["skip"] > 0
    assert listener.ran == {
        "low_rgb.prescan": decided["full"] + decided["prescan"],
        "temporal_sampler.forward": decided["full"] + decided["prescan"] - 1,  # it is not asked at the first frame
        "hallucinator.forward": decided["full"] + decided["prescan"],
        "low_rgb.resume": decided["full"],
        "classifier.forward": decided["full"],
    }
    assert "compile: as it was" in fast.notes


def networks_of(crops: int, max_skip: int | None, audio: bool) -> set[str]:
    model = AdaptiveSystem(crops, max_skip, (5,), audio, head_layers=1, make_backbone=narrow, hidden=8)
    return {name.partition(".")[0] if name.endswith("forward") else name for name in model.networks}


def test_networks_are_those_that_a_system_runs() -> None:
    assert networks_of(0, None, False) == {"low_rgb", "classifier"}
    halves = {"low_rgb.prescan", "low_rgb.resume", "classifier"}
    assert networks_of(2, None, False) == {*halves, "high_rgb"}
    assert networks_of(2, 3, True) == {*halves, "high_rgb", "spectrogram", "temporal_sampler", "hallucinator"}


class Two(Selecting):
    """Chooses one of two frames."""

    def __init__(self) -> None:
        super().__init__(2, 1, 1)
        self.net = Net()

    def scan(self, frames: Tensor) -> Tensor:
        return self.net.features(frames.squeeze(1))

    def decide(self, features: Tensor) -> Tensor:
        return features.sum(dim=-1)

    def look(self, frames: Tensor) -> tuple[Tensor, ...]:
        return self.net(frames.squeeze(1))


def test_stages_of_systems_that_select_are_their_networks_and_stay_so_when_timed(
    listener: Listener, footage: Footage
) -> None:
    model = Two().eval()
    replace_networks(model, listener)
    clip = footage.clips[0]
    model.run([clip], AlwaysFull())
    assert listener.ran == {"scan": 6, "decide": 3, "look": 6}
    with timed_stages(model, Clock(CPU)) as seconds:
        model.run([clip], AlwaysFull())
    assert {name: len(times) for name, times in seconds.items()} == {"scan": 6, "decide": 3, "look": 6}
    model.run([clip], AlwaysFull())
    assert listener.ran == {"scan": 18, "decide": 9, "look": 18}


def test_a_system_that_names_no_networks_cannot_be_compiled(listener: Listener) -> None:
    class Closed(Two):
        networks = ()

    with pytest.raises(UnsupportedError, match=r"^Closed does not say in `networks` what of it may be compiled$"):
        replace_networks(Closed(), listener)


# --- what cannot be used here ---


@pytest.mark.parametrize(
    ("name", "device", "problem"),
    [
        ("cudagraphs", "cpu", "a graph is of a GPU's kernels: use --device cuda, not cpu"),
        ("onnxruntime", "cuda:0", "it is measured on CPUs only: use --device cpu, not cuda:0"),
    ],
)
def test_a_backend_of_another_device_is_refused(name: BackendName, device: str, problem: str) -> None:
    with pytest.raises(UsageError) as error:
        check_backend(name, device)
    assert str(error.value) == f"--backend {name}: {problem}"


def test_a_backend_that_is_not_installed_names_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench.backends.backend, "find_spec", lambda name: None if name == "onnx" else object())
    with pytest.raises(UsageError, match=r"^--backend openvino: onnx not installed: pip .*\[openvino\]'$"):
        check_backend("openvino", "cpu")
    for name in ("eager", "compile"):
        check_backend(name, "cpu")
    check_backend("cudagraphs", "cuda:0")


def test_each_backend_is_a_case_of_its_own() -> None:
    backends: list[BackendName] = ["eager", "compile", "eager"]
    cases = make_cases([NET], "offline", "cpu", "float32", "published", [1, 2], 4, 1, "demo", backends)
    assert [(case.backend, case.batch) for case in cases] == [
        *(("eager", 1), ("eager", 2), ("compile", 1), ("compile", 2)),
    ]


# --- how far outputs are from those of eager float32 ---


def test_changes_are_the_largest_difference_and_other_likeliest_classes() -> None:
    plain = [torch.tensor([1.0, -4.0, 2.0]), torch.tensor([0.5, 0.25])]
    ours = [torch.tensor([1.5, -4.0, 1.25]), torch.tensor([0.5, 0.0])]
    assert compare_outputs(ours, plain) == Change(0.75, 4.0, predictions=2, changed=1)
    assert compare_outputs(plain, plain) == Change(0.0, 4.0, predictions=2, changed=0)
    assert compare_outputs([], []) is None
    with pytest.raises(ValueError, match=r"zip\(\)"):
        compare_outputs(ours[:1], plain)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_outputs_that_are_not_finite_have_no_difference(value: float) -> None:
    change = compare_outputs([torch.tensor([0.0, value])], [torch.tensor([1.0, 0.0])])
    assert change == Change(None, 1.0, predictions=1, changed=1)
