from __future__ import annotations

import pytest
import torch
from hook_counter import count_by_hooks

from baselines.tsn import TSN, fold_segments


def test_published_operations_are_those_of_one_frame() -> None:
    with torch.device("meta"):
        network = TSN()
        assert count_by_hooks(network, torch.empty(1, 1, 3, 224, 224)) == 4_120_082_944
        assert count_by_hooks(network, torch.empty(2, 3, 3, 224, 224)) == 6 * 4_120_082_944


def test_consensus_is_the_mean_of_the_logits_of_single_frames() -> None:
    torch.manual_seed(0)
    network = TSN(classes=(5, 2), width=0.25).eval()
    rgb = torch.randn(2, 3, 3, 40, 33)
    with torch.no_grad():
        groups = network(rgb)
        for group, logits in enumerate(groups):
            frames = [[network(rgb[n, t][None, None])[group][0] for t in range(3)] for n in range(2)]
            torch.testing.assert_close(logits, torch.stack([(a + b + c) / 3 for a, b, c in frames]))
            assert not torch.allclose(frames[0][0], frames[0][1])
    assert [logits.shape for logits in groups] == [(2, 5), (2, 2)]


@pytest.mark.parametrize("shape", [(2, 3, 32, 32), (1, 2, 1, 32, 32), (1, 3, 2, 32, 32)])
def test_other_shapes_are_refused(shape: tuple[int, ...]) -> None:
    with torch.device("meta"), pytest.raises(ValueError, match=r"rgb must have shape \(N, T, 3, H, W\), got"):
        TSN()(torch.empty(shape))


def test_folding_keeps_the_segments_of_a_video_together() -> None:
    clips = torch.arange(6.0).reshape(2, 3, 1, 1, 1)
    assert fold_segments("spectrogram", clips, 1).flatten().tolist() == [0, 1, 2, 3, 4, 5]
