"""The GRU that takes single steps by a compiled operator: it is torch's GRU, and says so to whoever looks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_sequence

from adaptive_models import native
from adaptive_models.native import inference
from adaptive_models.recurrent import FEW_SEQUENCES, GROUP, GRU, Int8GRU
from bench.counting.count import count_flops

compiled = pytest.mark.skipif(native.operators() is None, reason="no compiled operators here")


def in_double(gru: GRU | Int8GRU) -> nn.GRU:
    kept = nn.GRU(gru.input_size, gru.hidden_size, gru.num_layers, gru.bias, gru.batch_first).double().eval()
    state = gru.state_dict()
    for name in [name for name in state if name.endswith("_scales")]:
        weight = name.removesuffix("_scales")
        scales = state.pop(name).double().repeat_interleave(GROUP, dim=1)
        state[weight] = state[weight].double() * scales[:, : state[weight].shape[1]]
    kept.load_state_dict(state)
    return kept


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The numbers of sequences of the steps that the operator takes."""
    taken: list[int] = []

    def counting(inputs: Tensor, *rest: Any, **out: Tensor) -> None:
        taken.append(len(inputs))
        gru_step(inputs, *rest, **out)

    gru_step = inference.gru_step
    monkeypatch.setattr(inference, "gru_step", counting)
    return taken


@settings(deadline=None, max_examples=60)
@given(
    sequences=st.integers(1, FEW_SEQUENCES),
    inputs=st.integers(1, 70),
    hidden=st.integers(1, 40),
    layers=st.integers(1, 3),
    bias=st.booleans(),
    batch_first=st.booleans(),
    remembers=st.booleans(),
    int8=st.booleans(),
)
def test_steps_are_those_of_torch_in_double_precision(
    sequences: int, inputs: int, hidden: int, layers: int, bias: bool, batch_first: bool, remembers: bool, int8: bool
) -> None:
    torch.manual_seed(0)
    made = GRU(inputs, hidden, layers, bias=bias, batch_first=batch_first).eval()
    gru = Int8GRU(made) if int8 else made
    x = 3 * torch.randn((sequences, 1, inputs) if batch_first else (1, sequences, inputs))
    memory = torch.randn(layers, sequences, hidden) if remembers else None
    with torch.inference_mode():
        found = gru(x, memory)
        true = in_double(gru)(x.double(), None if memory is None else memory.double())
    for own, other in zip(found, true, strict=True):
        torch.testing.assert_close(own.double(), other, rtol=0, atol=2e-6)


@compiled
@pytest.mark.parametrize("threads", [1, 2])
def test_the_operator_takes_a_step_and_leaves_what_it_was_given(steps: list[int], threads: int) -> None:
    gru, x, memory = GRU(5, 6, 2).eval(), torch.randn(1, 3, 10)[..., ::2], torch.randn(3, 2, 6).transpose(0, 1)
    before = x.clone(), memory.clone()
    threads_before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with torch.inference_mode():
            output, after = gru(x, memory)
    finally:
        torch.set_num_threads(threads_before)
    assert steps == [3, 3]
    assert x.equal(before[0])
    assert memory.equal(before[1])
    assert output[0].equal(after[-1])


@compiled
@pytest.mark.parametrize("extreme", [float("nan"), float("inf"), 1e30])
def test_extremes(extreme: float) -> None:
    gru = GRU(3, 4).eval()
    x = torch.zeros(1, 2, 3)
    x[0, 1, 1] = extreme
    with torch.inference_mode():
        torch.testing.assert_close(gru(x)[0].double(), in_double(gru)(x.double())[0], equal_nan=True)


OTHERWISE: dict[str, Callable[[GRU], Any]] = {
    "training": lambda gru: gru.train()(torch.randn(1, 2, 5)),
    "gradients": lambda gru: torch.enable_grad()(gru)(torch.randn(1, 2, 5)),
    "two frames": lambda gru: gru(torch.randn(2, 2, 5)),
    "many sequences": lambda gru: gru(torch.randn(1, FEW_SEQUENCES + 1, 5)),
    "no sequences": lambda gru: gru(torch.randn(1, 0, 5)),
    "no batch": lambda gru: gru(torch.randn(1, 5)),
    "packed": lambda gru: gru(pack_sequence([torch.randn(1, 5)])),
    "double": lambda gru: gru.double()(torch.randn(1, 2, 5).double()),
    "meta": lambda gru: gru.to("meta")(torch.randn(1, 2, 5, device="meta")),
    "counted": lambda gru: count_flops(gru, torch.randn(1, 2, 5)),
    "bidirectional": lambda _: GRU(5, 6, bidirectional=True).eval()(torch.randn(1, 2, 5)),
}


@pytest.mark.parametrize("case", OTHERWISE)
def test_everything_else_is_left_to_torch(steps: list[int], case: str) -> None:
    with torch.no_grad():
        OTHERWISE[case](GRU(5, 6).eval())
    assert steps == []


