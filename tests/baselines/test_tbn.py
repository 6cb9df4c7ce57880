from __future__ import annotations

import pytest
import torch
from hook_counter import count_by_hooks
from torch import Tensor

from baselines.tbn import TBN

RGB, FLOW, SPECTROGRAM = 2_049_258_400, 2_324_624_288, 2_573_821_952
HIDDEN_AND_CLASSIFIERS = 512 + 512 * (125 + 352)  # ReLU and the two classifiers


def published_clips(*modalities: str) -> dict[str, Tensor]:
    shapes = {"rgb": (3, 224, 224), "flow": (10, 224, 224), "spectrogram": (1, 256, 256)}
    return {name: torch.empty(1, 1, *shapes[name], device="meta") for name in modalities}


@pytest.mark.parametrize(
    ("modalities", "streams"),
    [
        (("rgb",), RGB),
        (("rgb", "spectrogram"), RGB + SPECTROGRAM),
        (("rgb", "flow", "spectrogram"), RGB + FLOW + SPECTROGRAM),
    ],
)
def test_operations_are_the_streams_and_a_small_head(modalities: tuple[str, ...], streams: int) -> None:
    with torch.device("meta"):
        counted = count_by_hooks(TBN(modalities), **published_clips(*modalities))
    assert counted == streams + 1024 * len(modalities) * 512 + HIDDEN_AND_CLASSIFIERS


def test_logits_for_each_label() -> None:
    with torch.device("meta"):
        clips = {"rgb": torch.empty(2, 3, 3, 64, 32), "spectrogram": torch.empty(2, 3, 1, 32, 64)}
        assert [logits.shape for logits in TBN()(**clips)] == [(2, 125), (2, 352)]
        (logits,) = TBN(classes=(7,))(**clips)
        assert logits.shape == (2, 7)


@pytest.fixture(scope="module")
def small() -> TBN:
    torch.manual_seed(0)
    return TBN(("rgb", "flow"), classes=(4, 3)).eval()


@pytest.fixture(scope="module")
def clips() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return {
        "rgb": torch.randn(2, 2, 3, 32, 32, generator=generator),
        "flow": torch.randn(2, 2, 10, 32, 32, generator=generator),
    }


def test_consensus_is_the_mean_over_single_segments(small: TBN, clips: dict[str, Tensor]) -> None:
    with torch.no_grad():
        single = [small(**{name: clip[:, t : t + 1] for name, clip in clips.items()}) for t in range(2)]
        together = small(**clips)
    for label in range(2):
        expected = (single[0][label] + single[1][label]) / 2
        torch.testing.assert_close(together[label], expected)


def test_features_are_concatenated_in_the_order_of_the_constructor(small: TBN, clips: dict[str, Tensor]) -> None:
    segment = {name: clip[:1, :1] for name, clip in clips.items()}
    with torch.no_grad():
        rgb, flow = (small.backbones[name](segment[name][0]) for name in ("rgb", "flow"))
        weight, bias = small.fusion[0].parameters()
        hidden = (rgb @ weight[:, :1024].T + flow @ weight[:, 1024:].T + bias).clamp(min=0)
        for classifier, logits in zip(small.classifiers, small(flow=segment["flow"], rgb=segment["rgb"]), strict=True):
            torch.testing.assert_close(logits, classifier(hidden))


def test_half_of_the_hidden_units_are_dropped_in_training() -> None:
    fusion = TBN(("rgb",)).fusion
    torch.nn.init.zeros_(fusion.get_parameter("0.weight"))
    torch.nn.init.ones_(fusion.get_parameter("0.bias"))
    torch.manual_seed(0)
    hidden = fusion.train()(torch.zeros(100, 1024))
    assert set(hidden.flatten().tolist()) == {0.0, 2.0}  # what is kept is scaled by 1 / (1 - 0.5)
    assert hidden.mean().item() == pytest.approx(1.0, abs=0.05)
    assert torch.equal(fusion.eval()(torch.zeros(1, 1024)), torch.ones(1, 512))


@pytest.mark.parametrize(
    ("given", "listed"),
    [
        (("rgb",), r"\['rgb'\]"),
        (("rgb", "flow", "spectrogram"), r"\['rgb', 'flow', 'spectrogram'\]"),
        ((), r"\[\]"),
    ],
)
def test_missing_or_surplus_modalities_are_named(given: tuple[str, ...], listed: str) -> None:
    with torch.device("meta"):
        network = TBN()
    with pytest.raises(ValueError, match=rf"takes the modalities \['rgb', 'spectrogram'\], got {listed}$"):
        network(**published_clips(*given))


@pytest.mark.parametrize("modalities", [(), ("rgb", "rgb"), ("rgb", "audio")])
def test_bad_modalities_are_refused_at_construction(modalities: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match=r"out of \['rgb', 'flow', 'spectrogram'\]"):
        TBN(modalities)


def test_wrong_channels_are_refused() -> None:
    with torch.device("meta"), pytest.raises(ValueError, match=r"flow must have shape \(N, T, 10, H, W\)"):
        TBN(("flow",))(flow=torch.empty(1, 1, 2, 224, 224))


def test_different_numbers_of_segments_are_refused() -> None:
    clips = published_clips("rgb", "spectrogram")
    clips["rgb"] = clips["rgb"].repeat(1, 2, 1, 1, 1)
    with torch.device("meta"), pytest.raises(ValueError, match=r"'rgb': \(1, 2\), 'spectrogram': \(1, 1\)"):
        TBN()(**clips)


def test_a_narrow_network_has_an_eighth_of_the_channels_everywhere() -> None:
    network = TBN(("rgb",), classes=(3,), width=0.125)
    assert (network.backbones["rgb"].features, network.fusion[0].out_features) == (128, 64)
    assert [logits.shape for logits in network(rgb=torch.zeros(1, 2, 3, 32, 32))] == [(1, 3)]
