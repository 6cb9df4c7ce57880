from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from adaptive_models import native
from adaptive_models.checkpoints import load_reference
from adaptive_models.recurrent import FEW_SEQUENCES, Int8GRU
from adaptive_models.ssim import ssim
from adaptive_models.temporal_sampler import TemporalSampler, greedy, gumbel


@pytest.fixture
def sampler() -> TemporalSampler:
    torch.manual_seed(0)
    return TemporalSampler(max_skip=3, attention_shape=(4, 3, 3), hidden=16).eval()


def frame(n: int, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    attention, hallucination = torch.rand(2, n, 4, 3, 3, generator=generator)
    return attention, hallucination, ssim(attention, hallucination)


def test_reference_vectors(shared: Path, recipe_weights: Callable[[str], dict[str, Tensor]]) -> None:
    sampler = TemporalSampler(max_skip=3).eval()
    load_reference(sampler, recipe_weights("temporal_sampler_T3"))
    vectors = np.load(shared / "reference" / "temporal_sampler_t3.npz")
    attention, hallucination = (torch.from_numpy(vectors[name]) for name in ("attention", "hallucination"))
    with torch.inference_mode():
        logits, memory = sampler(attention, hallucination, ssim(attention, hallucination))
    np.testing.assert_allclose(logits.numpy(), vectors["logits"], rtol=1e-4, atol=1e-5)
    assert memory.shape == (2, 1, 1024)


def test_parameters_of_the_published_size() -> None:
    # A GRU layer has 3h (inputs + h) weights and 6h biases; inputs are 2 * 32 * 7 * 7 + 1 = 3137.
    with torch.device("meta"):
        sampler = TemporalSampler(max_skip=3)
    expected = 3 * 1024 * (3137 + 1024 + 2) + 3 * 1024 * (1024 + 1024 + 2) + 4 * 1025
    assert sum(parameter.numel() for parameter in sampler.parameters()) == expected


def test_similarity_enters_negated_after_attention_and_hallucination(sampler: TemporalSampler) -> None:
    attention, hallucination, similarity = frame(2)
    inputs = torch.cat([attention.reshape(2, 36), hallucination.reshape(2, 36), -similarity.reshape(2, 1)], 1)
    expected = sampler.fc_out(sampler.rnn(inputs.reshape(2, 1, 73))[0].reshape(2, 16))
    torch.testing.assert_close(sampler(attention, hallucination, similarity)[0], expected)


def test_no_memory_is_a_memory_of_zeros_and_memory_matters(sampler: TemporalSampler) -> None:
    fresh, memory = sampler(*frame(2))
    torch.testing.assert_close(sampler(*frame(2), torch.zeros(2, 2, 16)), (fresh, memory), rtol=0, atol=0)
    assert not torch.allclose(sampler(*frame(2), memory)[0], fresh)


def test_batch_equals_one_by_one(sampler: TemporalSampler) -> None:
    frames = [frame(3, seed) for seed in range(3)]

    def run(videos: slice) -> Tensor:
        memory = None
        for attention, hallucination, similarity in frames:
            logits, memory = sampler(attention[videos], hallucination[videos], similarity[videos], memory)
        return logits

    with torch.inference_mode():
        together, singly = run(slice(None)), torch.cat([run(slice(n, n + 1)) for n in range(3)])
    assert together.shape == (3, 4)
    assert (together - singly).abs().max() <= 1e-6 * singly.abs().max()


@pytest.mark.parametrize(
    ("device", "dtype"), [("meta", torch.float32), ("meta", torch.float16), ("cpu", torch.bfloat16)]
)
def test_meta_device_and_half_precision(sampler: TemporalSampler, device: str, dtype: torch.dtype) -> None:
    network, inputs = sampler.to(device, dtype), [tensor.to(device, dtype) for tensor in frame(2)]
    _, memory = network(*inputs)
    logits, memory = network(*inputs, memory)
    assert (logits.shape, logits.dtype, logits.device.type) == ((2, 4), dtype, device)
    assert memory.shape == (2, 2, 16)
    assert greedy(logits).shape == (2,)


@pytest.mark.parametrize("max_skip", [0, -1])
def test_a_sampler_without_a_choice_is_refused(max_skip: int) -> None:
    with pytest.raises(ValueError, match=f"max_skip .* at least 1, got {max_skip}"):
        TemporalSampler(max_skip)


def test_greedy_takes_the_best_and_the_first_of_equals() -> None:
    choice = greedy(torch.tensor([[0.0, 2.0, 1.0], [3.0, 1.0, 3.0]]))
    assert choice.tolist() == [1, 0]
    assert choice.dtype == torch.int64


def test_gumbel_draws_from_the_softmax_and_repeats_with_its_seed() -> None:
    probabilities = torch.tensor([0.5, 0.3, 0.2, 0.0])
    logits = probabilities.log().expand(20_000, 4)
    choice = gumbel(logits, torch.Generator().manual_seed(0))
    shares = torch.bincount(choice, minlength=4) / len(choice)
    assert shares[3] == 0
    # Standard errors of the shares are at most sqrt(0.25 / 20000) = 0.0035.
    torch.testing.assert_close(shares, probabilities, rtol=0, atol=0.014)
    assert torch.equal(choice, gumbel(logits, torch.Generator().manual_seed(0)))
    assert not torch.equal(choice, gumbel(logits, torch.Generator().manual_seed(1)))


# --- the compiled operator ---

compiled = pytest.mark.skipif(native.operators() is None, reason="no compiled operators here")


@settings(deadline=None, max_examples=60)
@given(
    frames=st.integers(1, FEW_SEQUENCES),
    shape=st.tuples(st.integers(1, 5), st.integers(1, 4), st.integers(1, 4)),
    hidden=st.integers(1, 40),
    layers=st.integers(1, 3),
    max_skip=st.integers(1, 6),
    remembers=st.booleans(),
    int8=st.booleans(),
)
def test_scores_are_those_of_the_layers_in_double_precision(
    frames: int, shape: tuple[int, int, int], hidden: int, layers: int, max_skip: int, remembers: bool, int8: bool
) -> None:
    torch.manual_seed(0)
    sampler = TemporalSampler(max_skip, shape, hidden, layers).eval()
    exact = copy.deepcopy(sampler).double()
    if int8:
        rounded = Int8GRU(sampler.rnn)
        sampler.rnn = rounded  # type: ignore[assignment]
        exact.rnn = Int8GRU(copy.deepcopy(exact.rnn).float())  # type: ignore[assignment]
        exact = exact.double()
    attention, hallucination = torch.rand(2, frames, *reversed(shape)).transpose(2, 4)  # as channels last are
    memory = torch.randn(frames, layers, hidden).transpose(0, 1) if remembers else None
    given = attention, hallucination, torch.rand(frames)
    with torch.inference_mode():
        found = sampler(*given, memory)
        true = exact(*(each.double() for each in given), None if memory is None else memory.double())
    for own, other in zip(found, true, strict=True):
        torch.testing.assert_close(own.double(), other, rtol=0, atol=5e-6)


@compiled
def test_the_operator_scores_in_inference_what_nobody_follows(sampler: TemporalSampler, steps: list[int]) -> None:
    expected = [each.detach() for each in sampler(*frame(2))]
    assert not steps
    with torch.inference_mode():
        found = sampler(*frame(2))
        assert steps == [2]
        torch.testing.assert_close(list(found), expected)  # two roundings, each off by about 1e-7
        calls: list[str] = []
        for layer in (sampler.rnn, sampler.fc_out):
            hook = layer.register_forward_hook(lambda *_: calls.append("hook"))
            sampler(*frame(2))
            hook.remove()
            vars(layer)["forward"] = lambda *args, own=layer.forward: calls.append("method") or own(*args)
            sampler(*frame(2))
            del vars(layer)["forward"]
        assert calls == ["hook", "method"] * 2
        sampler(*frame(FEW_SEQUENCES + 1))
    assert steps == [2]


@compiled
def test_weights_of_the_operator_that_change_are_noticed(sampler: TemporalSampler, steps: list[int]) -> None:
    for weight in (sampler.rnn.weight_ih_l1, sampler.rnn.bias_ih_l0, sampler.fc_out.weight, sampler.fc_out.bias):
        with torch.inference_mode():
            before, _ = sampler(*frame(1))
            weight.mul_(3)
            after, _ = sampler(*frame(1))
        assert not torch.allclose(before, after)
        torch.testing.assert_close(after, sampler(*frame(1))[0].detach())
    sampler.fc_out.weight.data = torch.rand(16, 4).T  # in another order in memory
    with torch.inference_mode():
        after, _ = sampler(*frame(1))
    torch.testing.assert_close(after, sampler(*frame(1))[0].detach())
    assert len(steps) == 9
