"""What a profile answers: totals, groupings, bytes, activations, and the stages of one model."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn, randn

from bench import Profile, count_flops
from bench.counting.counter import Counter, counting


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU())
        self.head = nn.Linear(4, 5)
        self.scale = nn.Parameter(randn(5))
        self.spare = nn.Linear(7, 7)

    def begin(self, x: Tensor) -> Tensor:
        return self.stem(x).mean((2, 3))

    def end(self, x: Tensor) -> Tensor:
        return self.head(x) * self.scale

    def forward(self, x: Tensor) -> Tensor:
        return self.end(self.begin(x))


# On (2, 3, 5, 5): 2*4*9 = 72 outputs of 27 MACs, biases, 2 and 1 per output, a mean to 8; then 2*5 outputs of 4.
CONV, NORM, RELU, MEAN, HEAD, SCALE = (72 * 27, 72), 144, 72, 72 + 8, (40, 10), 10
FLOPS = 2 * CONV[0] + CONV[1] + NORM + RELU + MEAN + 2 * HEAD[0] + HEAD[1] + SCALE
PARAMS = {"stem.0": 4 * 27 + 4, "stem.1": 8, "head": 25, "": 5, "spare": 56}


@pytest.fixture
def profile() -> Profile:
    return count_flops(Net().eval(), randn(2, 3, 5, 5))


def test_totals(profile: Profile) -> None:
    assert (profile.macs, profile.flops) == (CONV[0] + HEAD[0], FLOPS)
    assert profile.params == sum(PARAMS.values())
    assert profile.activations == 72 + 10  # what the convolution and the linear layer put out
    assert all(type(total) is int for total in (profile.macs, profile.flops, profile.params, profile.bytes))


def test_layers_add_up(profile: Profile) -> None:
    layers = profile.layers()
    assert [layer["name"] for layer in layers] == ["stem.0", "stem.1", "stem.2", "", "head", "", "spare"]
    assert layers[-1]["cumulative_flops"] == profile.flops == sum(layer["flops"] for layer in layers)
    assert sum(layer["params"] for layer in layers) == profile.params
    assert layers[3] == {
        "name": "", "type": "Net", "macs": 0, "flops": MEAN, "params": 0, "activations": 0,
        "bytes": 4 * (72 + 8), "cumulative_flops": FLOPS - 2 * HEAD[0] - HEAD[1] - SCALE,
    }  # fmt: skip


def test_by_module_adds_what_a_module_contains(profile: Profile) -> None:
    totals = profile.by_module()
    assert totals[""] == {"macs": profile.macs, "flops": profile.flops, "params": profile.params}
    assert totals["stem"] == {
        "macs": CONV[0], "flops": 2 * CONV[0] + CONV[1] + NORM + RELU, "params": PARAMS["stem.0"] + PARAMS["stem.1"],
    }  # fmt: skip
    assert totals["head"]["macs"] == HEAD[0]


def test_stages_are_the_top_level_modules(profile: Profile) -> None:
    assert [(stage["name"], stage["flops"]) for stage in profile.stages()] == [
        ("stem", 2 * CONV[0] + CONV[1] + NORM + RELU),
        ("", MEAN + SCALE),
        ("head", 2 * HEAD[0] + HEAD[1]),
        ("spare", 0),
    ]


def test_operators_are_sorted_by_cost(profile: Profile) -> None:
    assert [(op["name"], op["calls"], op["flops"]) for op in profile.operators()] == [
        ("convolution", 1, 2 * CONV[0] + CONV[1]),
        ("batch_norm", 1, NORM),
        ("linear", 1, 2 * HEAD[0] + HEAD[1]),
        ("mean", 1, MEAN),
        ("relu", 1, RELU),
        ("mul", 1, SCALE),
    ]


TOTALS = {
    "convention", "macs", "flops", "params", "activations", "bytes", "device", "reason", "unknown", "uncalled",
    "uncounted",
}  # fmt: skip


def test_json_is_plain_data(profile: Profile) -> None:
    for by, rows in (("layer", "layers"), ("stage", "stages"), ("op", "ops")):
        data = json.loads(json.dumps(profile.to_json(by)))
        assert data.keys() == TOTALS | {rows}
        assert data[rows] == profile.grouped(by)
    assert data["uncalled"] == ["spare"]


def test_frame(profile: Profile) -> None:
    frame = profile.to_frame()
    assert frame["flops"].sum() == profile.flops
    assert list(frame.columns[:4]) == ["name", "type", "macs", "flops"]


def test_bytes_are_what_each_operator_reads_and_writes() -> None:
    # 4 bytes: read 2*3 and 4*3 and 4, write 2*4; then read and write 8; a view moves nothing
    profile = count_flops(nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Flatten(0)), randn(2, 3))
    assert profile.bytes == 4 * (6 + 12 + 4 + 8) + 4 * 16
    half = count_flops(nn.Sequential(nn.Linear(3, 4), nn.ReLU()).half(), randn(2, 3).half())
    assert half.bytes == profile.bytes // 2


def test_bytes_of_broadcast_moved_and_written_data() -> None:
    assert count_flops(lambda x: x + x[:1].expand(2, 3), randn(2, 3)).bytes == 4 * (6 + 3 + 6)  # 3 are read again
    assert count_flops(lambda x: x.T.reshape(6), randn(2, 3)).bytes == 4 * 12  # cannot be viewed, so it is copied
    assert count_flops(lambda x: x.reshape(6), randn(2, 3)).bytes == 0
    assert count_flops(lambda x: x.zero_(), randn(2, 3)).bytes == 4 * 12
    assert count_flops(nn.Dropout().eval(), randn(2, 3)).bytes == 0


def test_what_the_paper_does_not_count_is_said(profile: Profile) -> None:
    paper = count_flops(Net().eval(), randn(2, 3, 5, 5), convention="paper")
    assert paper.flops == CONV[0] + CONV[1] + NORM + RELU + HEAD[0]  # no mean, no scale, no bias of the linear layer
    assert paper.uncounted == {"mean": MEAN, "mul": SCALE}
    assert paper.macs == profile.macs
    assert profile.uncounted == {}


@pytest.mark.parametrize(
    ("module", "shape", "flops"),
    [
        (nn.Linear(3, 4), (2, 3), 24),
        (nn.Linear(3, 4), (1, 1, 3), 1),  # as the published counter has it
        (nn.MaxPool2d(2), (1, 3, 5, 5), 75),
        (nn.AdaptiveAvgPool2d(1), (1, 3, 5, 5), 75),
        (nn.PReLU(), (2, 3), 6),
        (nn.Sigmoid(), (2, 3), 0),
        (nn.Softmax(-1), (2, 3), 0),
        (nn.LayerNorm(3), (2, 3), 0),
        (nn.GRU(3, 4), (5, 2, 3), 10 * (3 * 4 * 7 + 24 + 7 * 4)),
    ],
)
def test_the_convention_of_the_paper(module: nn.Module, shape: tuple[int, ...], flops: int) -> None:
    assert count_flops(module.eval(), randn(shape), convention="paper").flops == flops


# --- stages ------------------------------------------------------------------------------------------------------


def count_stages(model: nn.Module, **stages: tuple[Callable[[Tensor], Tensor], Tensor]) -> Profile:
    counter = Counter(model, "exact")
    with torch.inference_mode():
        for stage, (function, x) in stages.items():
            counter.enter_stage(stage)
            with counting(counter):
                function(x)
    return counter.profile()


def test_stages_are_the_whole(profile: Profile) -> None:
    net = Net().eval()
    staged = count_stages(net, begin=(net.begin, randn(2, 3, 5, 5)), end=(net.end, randn(2, 4)))
    assert (staged.macs, staged.flops, staged.params, staged.uncalled) == (
        profile.macs, profile.flops, profile.params, ["spare"],
    )  # fmt: skip
    assert [(stage["name"], stage["flops"]) for stage in staged.stages() if stage["flops"]] == [
        ("begin", FLOPS - 2 * HEAD[0] - HEAD[1] - SCALE),
        ("end", 2 * HEAD[0] + HEAD[1] + SCALE),
    ]
    by_module = staged.by_module()
    assert {name: by_module[name]["params"] for name in PARAMS if name} == {n: p for n, p in PARAMS.items() if n}


def test_a_module_that_both_stages_use_has_its_parameters_once() -> None:
    net = Net().eval()
    twice = count_stages(net, first=(net.end, randn(2, 4)), second=(net.end, randn(2, 4)))
    assert twice.flops == 2 * (2 * HEAD[0] + HEAD[1] + SCALE)
    assert (twice.params, twice.uncalled) == (sum(PARAMS.values()), ["stem.0", "stem.1", "spare"])


def test_a_module_of_which_each_stage_uses_one_parameter() -> None:
    class Halves(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.left, self.right = nn.Parameter(randn(3)), nn.Parameter(randn(3))

        def add_left(self, x: Tensor) -> Tensor:
            return x + self.left

        def add_right(self, x: Tensor) -> Tensor:
            return x + self.right

    model = Halves()
    staged = count_stages(model, left=(model.add_left, randn(3)), right=(model.add_right, randn(3)))
    assert (staged.params, staged.flops, staged.uncalled) == (6, 6, [])
    assert [(row.stage, row.flops, row.params) for row in staged.rows if row.flops] == [("left", 3, 3), ("right", 3, 3)]


def test_unknown_operators_of_stages_are_kept() -> None:
    inverse = (torch.linalg.inv, torch.eye(3))
    staged = count_stages(nn.Identity(), first=inverse, second=(abs, randn(3)), third=inverse)
    assert [(entry.operator, entry.calls) for entry in staged.unknown] == [("aten::linalg_inv_ex", 2)]
