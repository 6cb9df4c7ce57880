from __future__ import annotations

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from adaptive_models import native
from adaptive_models.classifier import GRUHead, ThreeHeads
from adaptive_models.recurrent import FEW_SEQUENCES, Int8GRU

CLASSES = (5, 3)


def three_heads(crops: int = 2, audio: int = 4) -> ThreeHeads:
    torch.manual_seed(0)
    return ThreeHeads(6, audio, 7, crops, CLASSES, hidden=16).eval()


def frame(n: int, crops: int = 2, audio: int = 4, seed: int = 0) -> tuple[Tensor, Tensor | None, Tensor | None]:
    generator = torch.Generator().manual_seed(seed)
    return (
        torch.rand(n, 6, generator=generator),
        torch.rand(n, audio, generator=generator) if audio else None,
        torch.rand(n, crops, 7, generator=generator) if crops else None,
    )


@pytest.mark.parametrize(
    ("audio", "crops", "inputs"),
    [
        (2048, 0, [4096]),
        (2048, 1, [4096, 4096, 6144]),
        (2048, 3, [4096, 8192, 10240]),
        (0, 0, [2048]),
        (0, 1, [2048, 2048, 4096]),
        (0, 3, [2048, 6144, 8192]),
    ],
)
def test_inputs_of_the_published_heads(audio: int, crops: int, inputs: list[int]) -> None:
    with torch.device("meta"):
        heads = ThreeHeads(2048, audio, 2048, crops, (125, 352)).heads
    assert [head.rnn.input_size for head in heads.values()] == inputs


def test_each_head_takes_its_own_features() -> None:
    network = three_heads()
    global_features, audio, crops = frame(2)
    local = crops.reshape(2, 14)
    expected = [
        network.heads["global"](torch.cat([global_features, audio], dim=1)),
        network.heads["local"](torch.cat([audio, local], dim=1)),
        network.heads["both"](torch.cat([global_features, audio, local], dim=1)),
    ]
    logits, memory = network.per_head(global_features, audio, crops)
    torch.testing.assert_close(logits, [head_logits for head_logits, _ in expected])
    torch.testing.assert_close(memory, torch.stack([head_memory for _, head_memory in expected]))


def test_logits_are_the_mean_over_heads() -> None:
    network = three_heads()
    (verbs, nouns), memory = network(*frame(2))
    heads, _ = network.per_head(*frame(2))
    assert len(heads) == 3
    torch.testing.assert_close(verbs, (heads[0][0] + heads[1][0] + heads[2][0]) / 3)
    torch.testing.assert_close(nouns, (heads[0][1] + heads[1][1] + heads[2][1]) / 3)
    assert (verbs.shape, nouns.shape, memory.shape) == ((2, 5), (2, 3), (3, 2, 2, 16))


def test_without_crops_the_global_head_is_alone() -> None:
    network = three_heads(crops=0)
    features = frame(2, crops=0)
    (verbs, _), memory = network(*features)
    torch.testing.assert_close(verbs, network.heads["global"](torch.cat(features[:2], dim=1))[0][0])
    assert memory.shape == (1, 2, 2, 16)
    no_crops = torch.empty(2, 0, 7)
    torch.testing.assert_close(network(*features[:2], no_crops)[0][0], verbs, rtol=0, atol=0)


def test_no_memory_is_a_memory_of_zeros_and_memory_matters() -> None:
    network = three_heads()
    fresh, memory = network(*frame(2))
    torch.testing.assert_close(network(*frame(2), torch.zeros(3, 2, 2, 16)), (fresh, memory), rtol=0, atol=0)
    later, _ = network(*frame(2), memory)
    assert not torch.allclose(later[0], fresh[0])


def test_a_gru_over_a_sequence_equals_frame_by_frame() -> None:
    torch.manual_seed(0)
    head = GRUHead(6, CLASSES, hidden=16).eval()
    sequence = torch.rand(2, 4, 6)
    output, last = head.rnn(sequence)
    memory = None
    for t in range(4):
        (verbs, _), memory = head(sequence[:, t], memory)
        torch.testing.assert_close(verbs, head.classifiers[0](output[:, t].clamp(min=0)))
    torch.testing.assert_close(memory, last)


@pytest.mark.parametrize(("crops", "audio"), [(2, 4), (1, 0), (0, 4)])
def test_videos_gathered_from_a_batch_get_what_they_get_alone(crops: int, audio: int) -> None:
    network = three_heads(crops, audio)
    first, second = frame(3, crops, audio), frame(3, crops, audio, seed=1)
    some = torch.tensor([2, 0])

    def pick(features: tuple[Tensor | None, ...], videos: Tensor) -> list[Tensor | None]:
        return [None if tensor is None else tensor[videos] for tensor in features]

    with torch.inference_mode():
        _, memory = network(*first)
        (verbs, nouns), gathered = network(*pick(second, some), memory[:, :, some])
        for row, video in enumerate(some):
            _, alone = network(*pick(first, video[None]))
            expected, alone = network(*pick(second, video[None]), alone)
            for got, want in (
                (verbs[row], expected[0][0]),
                (nouns[row], expected[1][0]),
                (gathered[:, :, row], alone[:, :, 0]),
            ):
                assert (got - want).abs().max() <= 1e-6 * want.abs().max()