@pytest.mark.parametrize(("inputs", "memory"), [((1, 2, 4), (1, 2, 6)), ((1, 2, 5), (1, 3, 6)), ((1, 2, 5), (2, 2, 6))])
def test_wrong_shapes_are_torchs_errors(inputs: tuple[int, ...], memory: tuple[int, ...]) -> None:
    gru = GRU(5, 6).eval()
    with pytest.raises(RuntimeError) as theirs, torch.no_grad():
        nn.GRU(5, 6).eval()(torch.randn(inputs), torch.randn(memory))
    with pytest.raises(RuntimeError) as ours, torch.inference_mode():
        gru(torch.randn(inputs), torch.randn(memory))
    assert str(ours.value) == str(theirs.value)


@pytest.mark.parametrize("convention", ["exact", "paper", "thop", "torch", "fvcore"])
def test_it_counts_as_the_layer_that_it_is(convention: str) -> None:
    own, torchs = (
        count_flops(kind(5, 6, 2).eval(), torch.randn(1, 2, 5), convention=convention) for kind in (GRU, nn.GRU)
    )
    assert own.flops == torchs.flops


# --- weights of 8 bits ---


@settings(deadline=None, max_examples=40)
@given(inputs=st.integers(1, 80), size=st.floats(1e-30, 1e30), silent=st.booleans())
def test_weights_are_rounded_to_the_nearest_of_255_steps_of_their_group(inputs: int, size: float, silent: bool) -> None:
    torch.manual_seed(0)
    gru = nn.GRU(inputs, 4)
    with torch.no_grad():
        gru.weight_ih_l0.mul_(size)
        gru.weight_ih_l0[0].mul_(0 if silent else 1)
    kept = Int8GRU(gru).state_dict()
    for name in ("weight_ih_l0", "weight_hh_l0"):
        weights, rounded, scales = getattr(gru, name), kept[name], kept[f"{name}_scales"]
        assert rounded.dtype is torch.int8
        for row in range(silent, 12):
            for group, first in enumerate(range(0, weights.shape[1], GROUP)):
                own, ours = weights[row, first : first + GROUP].double(), rounded[row, first : first + GROUP]
                scale = float(scales[row, group])
                assert scale == pytest.approx(float(own.detach().abs().max()) / 127)
                assert ((ours * scale - own).abs() <= scale * (0.5 + 1e-4)).all()
    assert not kept["weight_ih_l0"][:silent].any()
    assert kept["bias_ih_l0"].equal(gru.bias_ih_l0)


def test_they_are_a_quarter_of_the_bytes_and_their_scales_and_no_parameters() -> None:
    gru = Int8GRU(nn.GRU(256, 128, 2, bias=False))
    weights = 3 * 128 * (256 + 3 * 128)
    assert sum(each.nbytes for each in gru.buffers()) == weights * (1 + 4 / GROUP)
    assert not list(gru.parameters())


@compiled
def test_the_operator_takes_steps_with_them(steps: list[int]) -> None:
    gru = Int8GRU(GRU(5, 6, 2))
    with torch.inference_mode():
        gru(torch.randn(1, 3, 5), torch.randn(2, 3, 6))
    assert steps == [3, 3]


INT8_OTHERWISE: dict[str, Callable[[Int8GRU], Any]] = {
    "gradients": lambda gru: torch.enable_grad()(gru)(torch.randn(1, 2, 5)),
    "two frames": lambda gru: gru(torch.randn(2, 2, 5)),
    "many sequences": lambda gru: gru(torch.randn(1, FEW_SEQUENCES + 1, 5)),
    "counted": lambda gru: count_flops(gru, torch.randn(1, 2, 5)),
    "double": lambda gru: gru.double()(torch.randn(1, 2, 5).double()),
}


def test_scales_of_another_type_are_not_read_as_they_are(steps: list[int]) -> None:
    with torch.inference_mode(), pytest.raises((RuntimeError, ValueError)):
        Int8GRU(GRU(5, 6)).double()(torch.randn(1, 2, 5))
    assert steps == []


@pytest.mark.parametrize("case", INT8_OTHERWISE)
def test_everything_else_widens_them(steps: list[int], case: str) -> None:
    with torch.no_grad():
        INT8_OTHERWISE[case](Int8GRU(GRU(5, 6)))
    assert steps == []


@pytest.mark.parametrize(("batch_first", "bias"), [(False, True), (True, False)])
def test_several_frames_are_those_of_torch(batch_first: bool, bias: bool) -> None:
    gru = Int8GRU(nn.GRU(5, 6, 2, bias, batch_first))
    x, memory = torch.randn(3, 4, 5), torch.randn(2, 3 if batch_first else 4, 6)
    with torch.inference_mode():
        for found, true in zip(gru(x, memory), in_double(gru)(x.double(), memory.double()), strict=True):
            torch.testing.assert_close(found.double(), true, rtol=0, atol=2e-6)
        assert gru(x)[0].equal(gru(x, torch.zeros_like(memory))[0])


def test_with_them_it_counts_as_a_gru() -> None:
    small, whole = (
        count_flops(gru.eval(), torch.randn(1, 2, 5)) for gru in (Int8GRU(nn.GRU(5, 6, 2)), nn.GRU(5, 6, 2))
    )
    assert small.flops == whole.flops
    assert small.operators() == whole.operators()


def test_grus_of_two_directions_are_refused() -> None:
    with pytest.raises(ValueError, match="for GRUs of one direction"):
        Int8GRU(nn.GRU(5, 6, bidirectional=True))
