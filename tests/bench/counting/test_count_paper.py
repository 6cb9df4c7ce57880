"""The `paper` convention against numbers that the published implementation gave, and against its rules."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import bench
from adaptive_models import build_backbone
from adaptive_models.hallucinator import Hallucinator
from adaptive_models.ssim import ssim
from adaptive_models.temporal_sampler import TemporalSampler

# Counted by the published implementation at 3x224x224: without and with its rules for subtraction and aggregation.
SAN19_AT_224 = 3_748_779_300
SAN19_AT_224_WITH_ATTENTION = 3_842_104_602


def test_what_the_published_tables_leave_out_of_attention_is_what_we_count_beside_them() -> None:
    with torch.device("meta"):
        net, image = build_backbone("san19").eval(), torch.empty(1, 3, 224, 224)
    profile = bench.count_flops(net, image, convention="paper")
    operators = {row["name"]: row for row in profile.operators()}
    # The published rules: one per element that is subtracted, k*k per aggregated element.
    left_out = operators["sub"]["exact_flops"] + operators["sum"]["macs"]
    assert profile.flops == SAN19_AT_224
    assert profile.flops + left_out == SAN19_AT_224_WITH_ATTENTION


def test_functional_calls_count_nothing_and_are_listed() -> None:
    class Functional(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(2, 3, 1, bias=False)

        def forward(self, x: Tensor) -> Tensor:
            return F.relu(F.conv2d(self.conv(x), torch.ones(3, 1, 1, 1, device=x.device), groups=3))

    profile = bench.count_flops(Functional(), torch.zeros(1, 2, 4, 4), convention="paper")
    assert profile.flops == 16 * 2 * 3  # the layer alone
    assert profile.macs == 16 * 2 * 3 + 16 * 3
    assert profile.uncounted == {"convolution": 2 * 16 * 3, "relu": 16 * 3}


def test_ssim_counts_nothing() -> None:
    maps = torch.rand(1, 32, 7, 7)
    assert bench.count_flops(ssim, maps, maps, convention="paper").flops == 0
    assert bench.count_flops(ssim, maps, maps).flops > 0


def test_hallucinator_and_temporal_sampler_count_what_the_published_implementation_gave() -> None:
    maps = torch.rand(1, 32, 7, 7)
    assert bench.count_flops(Hallucinator(), maps, convention="paper").flops == 4_536_224
    for max_skip in (1, 4):
        sampler = TemporalSampler(max_skip)
        assert bench.count_flops(sampler, maps, maps, torch.rand(1), convention="paper").flops == 19_100_673


def test_an_lstm_counts_ten_per_unit() -> None:
    profile = bench.count_flops(nn.LSTM(3, 5), torch.zeros(4, 2, 3), convention="paper")
    # 8 steps: 4*5*3 + 4*5*5 weights, 2*4*5 biases, 10 per unit.
    assert profile.flops == 8 * (60 + 100 + 40 + 50)
