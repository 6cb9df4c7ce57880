from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from adaptive_models import build_backbone
from adaptive_models.san import SAN, Bottleneck
from bench import System, count_flops
from bench.guards.exact import Fingerprint, Layer, differences, fingerprint, fingerprint_of_call, shortened, totals
from bench.systems.builtin import registry
from bench.systems.costs import count_system

IMAGE = torch.zeros(1, 3, 224, 224)


def fingerprint_of(model: nn.Module, *inputs: torch.Tensor) -> Fingerprint:
    return fingerprint_of_call(count_flops(model.eval(), *inputs, convention="paper"), "x")


def changed_san19(change: Callable[[SAN], None]) -> Fingerprint:
    model = build_backbone("san19")
    change(model)
    return fingerprint_of(model, IMAGE)


@pytest.fixture(scope="module")
def san19() -> Fingerprint:
    return changed_san19(lambda model: None)


def test_layers_hold_the_numbers_of_both_conventions() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Dropout(), nn.ReLU())
    macs, outputs = 4 * 3 * 9 * 36, 4 * 36  # of a 3x3 kernel from 8x8 to 6x6
    assert fingerprint_of(model, torch.zeros(1, 3, 8, 8)).layers == [
        Layer("", "0", "Conv2d", macs, 2 * macs + outputs, macs + outputs, 4 * 3 * 9 + 4, outputs),
        Layer("", "2", "ReLU", 0, outputs, outputs, 0, 0),
    ]


def test_nothing_differs_between_two_builds(san19: Fingerprint) -> None:
    again = changed_san19(lambda model: None)
    assert differences(san19, again) == totals(san19, again) == []


def test_a_kernel_size_is_named_with_both_counts(san19: Fingerprint) -> None:
    def widen(model: SAN) -> None:
        model.conv2 = nn.Conv2d(256, 512, 3, padding=1, bias=False)

    macs, weights = 256 * 512 * 28 * 28, 256 * 512
    assert differences(san19, changed_san19(widen)) == [
        f"conv2: {macs:,} -> {9 * macs:,} MACs, {weights:,} -> {9 * weights:,} parameters"
    ]


def test_a_kernel_size_of_self_attention_is_named_before_what_follows_from_it(san19: Fingerprint) -> None:
    def narrow(model: SAN) -> None:
        model.layer2[1].sam.kernel_size = 5

    values, pixels = 128, 28 * 28
    was, now = (size**2 * values * pixels for size in (7, 5))
    lines = differences(san19, changed_san19(narrow))
    assert lines[0] == f"layer2.1.sam: {was:,} -> {now:,} MACs"
    assert [line.partition(":")[0] for line in lines[1:]] == [f"layer2.1.sam.weigh.{layer}" for layer in range(6)]


def test_a_channel_count_is_named_before_what_follows_from_it(san19: Fingerprint) -> None:
    def widen(model: SAN) -> None:
        weigh = model.layer1[0].sam.weigh
        weigh[2], weigh[3], weigh[5] = nn.Conv2d(18, 32, 1, bias=False), nn.BatchNorm2d(32), nn.Conv2d(32, 8, 1)

    places = 49 * 56 * 56
    lines = differences(san19, changed_san19(widen))
    assert lines[0] == (
        f"layer1.0.sam.weigh.2: {18 * 16 * places:,} -> {18 * 32 * places:,} MACs, {18 * 16} -> {18 * 32} parameters"
    )
    assert [line.partition(":")[0] for line in lines[1:]] == [f"layer1.0.sam.weigh.{layer}" for layer in (3, 4, 5)]


def test_a_skipped_layer_is_named(san19: Fingerprint) -> None:
    def skip(model: SAN) -> None:
        model.layer2[1].bn2 = nn.Identity()

    elements = 128 * 28 * 28
    assert differences(san19, changed_san19(skip)) == [
        f"layer2.1.bn2: {2 * elements:,} -> 0 operations (exact), 256 -> 0 parameters (no longer runs)"
    ]


def skip_by_identity(model: SAN) -> None:
    model.layer2[1] = nn.Identity()


def skip_in_forward(model: SAN) -> None:
    model._order = tuple(step for step in model._order if step != "layer2.1")


@pytest.mark.parametrize("skip", [skip_by_identity, skip_in_forward])
def test_a_skipped_block_is_one_line(san19: Fingerprint, skip: Callable[[SAN], None]) -> None:
    block = count_flops(build_backbone("san19").layer2[1].eval(), torch.zeros(1, 512, 28, 28))
    (line,) = differences(san19, changed_san19(skip))
    layers = {row.name for row in block.rows if row.flops}
    assert line.startswith(f"layer2.1: {block.macs:,} -> 0 MACs")
    assert line.endswith(f"(no longer runs, with its {len(layers)} layers)")


def test_a_new_block_is_one_line(san19: Fingerprint) -> None:
    def lengthen(model: SAN) -> None:
        model.avgpool = nn.Sequential(Bottleneck(2048, 7, "pairwise"), First(), model.avgpool)

    lines = differences(san19, changed_san19(lengthen))
    assert lines[0].startswith("avgpool.0: 0 -> ")
    assert "(new, with its" in lines[0]


