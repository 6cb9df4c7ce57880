from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from adaptive_models import fused
from adaptive_models.data.clips import TensorClip
from adaptive_models.system import AdaptiveSystem
from bench.measuring import clock
from bench.measuring.breakdown import lines, looking
from bench.measuring.clock import Clock
from bench.measuring.profiling import profile_steps
from bench.measuring.subject import Footage, Subject
from bench.measuring.tracing import Opened, Tracer
from bench.records.measurement import Peak
from bench.records.profile import StepProfile
from bench.systems.costs import count_system
from bench.systems.registry import System

CPU = torch.device("cpu")
FRAMES = 3


class Sleep(nn.Module):
    """Takes seconds, and gives what it is given."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self.seconds = seconds

    def forward(self, x: Tensor) -> Tensor:
        time.sleep(self.seconds)
        return x


class Net(nn.Module):
    """Layers of known cost, time and traffic."""

    def __init__(self) -> None:
        super().__init__()
        self.slow = nn.Sequential(Sleep(0.02), Sleep(0.005))
        self.linear = nn.Linear(48, 10, bias=False)
        self.same = Sleep(0.003)

    def forward(self, x: Tensor) -> Tensor:
        x = self.same(self.same(x))
        time.sleep(0.01)
        return self.linear(self.slow(x).flatten(1)).relu()


def fixed(build: Callable[[], nn.Module]) -> Subject:
    footage = Footage([TensorClip(torch.rand(FRAMES, 3, 4, 4))], [], [])
    return Subject(System("small/net", build, {"rgb": (3, 4, 4)}), footage, "fixed", CPU, "float32")


@pytest.fixture(scope="module")
def adaptive(small_system: System) -> Subject:
    generator = torch.Generator().manual_seed(0)
    images, spectrograms = (torch.rand(FRAMES, *shape, generator=generator) for shape in ((3, 224, 224), (1, 256, 256)))
    footage = Footage([TensorClip(images, spectrograms)], [], [])
    return Subject(small_system, footage, "learned", CPU, "float32")


@pytest.fixture(scope="module")
def of_net() -> StepProfile:
    return profile_steps([fixed(Net)], 0.1)[0]


@pytest.fixture(scope="module")
def of_adaptive(adaptive: Subject) -> StepProfile:
    return profile_steps([adaptive], 0.1)[0]


def test_layers_take_the_time_that_they_take(of_net: StepProfile) -> None:
    times = {layer.layer: min(layer.seconds) for layer in of_net.layers if layer.stage}
    expected = {"": 0.01, "slow": 0, "slow.0": 0.02, "slow.1": 0.005, "linear": 0, "same": 0.006}
    assert times.keys() == expected.keys()
    for name, seconds in expected.items():
        assert times[name] >= seconds
    assert list(times) == ["", "same", "slow", "slow.0", "slow.1", "linear"]  # as they begin
    assert {layer.layer: layer.calls for layer in of_net.layers}["same"] == 2


def test_own_times_add_up_to_each_step(of_net: StepProfile, of_adaptive: StepProfile) -> None:
    for profile in (of_net, of_adaptive):
        assert len(profile.step_seconds) == len(profile.timed_by_parts) == len(profile.timed_by_layers) >= 10
        for entries, steps in ((profile.parts, profile.timed_by_parts), (profile.layers, profile.timed_by_layers)):
            for step, seconds in enumerate(steps):
                assert sum(entry.seconds[step] for entry in entries) == pytest.approx(seconds)  # type: ignore[attr-defined]
                assert min(entry.seconds[step] for entry in entries) > -1e-4  # type: ignore[attr-defined]


def test_operations_and_bytes_are_those_of_each_layer(of_net: StepProfile) -> None:
    layers = {layer.layer: layer for layer in of_net.layers if layer.stage}
    # 48 x 10 multiply-accumulates; 48 values in, 10 out, and the weights, of 4 bytes each
    linear = layers["linear"]
    assert (linear.macs, linear.flops, linear.bytes) == (480, 960, 4 * (48 + 10 + 480))
    assert (layers["slow.0"].flops, layers["slow.0"].bytes) == (0, 0)
    # ReLU of 10 values is the model's own: read and written
    assert (layers[""].flops, layers[""].bytes, layers[""].type) == (10, 4 * 20, "")


def test_recurrent_layers_move_their_weights() -> None:
    class Head(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rnn = nn.GRU(48, 16, batch_first=True)

        def forward(self, x: Tensor) -> Tensor:
            return self.rnn(x.flatten(1)[:, None])[0]

    (profile,) = profile_steps([fixed(Head)], 0.1)
    (rnn,) = [layer for layer in profile.layers if layer.layer == "rnn"]
    assert rnn.bytes == 4 * (3 * 16 * (48 + 16) + 2 * 3 * 16 + 48 + 16 + 16)  # weights, biases, input, output, memory


def test_a_full_frame_counts_what_the_system_counts(of_adaptive: StepProfile, small_system: System) -> None:
    counted = {
        stage["name"]: stage["flops"] for stage in count_system(small_system, policy="always-full").profile.stages()
    }
    own = dict.fromkeys(counted, 0)
    for layer in of_adaptive.layers:
        if layer.stage:
            own[layer.stage] += layer.flops
    assert own == counted
    assert sum(layer.flops for layer in of_adaptive.layers if not layer.stage) == 0


def test_parts_are_those_that_people_speak_of(of_adaptive: StepProfile) -> None:
    assert [(part.stage, part.part) for part in of_adaptive.parts] == [
        ("", ""),
        ("scan", ""),
        ("scan", "pre-scan"),
        ("hallucinate", ""),
        ("hallucinate", "hallucinator"),
        ("decide", ""),
        ("decide", "temporal sampler"),
        ("look", ""),
        ("look", "rest"),
        ("look", "spectrogram"),
        ("look", "spatial sampler"),
        ("look", "crops"),
        ("classify", ""),
        ("classify", "GRU heads"),
    ]


def test_a_profile_is_of_fused_layers(
    of_adaptive: StepProfile, adaptive: Subject, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = {layer.layer for layer in of_adaptive.layers if layer.type == "fused"}
    assert {f"{network}.layer3.0" for network in ("low_rgb", "high_rgb", "spectrogram")} <= steps
    assert not any(".sam." in layer.layer for layer in of_adaptive.layers)
    # and where they do not run fused, of the layers that they are
    monkeypatch.setattr(fused, "suits", lambda network, names, x: False)
    (plain,) = profile_steps([adaptive], 0.1)
    assert not any(layer.type == "fused" for layer in plain.layers)
    assert any(layer.layer == "low_rgb.layer3.0.sam.query" for layer in plain.layers)
    assert sum(layer.flops for layer in plain.layers) == sum(layer.flops for layer in of_adaptive.layers)


class Asks:
    """Keeps whether anything that could be hooked is."""

    def __init__(self, model: nn.Module) -> None:
        self.model, self.places, self.hooked = model, [], False

    def run(self, opened: Opened, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        self.places.append(opened.place)
        self.hooked |= any(module._forward_hooks or module._forward_pre_hooks for module in self.model.modules())
        return function(*args, **kwargs)


def test_nothing_is_hooked_and_all_is_as_it_was(adaptive: Subject) -> None:
    model = adaptive.model
    assert isinstance(model, AdaptiveSystem)
    mine = vars(model.classifier)["forward"] = model.classifier.forward  # somebody else's
    before = [dict(vars(module)) for module in model.modules()]
    asks = Asks(model)
    frames = adaptive.stream(adaptive.through_all_stages)
    with Tracer(model).tracing(asks, layers=True):
        next(frames)
    assert asks.places
    assert not asks.hooked
    assert [dict(vars(module)) for module in model.modules()] == before
    assert vars(model.classifier).pop("forward") is mine
    with pytest.raises(ValueError, match="images of shape"), Tracer(model).tracing(Asks(model), layers=True):
        model.scan(torch.zeros(1, 3, 5, 5))
    assert "scan" not in vars(model)


def test_what_is_compiled_is_not_looked_into() -> None:
    inner = nn.Sequential(nn.Linear(4, 4))
    inner._orig_mod = nn.Linear(4, 4)  # what torch.compile makes of a module has it there
    model = nn.Sequential(nn.Linear(4, 4), inner)
    asks = Asks(model)
    with Tracer(model).tracing(asks, layers=True):
        model(torch.zeros(1, 4))
    assert [place.layer for place in asks.places] == ["", "0", "1"]


# --- what is told of it ---


def test_lines_divide_counts_by_times(of_net: StepProfile) -> None:
    found = {(line.level, line.part, line.layer): line for line in lines(of_net, Peak(1e6, 1e5))}
    linear = found["layer", "call itself", "linear"]
    assert linear.flops_per_second == pytest.approx(960 / linear.seconds)
    assert linear.share_of_peak_flops == pytest.approx(960 / linear.seconds / 1e6)
    assert linear.share_of_peak_bytes == pytest.approx(linear.estimated_bytes / linear.seconds / 1e5)
    stage = found["stage", "", ""]
    levels = [line.level for line in lines(of_net, None)]
    assert levels[:3] == ["stage", "part", "layer"]
    whole = [line for line in lines(of_net, None) if line.level == "stage"]
    assert {line.stage for line in whole} == {"call", "between stages"}
    assert sum(line.share_of_time for line in whole) == pytest.approx(1, abs=0.2)
    assert stage is not None
    assert lines(of_net, None)[0].share_of_peak_flops is None


def test_what_looking_costs_is_told(of_net: StepProfile) -> None:
    cost = looking(of_net)
    assert cost.step >= 0.04
    assert cost.parts + cost.unexplained == pytest.approx(cost.step)
    assert cost.marks == 1 + 1 + 2 + 1 + 2 + 1  # the step, the call, and its layers, one of them twice
    assert 0 < cost.mark < 1e-3


# --- on a GPU that there is not ---


class Event:
    """A CUDA event of a device that takes a second from one event to the next."""

    recorded = 0
    waited: list[int]

    def __init__(self, enable_timing: bool) -> None:
        assert enable_timing

    def record(self) -> None:
        Event.recorded += 1
        self.moment = Event.recorded

    def synchronize(self) -> None:
        Event.waited.append(self.moment)

    def elapsed_time(self, end: Event) -> float:
        return 1e3 * (end.moment - self.moment)


def test_on_a_gpu_events_are_marks_and_are_waited_for_after_the_step(monkeypatch: pytest.MonkeyPatch) -> None:
    from bench.measuring.profiling import _Stopwatch

    class Device:
        def __init__(self, device: Any) -> None: ...

        def __enter__(self) -> None: ...

        def __exit__(self, *_: object) -> None: ...

    Event.waited = []
    monkeypatch.setattr(clock.torch.cuda, "Event", Event)
    monkeypatch.setattr(clock.torch.cuda, "device", Device)
    watch = _Stopwatch(Clock(torch.device("cuda")))
    net = nn.Sequential(nn.Identity(), nn.Identity())
    waited_within = []

    def step() -> None:
        net(torch.zeros(1))
        waited_within.append(len(Event.waited))

    with Tracer(net).tracing(watch, layers=True):
        assert watch.time(step) == 7  # eight events
    assert waited_within == [0]
    own = {place.layer or place.stage: seconds for place, seconds in watch.own.items()}
    assert own == {"": [2.0], "call": [3.0], "0": [1.0], "1": [1.0]}
