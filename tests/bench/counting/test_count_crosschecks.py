"""The counts of other libraries, as these libraries make them, and the reasons why ours differ."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable

import pytest
import thop
import torch
import torch.nn.functional as F
from fvcore.nn import FlopCountAnalysis
from test_count_side_effects import Restless, assert_same, process_state, state_of
from torch import Tensor, nn, randn
from torch.utils.flop_counter import FlopCounterMode

from adaptive_models import build_backbone
from bench import count_flops
from bench.counting.crosschecks import Difference, compare, count_with


def by_fvcore(model: nn.Module, x: Tensor) -> int:
    return FlopCountAnalysis(model, x).unsupported_ops_warnings(False).uncalled_modules_warnings(False).total()


def by_thop(model: nn.Module, x: Tensor) -> float:
    return thop.profile(model, (x,), verbose=False)[0]


def by_torch(model: nn.Module, x: Tensor) -> int:
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(x)
    return counter.get_total_flops()


LIBRARIES = {"fvcore": by_fvcore, "thop": by_thop, "torch": by_torch}
MODELS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "san19": (lambda: build_backbone("san19"), (1, 3, 64, 64)),
    "gru": (lambda: nn.Sequential(nn.GRU(3, 4)), (5, 2, 3)),
    "transformer": (
        lambda: nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), 2),
        (3, 5, 8),
    ),
}


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("name", MODELS)
def test_the_figure_is_what_the_library_itself_gives(library: str, name: str) -> None:
    build, shape = MODELS[name]
    model, x = build().eval(), randn(shape)
    with torch.no_grad():
        expected = LIBRARIES[library](model, x)
    profile = count_with(library, model, x)
    assert profile.flops == expected
    assert profile.macs == (expected / 2 if library == "torch" else expected)
    assert (profile.convention, profile.device) == (library, "cpu")
    assert profile.params == sum(p.numel() for p in model.parameters())
    assert {row.name for row in profile.rows} <= dict(model.named_modules()).keys()
    assert count_flops(model, x, convention=library).flops == expected


def reasons(differences: list[Difference], library: str) -> Counter[tuple[str, str]]:
    return Counter((d.type, d.reason.removeprefix(f"{library} ")) for d in differences if d.library == library)


NORMALISATION = "takes normalisation for multiply-accumulates, 2 per element, 4 with weight and bias"


def test_differences_of_san19_are_explained() -> None:
    model, x = build_backbone("san19").eval(), randn(1, 3, 64, 64)
    differences = compare(model, x)
    norms = 6 + 4 * 19  # bn_in, one per stage, and four in each block
    expected = {
        "fvcore": {
            ("BatchNorm2d", "takes the operations of batch_norm for multiply-accumulates"): norms,
            ("AdaptiveAvgPool2d", "takes the operations of adaptive_avg_pool2d for multiply-accumulates"): 1,
        },
        "thop": {
            ("BatchNorm2d", NORMALISATION): norms,
            ("AdaptiveAvgPool2d", "takes the operations of AdaptiveAvgPool2d for multiply-accumulates"): 1,
            ("SelfAttention", "counts layers that it knows, and not what SelfAttention computes itself"): 19,
        },
        "torch": {},
    }
    ours = count_flops(model, x).macs
    for library, layers in expected.items():
        found = reasons(differences, library)
        # Whether fvcore and torch see the aggregation depends on how it is written.
        assert {key: n for key, n in found.items() if key[0] != "SelfAttention" or library == "thop"} == layers
        unexplained = ours - count_with(library, model, x).macs
        assert unexplained == sum(d.ours - d.theirs for d in differences if d.library == library)


def test_differences_of_recurrent_layers_are_explained() -> None:
    gru = {
        (d.library, d.layer): (d.ours, d.theirs, d.reason) for d in compare(nn.Sequential(nn.GRU(3, 4)), randn(5, 2, 3))
    }
    assert gru == {
        ("fvcore", "0"): (840, 0, "fvcore has no formula for aten::gru"),
        # 10 steps of biases (24) and 7 of the 10 operations of the gates of each of 4 units
        ("thop", "0"): (840, 840 + 10 * (24 + 28), "thop adds biases and gates to the products of recurrent layers"),
    }


def test_differences_of_a_transformer_are_explained() -> None:
    build, shape = MODELS["transformer"]
    differences = compare(build().eval(), randn(shape))
    assert reasons(differences, "fvcore") == {
        ("LayerNorm", "takes the operations of layer_norm for multiply-accumulates"): 4,
        ("MultiheadAttention", "has no formula for aten::_native_multi_head_attention"): 2,
    }
    assert reasons(differences, "thop") == {
        ("LayerNorm", NORMALISATION): 4,
        ("MultiheadAttention", "counts layers that it knows, and not what MultiheadAttention computes itself"): 2,
    }
    # its fast path is one operator, of which torch's own counter sees nothing
    assert reasons(differences, "torch") == {
        ("Linear", "has no formula for the operator that ran the matrix products"): 4,
        ("MultiheadAttention", "has no formula for the operator that ran the matrix products and attention"): 2,
    }


def test_other_differences_are_explained() -> None:
    model = nn.Sequential(
        nn.ConvTranspose2d(3, 4, 3), nn.Upsample(scale_factor=2, mode="bilinear"), nn.InstanceNorm2d(4)
    )
    thops = reasons(compare(model, randn(1, 3, 5, 5)), "thop")
    assert thops == {
        ("ConvTranspose2d", "counts a transposed convolution by its outputs, not its inputs"): 1,
        ("Upsample", "takes the operations of Upsample for multiply-accumulates"): 1,
        ("InstanceNorm2d", NORMALISATION): 1,
    }
    einsum = compare(lambda a, b: torch.einsum("abc,cd->abd", a, b), randn(17, 13, 11), randn(11, 7))
    assert [(d.layer, d.ours, d.reason) for d in einsum if d.library == "fvcore"] == [
        ("", 17 * 13 * 11 * 7, "fvcore knows einsum to few digits")
    ]
    q = torch.empty(2, 3, 5, 4, device="meta")
    causal = compare(lambda q: F.scaled_dot_product_attention(q, q, q, is_causal=True), q)
    assert [(d.ours, d.theirs, d.reason) for d in causal if d.library == "torch"] == [
        (6 * 15 * 8, 6 * 25 * 8, "torch counts all pairs of query and key, also those that a causal mask hides")
    ]


def test_where_all_agree_there_is_no_difference() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(36, 2))
    assert compare(model, randn(2, 3, 5, 5)) == []
    shared = nn.Linear(3, 3)
    assert compare(nn.Sequential(shared, nn.ReLU(), shared), randn(2, 3)) == []


def test_methods_keywords_and_structures() -> None:
    model = build_backbone("san10").eval()
    for library in LIBRARIES:
        profile = count_with(library, model.prescan, randn(1, 3, 64, 64))
        assert 0 < profile.macs < count_with(library, model, randn(1, 3, 64, 64)).macs

        class Keywords(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.layer = nn.Linear(3, 4)

            def forward(self, batch: dict[str, Tensor], *, times: int) -> Tensor:
                return self.layer(batch["x"]) * times

        profile = count_with(library, Keywords(), {"x": randn(2, 3)}, times=2)
        assert [(row.name, row.macs) for row in profile.rows] == [("layer", 24)]


@pytest.mark.parametrize("library", LIBRARIES)
def test_everything_is_as_before(library: str, capfd: pytest.CaptureFixture[str]) -> None:
    model, x = Restless().train(), randn(4, 3)
    model_before, process_before, x_before = state_of(model), process_state(), x.clone()
    assert count_with(library, model, x).macs > 0
    assert_same(process_before, process_state())
    assert_same(model_before, state_of(model))
    assert torch.equal(x, x_before)
    assert capfd.readouterr() == ("", "")


def test_an_unknown_library_is_refused() -> None:
    with pytest.raises(ValueError, match="unknown library 'ptflops': use one of fvcore, thop, torch"):
        count_with("ptflops", nn.Linear(3, 4), randn(2, 3))


def test_a_library_that_fails_is_named_with_the_cause() -> None:
    class Untraceable(nn.Module):
        def forward(self, x: Tensor) -> object:
            return object() if torch.jit.is_tracing() else x @ x

    with pytest.raises(RuntimeError, match=re.compile("^fvcore cannot count this model: .+")):
        count_with("fvcore", Untraceable(), randn(3, 3))
    differences = [d for d in compare(Untraceable(), randn(3, 3)) if d.library == "fvcore"]
    assert len(differences) == 1
    assert (differences[0].layer, differences[0].ours, differences[0].theirs) == ("", 27, 0)
    assert differences[0].reason.startswith("fvcore cannot count this model: ")
    with pytest.raises(RuntimeError, match="torch cannot count this model: RuntimeError: mat1 and mat2 shapes"):
        count_with("torch", nn.Linear(3, 4), randn(2, 5))