class First(nn.Module):
    def forward(self, both: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
        return both[0]


def test_the_first_cause_comes_first_though_a_shared_layer_runs_earlier_too(san19: Fingerprint) -> None:
    def widen(model: SAN) -> None:
        model.conv2 = nn.Conv2d(256, 544, 1, bias=False)
        model.layer2 = nn.Sequential(*(Bottleneck(544, 7, "pairwise") for _ in range(4)))
        model.bn2 = nn.BatchNorm2d(544)
        model.conv3 = nn.Conv2d(544, 1024, 1, bias=False)

    lines = differences(san19, changed_san19(widen))
    assert lines[0].startswith("conv2: 102,760,448 -> 109,182,976 MACs")
    assert lines[1].startswith("layer2.0.bn1: ")
    assert any(line.startswith("relu: ") for line in lines)
    assert shortened(lines) == [*lines[:10], f"and {len(lines) - 10} more"]


def test_totals_are_in_per_cent(san19: Fingerprint) -> None:
    half = replace(san19, layers=[Layer("", "a", "Linear", 50, 100, 50, 50, 5)])
    whole = replace(san19, layers=[Layer("", "a", "Linear", 100, 200, 100, 100, 10)])
    assert totals(half, whole) == ["in all: 50 -> 100 (+100 %) MACs, 50 -> 100 (+100 %) parameters"]


@given(data=st.data())
def test_any_number_that_changes_is_told(data: st.DataObject, san19: Fingerprint) -> None:
    index = data.draw(st.integers(0, len(san19.layers) - 1))
    number = data.draw(st.sampled_from(Layer._fields[3:]))
    layer = san19.layers[index]
    value = data.draw(st.integers(0, 10**12).filter(lambda value: value != getattr(layer, number)))
    layers = [*san19.layers[:index], layer._replace(**{number: value}), *san19.layers[index + 1 :]]
    (line,) = differences(san19, replace(san19, layers=layers))
    name = line.partition(":")[0]
    assert layer.name == name or layer.name.startswith(f"{name}.")


def two_layers(*layers: Layer) -> Fingerprint:
    return Fingerprint("x", "", None, [], [], list(layers))


def test_the_order_and_type_of_layers_cost_nothing() -> None:
    convolution, linear = Layer("", "a", "Conv2d", 9, 9, 9, 9, 9), Layer("", "b", "Linear", 8, 8, 8, 8, 8)
    assert differences(two_layers(convolution, linear), two_layers(linear, convolution._replace(type="Own"))) == []


def test_a_layer_that_moves_to_another_stage_is_told() -> None:
    looked, scanned = Layer("look", "a", "Conv2d", 9, 9, 9, 9, 9), Layer("scan", "b", "Linear", 8, 8, 8, 8, 8)
    old, new = two_layers(scanned, looked), two_layers(scanned, looked._replace(stage="scan"))
    assert differences(old, new) == ["a: the same in all, at another place in the call"]
    assert totals(old, new) == [
        "stage scan: 8 -> 17 (+112 %) MACs, 8 -> 17 (+112 %) parameters",
        "stage look: 9 -> 0 (-100 %) MACs, 9 -> 0 (-100 %) parameters",
    ]


def test_inputs_and_operators_without_a_formula_are_told(san19: Fingerprint) -> None:
    other = replace(san19, inputs="rgb 3x112x112", unknown=["fc: mylib.op"])
    assert differences(san19, other) == ["inputs: x -> rgb 3x112x112", "operator without a formula, in fc: mylib.op"]
    assert differences(other, san19)[1] == "no longer without a formula, fc: mylib.op"


def test_decisions_of_the_published_policy_have_its_shares() -> None:
    found = fingerprint(registry().find("epic/s3-t4"))
    frames = "".join(found.decisions)
    assert found.shares is not None
    assert {len(video) for video in found.decisions} == {10}
    assert 100 * frames.count(".") / len(frames) == pytest.approx(found.shares["skip"], abs=2)
    assert 100 * frames.count("0") / len(frames) == pytest.approx(found.shares["full"], abs=2)


def test_decisions_and_shares_that_change_are_told() -> None:
    old = Fingerprint("x", "published", {"skip": 10.0, "prescan": 40.0, "full": 50.0}, ["02.", "010"], [], [])
    new = replace(old, shares={"skip": 0.0, "prescan": 50.0, "full": 50.0}, decisions=["02.", "011"])
    assert differences(old, new) == [
        "shares of frames: skip 10 %, prescan 40 %, full 50 % (published)"
        " -> skip 0 %, prescan 50 %, full 50 % (published)",
        "decisions: 1 of 16 videos, the first is video 1: 010 -> 011",
    ]


def test_stages_of_an_adaptive_system_and_its_frames_have_totals(small_system: System) -> None:
    old = fingerprint(small_system)
    full = replace(old, shares={"skip": 0.0, "prescan": 0.0, "full": 100.0})
    assert full.weighed == count_system(small_system, "exact", "always-full").per_frame
    layers = [
        layer._replace(exact=layer.exact + 7) if layer.name == "low_rgb.conv_in" else layer for layer in old.layers
    ]
    lines = totals(full, replace(full, layers=layers))
    assert [line.partition(":")[0] for line in lines] == ["stage scan", "in all", "at the operating point"]


def test_a_system_of_which_nothing_is_published_is_full_at_every_frame(small_system: System) -> None:
    found = fingerprint(replace(small_system, id="small/s7-t3", crops=7))
    assert (found.policy, found.decisions) == ("always-full", [])
    assert found.shares == {"skip": 0, "prescan": 0, "full": 100}
