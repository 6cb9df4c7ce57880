from __future__ import annotations

import pytest
import torch
from hook_counter import count_by_hooks
from torch import Tensor

from adaptive_models import build_backbone
from baselines.san_base import SANBase

# counted by the reference, without classifiers
RGB, SPECTROGRAM = 3_748_779_300, 4_887_976_192


@pytest.fixture(scope="module")
def small() -> SANBase:
    torch.manual_seed(0)
    return SANBase((4, 3), audio=True, hidden=8, backbone="san10").eval()


@pytest.fixture(scope="module")
def clips() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return {
        "rgb": torch.randn(2, 2, 3, 32, 32, generator=generator),
        "spectrogram": torch.randn(2, 2, 1, 48, 32, generator=generator),
    }


def test_operations_are_those_of_its_networks_and_linear_layers() -> None:
    with torch.device("meta"):
        rgb, spectrogram = torch.empty(1, 1, 3, 224, 224), torch.empty(1, 1, 1, 256, 256)
        both = count_by_hooks(SANBase((125, 352), audio=True, hidden=512).eval(), rgb, spectrogram)
        alone = count_by_hooks(SANBase((101,), audio=False, hidden=None).eval(), rgb)
    assert both == RGB + SPECTROGRAM + 4096 * 512 + 512 + 512 * (125 + 352)
    assert alone == RGB + 2048 * 101


def test_features_of_frame_and_sound_are_concatenated_in_that_order(small: SANBase, clips: dict[str, Tensor]) -> None:
    rgb, spectrogram = (clip[:1, :1] for clip in clips.values())
    with torch.no_grad():
        features = small.backbones["rgb"](rgb[0]), small.backbones["spectrogram"](spectrogram[0])
        weight, bias = small.fusion.parameters()
        hidden = (features[0] @ weight[:, :2048].T + features[1] @ weight[:, 2048:].T + bias).clamp(min=0)
        for classifier, logits in zip(small.classifiers, small(rgb, spectrogram), strict=True):
            torch.testing.assert_close(logits, classifier(hidden))


def test_logits_are_averaged_over_segments(small: SANBase, clips: dict[str, Tensor]) -> None:
    with torch.no_grad():
        together = small(**clips)
        single = [small(**{name: clip[:, t : t + 1] for name, clip in clips.items()}) for t in range(2)]
    assert [logits.shape for logits in together] == [(2, 4), (2, 3)]
    for label, logits in enumerate(together):
        torch.testing.assert_close(logits, (single[0][label] + single[1][label]) / 2)


def test_without_sound_and_fusion_it_is_a_linear_layer_on_the_backbone() -> None:
    torch.manual_seed(0)
    model = SANBase((5,), audio=False, hidden=None, backbone="san10").eval()
    backbone = build_backbone("san10").eval()
    backbone.load_state_dict(model.backbones["rgb"].state_dict())
    image = torch.randn(1, 3, 32, 32)
    with torch.no_grad():
        (logits,) = model(image[None])
        torch.testing.assert_close(logits, model.classifiers[0](backbone(image)))


def test_wrong_clips_are_named(small: SANBase, clips: dict[str, Tensor]) -> None:
    rgb, spectrogram = clips.values()
    with pytest.raises(ValueError, match=r"takes rgb and spectrogram, got rgb$"):
        small(rgb)
    with torch.device("meta"), pytest.raises(ValueError, match="takes rgb, got rgb and spectrogram"):
        SANBase((5,), audio=False, hidden=None)(rgb, spectrogram)
    with pytest.raises(ValueError, match=r"rgb must have shape \(N, T, 3, H, W\), got \(2, 2, 1, 48, 32\)"):
        small(spectrogram, spectrogram)
    with pytest.raises(ValueError, match=r"agree in videos and segments \(N, T\), got \(2, 2\) and \(4, 1\)"):
        small(rgb, spectrogram.flatten(0, 1)[:, None])