def test_dropout_only_in_training() -> None:
    head = GRUHead(6, CLASSES, hidden=64)
    features = torch.rand(2, 6)
    assert not torch.equal(head(features)[0][0], head(features)[0][0])
    head.eval()
    assert torch.equal(head(features)[0][0], head(features)[0][0])


@pytest.mark.parametrize(
    ("device", "dtype"), [("meta", torch.float32), ("meta", torch.float16), ("cpu", torch.bfloat16)]
)
def test_meta_device_and_half_precision(device: str, dtype: torch.dtype) -> None:
    network, features = three_heads().to(device, dtype), [tensor.to(device, dtype) for tensor in frame(2)]
    _, memory = network(*features)
    (verbs, _), memory = network(*features, memory)
    assert (verbs.shape, verbs.dtype, verbs.device.type) == ((2, 5), dtype, device)
    assert (memory.shape, memory.dtype) == ((3, 2, 2, 16), dtype)


@pytest.mark.parametrize(
    ("features", "message"),
    [
        ((torch.zeros(2, 6), None, torch.zeros(2, 2, 7)), r"audio features of 4 values .* \(2, 0\)"),
        (
            (torch.zeros(2, 6), torch.zeros(2, 4), torch.zeros(2, 3, 7)),
            r"crop features of 14 values .* \(2, 21\)",
        ),
        (
            (torch.zeros(2, 5), torch.zeros(2, 4), torch.zeros(2, 2, 7)),
            r"global features of 6 values .* \(2, 5\)",
        ),
    ],
)
def test_wrong_features_are_named(features: tuple[Tensor | None, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        three_heads()(*features)


# --- the compiled operator ---

compiled = pytest.mark.skipif(native.operators() is None, reason="no compiled operators here")


@settings(deadline=None, max_examples=60)
@given(
    frames=st.integers(1, FEW_SEQUENCES + 1),
    inputs=st.integers(1, 50),
    classes=st.lists(st.integers(1, 30), min_size=1, max_size=3),
    hidden=st.integers(1, 40),
    layers=st.integers(1, 3),
    remembers=st.booleans(),
    int8=st.booleans(),
)
def test_logits_of_a_head_are_those_of_its_layers_in_double_precision(
    frames: int, inputs: int, classes: list[int], hidden: int, layers: int, remembers: bool, int8: bool
) -> None:
    torch.manual_seed(0)
    head = GRUHead(inputs, tuple(classes), hidden, layers).eval()
    exact = copy.deepcopy(head).double()
    if int8:
        rounded = Int8GRU(head.rnn)
        head.rnn = rounded  # type: ignore[assignment]
        exact.rnn = Int8GRU(copy.deepcopy(exact.rnn).float())  # type: ignore[assignment]
        exact = exact.double()
    features = torch.randn(inputs, frames).T
    memory = torch.randn(frames, layers, hidden).transpose(0, 1) if remembers else None
    with torch.inference_mode():
        logits, following = head(features, memory)
        true, true_following = exact(features.double(), None if memory is None else memory.double())
    assert [group.shape for group in logits] == [(frames, count) for count in classes]
    for own, other in zip((*logits, following), (*true, true_following), strict=True):
        torch.testing.assert_close(own.double(), other, rtol=0, atol=5e-6)


@compiled
def test_the_operator_takes_frames_in_inference_that_nobody_follows(steps: list[int]) -> None:
    head = GRUHead(6, CLASSES, hidden=16).eval()
    features, expected = torch.randn(2, 6), []
    expected = [group.detach() for group in head(features)[0]]
    assert not steps
    with torch.inference_mode():
        torch.testing.assert_close(list(head(features)[0]), expected)
        assert steps == [2]
        calls: list[str] = []
        for layer in (head.rnn, head.relu, head.classifiers[1]):
            hook = layer.register_forward_hook(lambda *_: calls.append("hook"))
            head(features)
            hook.remove()
        assert calls == ["hook"] * 3
        head.train()
        head(features)
        head.eval()
        head(torch.randn(FEW_SEQUENCES + 1, 6))
    assert steps == [2]


@compiled
def test_weights_of_a_head_that_change_are_noticed(steps: list[int]) -> None:
    head, features = GRUHead(6, CLASSES, hidden=16).eval(), torch.randn(1, 6)
    for weight in (head.rnn.weight_ih_l1, head.classifiers[0].weight, head.classifiers[1].bias):
        with torch.inference_mode():
            before = torch.cat(head(features)[0], dim=1)
            weight.mul_(3)
            after = torch.cat(head(features)[0], dim=1)
        assert not torch.allclose(before, after)
        torch.testing.assert_close(after, torch.cat(head(features)[0], dim=1).detach())
    assert len(steps) == 6


@compiled
def test_layers_that_the_operator_does_not_know_run_themselves(steps: list[int]) -> None:
    head, features = GRUHead(6, (5,), hidden=16).eval(), torch.randn(1, 6)
    head.classifiers[0] = torch.nn.Linear(16, 5, bias=False)
    with torch.inference_mode():
        assert head(features)[0][0].shape == (1, 5)
        head.classifiers[0] = torch.nn.Linear(8, 5)
        with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
            head(features)
    assert not steps
