from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from adaptive_models.policies import Shares
from bench.errors import RunError, UsageError
from bench.published.tables import FRAMES, VALIDATION_CLIPS, read_table
from bench.systems.accounting import published_stages
from bench.systems.builtin import registry
from bench.systems.costs import SystemCost, build_model, count_system, cross_check, operating_point
from bench.systems.registry import System

PAPER = ("epic/s0", "epic/s2", "epic/s1-t2", "ucf101/s0-t1")


@pytest.fixture(scope="module")
def paper_costs() -> dict[str, SystemCost]:
    return {name: count_system(registry().find(name), "paper") for name in PAPER}


class Named(nn.Module):
    """Two inputs in another order than they are declared, so that only names can tell them apart."""

    def __init__(self) -> None:
        super().__init__()
        self.wide, self.narrow = nn.Linear(8, 5), nn.Linear(4, 5)

    def forward(self, narrow: Tensor, wide: Tensor) -> Tensor:
        return self.wide(wide) * self.narrow(narrow)


class Wordy(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) if x.sum().item() > -1 else x


class Failing(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        raise self.error  # type: ignore[misc]


# --- fixed systems ---


def test_a_single_input_is_passed_by_position_and_a_call_spread_over_its_frames() -> None:
    cost = count_system(System("my/net", lambda: nn.Linear(10, 5), {"any_name": (10,)}, frames=8))
    assert (cost.profile.macs, cost.profile.flops, cost.profile.params) == (50, 105, 55)
    assert cost.per_frame == 105 / 8
    assert (cost.stages, cost.shares) == (None, None)


def test_several_inputs_are_passed_by_name() -> None:
    cost = count_system(System("my/net", Named, {"wide": (8,), "narrow": (4,)}))
    assert cost.profile.flops == 2 * (40 + 20) + 5 + 5 + 5


def test_a_model_whose_control_flow_needs_values_is_counted_on_data() -> None:
    profile = count_system(System("my/net", lambda: Wordy(10, 5), {"x": (10,)})).profile
    assert (profile.macs, profile.device) == (50, "cpu")
    assert profile.reason


def test_a_builder_that_loads_weights_is_counted_in_silence(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    torch.save(nn.Linear(10, 5).state_dict(), tmp_path / "weights.pt")

    def build() -> nn.Module:
        model = nn.Linear(10, 5)
        model.load_state_dict(torch.load(tmp_path / "weights.pt"))
        assert model.bias.abs().max().item() < 1
        return model

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert count_system(System("my/net", build, {"x": (10,)})).profile.macs == 50
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("id", "flops"),
    [
        ("ucf101/san19-base", "3.75"),
        ("epic/san19-base", "8.64"),
        ("ucf101/tsn-resnet50", "4.12"),
        ("epic/tbn-ra", "4.62"),
        ("epic/tbn-raf", "6.95"),
    ],
)
def test_baselines_give_the_printed_digits(id: str, flops: str) -> None:
    assert f"{count_system(registry().find(id), 'paper').per_frame / 1e9:.2f}" == flops


# --- errors ---


def failing(error: BaseException) -> nn.Module:
    model = Failing(10, 5)
    model.error = error  # type: ignore[assignment]
    return model


@pytest.mark.parametrize("count", [count_system, cross_check])
@pytest.mark.parametrize(
    ("error", "kind"), [(ValueError("too small"), UsageError), (RuntimeError("too small\nand more"), RunError)]
)
def test_what_a_model_raises_names_the_system(error: Exception, kind: type[Exception], count: Any) -> None:
    if count is cross_check:
        pytest.importorskip("bench.counting.crosschecks")
    system = System("my/net", lambda: failing(error), {"x": (10,)})
    with pytest.raises(kind, match=rf"^my/net cannot be run on x 10: {type(error).__name__}: too small$"):
        count(system)


def test_inputs_of_the_wrong_shape_name_the_system() -> None:
    with pytest.raises(RunError, match=r"^my/net cannot be run on x 7: RuntimeError: .*shapes"):
        count_system(System("my/net", lambda: nn.Linear(10, 5), {"x": (7,)}))


def test_what_a_builder_raises_names_the_system() -> None:
    def build() -> nn.Module:
        raise FileNotFoundError("weights.pt")

    with pytest.raises(RunError, match=r"^my/net cannot be built: FileNotFoundError: weights\.pt$"):
        count_system(System("my/net", build, {"x": (10,)}))


@pytest.mark.parametrize(
    ("system", "wanted"),
    [
        (System("my/net", lambda: 3, {"x": (10,)}), "made a int, no Module"),  # type: ignore[arg-type,return-value]
        (System("my/net", nn.ReLU, {"rgb": (3, 224, 224)}, crops=1), "made a ReLU, no AdaptiveSystem"),
    ],
)
def test_a_builder_that_makes_something_else(system: System, wanted: str) -> None:
    with pytest.raises(RunError, match=wanted):
        count_system(system, policy="always-full")


@pytest.mark.parametrize("convention", ["fvcore", "thop", "torch"])
def test_other_libraries_cannot_count_stages(convention: str) -> None:
    with pytest.raises(UsageError, match=f"{convention} counts one call of a module; epic/s0 is adaptive"):
        count_system(registry().find("epic/s0"), convention)


def test_an_adaptive_system_cannot_be_cross_checked() -> None:
    with pytest.raises(UsageError, match="epic/s0 is adaptive"):
        cross_check(registry().find("epic/s0"))


# --- stages ---


@pytest.mark.parametrize("name", PAPER)
def test_stages_add_up_and_every_parameter_counts_once(name: str, paper_costs: dict[str, SystemCost]) -> None:
    cost = paper_costs[name]
    with torch.device("meta"):
        model = build_model(cost.system)
    assert cost.profile.params == sum(parameter.numel() for parameter in model.parameters())
    assert cost.stages is not None
    assert cost.stages.prescan + cost.stages.rest == cost.stages.full == cost.profile.flops
    stages = {stage["name"]: stage["flops"] for stage in cost.profile.stages()}
    assert sum(stages.values()) == cost.profile.flops
    asked = ["scan", "decide", "hallucinate"] if cost.system.max_skip else ["scan"]
    assert list(stages) == [*asked, "look", "classify"]
    assert cost.stages.prescan == sum(stages[stage] for stage in asked)
    assert not cost.profile.unknown
    assert not cost.profile.uncalled


def test_stages_are_what_the_reference_counts(paper_costs: dict[str, SystemCost]) -> None:
    stages = {stage["name"]: stage["flops"] for stage in paper_costs["epic/s1-t2"].profile.stages()}
    low, crop, spectrogram = 892_427_180, 306_022_800, 4_887_976_192
    assert stages["scan"] == 526_042_636  # in the order of execution, where accounting has that of registration
    assert stages["hallucinate"] == 4_536_224
    assert stages["scan"] + stages["look"] == low + crop + spectrogram
    # S_0 only looks at the frame at low resolution; there is nothing to scan for
    alone = {stage["name"]: stage["flops"] for stage in paper_costs["epic/s0"].profile.stages()}
    assert (alone["scan"], alone["look"]) == (0, low + spectrogram)


def test_stages_do_not_depend_on_how_many_frames_may_be_skipped() -> None:
    costs = [count_system(registry().find(f"ucf101/s1-t{m}")) for m in (1, 4)]
    (first, last) = ({stage["name"]: stage["flops"] for stage in cost.profile.stages()} for cost in costs)
    # three more choices: rows of 1024 weights and a bias
    assert last.pop("decide") - first.pop("decide") == 3 * (2 * 1024 + 1)
    assert first == last


@pytest.mark.parametrize("name", ["epic/s1-t2", "ucf101/tsn-resnet50"])
def test_the_exact_count_is_kept_beside_that_of_the_paper(name: str) -> None:
    system = registry().find(name)
    exact = count_system(system, "exact")
    kept = count_system(system, "paper").exact
    assert kept.to_json() == exact.to_json()
    assert kept.stages == exact.stages


def test_plain_data_by_layer_stage_and_operator(paper_costs: dict[str, SystemCost]) -> None:
    cost = paper_costs["epic/s1-t2"]
    by = {grouping: cost.to_json(grouping) for grouping in ("layer", "stage", "op")}
    for data in by.values():
        assert data["stages"].keys() == {"prescan", "rest", "full"}
        assert data["shares"] == {"skip": 14.35, "prescan": 51.58, "full": 34.07}
        assert (data["policy"], data["shares_source"]) == ("published", "Table II")
        assert data["input"] == {"rgb": [3, 224, 224], "spectrogram": [1, 256, 256]}
        mean = 0.5158 * data["stages"]["prescan"] + 0.3407 * data["stages"]["full"]
        assert data["per_frame"]["flops"] == pytest.approx(mean, rel=1e-12)
    for key, rows in (("layer", "layers"), ("stage", "by_stage"), ("op", "ops")):
        assert sum(row["flops"] for row in by[key][rows]) == by[key]["flops"] == cost.profile.flops
    assert by["layer"]["layers"][-1]["cumulative_flops"] == cost.profile.flops


# --- policies ---


def test_published_shares_are_those_of_table_ii() -> None:
    assert operating_point(registry().find("epic/s3-t4")) == (Shares(34.63, 44.52, 20.85), "Table II")


@pytest.mark.parametrize("crops", range(4))
def test_shares_that_table_v_implies_give_its_total_and_average(crops: int) -> None:
    system = registry().find(f"ucf101/s{crops}-t1")
    shares, source = operating_point(system)
    assert (shares.skip, shares.prescan + shares.full) == (0, 100)
    assert "Table V" in source
    stages = published_stages("ucf101", crops)
    per_frame = (shares.prescan * stages.prescan + shares.full * stages.full) / 100
    row = read_table(5)[system.id]
    assert f"{per_frame / 1e9:.2f}" == row["avg_gflops"].text
    assert f"{per_frame * VALIDATION_CLIPS['ucf101'] * FRAMES['ucf101'] / 1e12:.2f}" == row["total_tflops"].text


@pytest.mark.parametrize("id", ["ucf101/s2-t3", "mini/anything"])
def test_where_none_are_published_the_shares_of_the_same_samplers_are_taken_and_it_is_said(id: str) -> None:
    system = System(id, nn.ReLU, {"rgb": (3, 224, 224)}, crops=2, max_skip=3)
    shares, source = operating_point(system)
    assert shares == operating_point(registry().find("epic/s2-t3"))[0]
    assert "epic/s2-t3" in source
    assert f"none are published for {id}" in source


def test_without_a_temporal_sampler_or_by_policy_every_frame_is_full(paper_costs: dict[str, SystemCost]) -> None:
    everything = Shares(0, 0, 100)
    assert paper_costs["epic/s2"].shares == everything
    assert paper_costs["epic/s2"].per_frame == paper_costs["epic/s2"].profile.flops
    assert operating_point(registry().find("epic/s2-t3"), "always-full")[0] == everything


def test_shares_that_nobody_knows() -> None:
    with pytest.raises(UsageError, match="policy 'learned' has no fixed shares"):
        operating_point(registry().find("epic/s2-t3"), "learned")
    own = System("my/s9-t9", nn.ReLU, {"rgb": (3, 224, 224)}, crops=9, max_skip=9)
    with pytest.raises(UsageError, match="no shares are published for my/s9-t9 or for epic/s9-t9"):
        operating_point(own)
