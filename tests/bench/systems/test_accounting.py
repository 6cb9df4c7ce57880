from __future__ import annotations

import pytest

from bench.published.tables import read_table
from bench.systems.accounting import published_spatial, published_stages


def printed_gflops(table: int, system: str) -> str:
    return read_table(table)[system]["avg_gflops"].text


@pytest.mark.parametrize("crops", range(4))
@pytest.mark.parametrize(("workload", "table"), [("epic", 1), ("ucf101", 4)])
def test_spatial_samplers_give_the_digits_of_tables_i_and_iv(workload: str, table: int, crops: int) -> None:
    assert f"{published_spatial(workload, crops) / 1e9:.2f}" == printed_gflops(table, f"{workload}/s{crops}")


def test_spatial_samplers_are_their_networks_and_three_heads() -> None:
    # counted by the reference: SAN19 at 112, 64, and on a spectrogram
    low, crop, spectrogram = 892_427_180, 306_022_800, 4_887_976_192

    def gru(features: int, layers: int) -> int:
        first = 3 * 1024 * (features + 1024) + 13 * 1024
        return first + (layers - 1) * (3 * 1024 * 2048 + 13 * 1024)

    assert published_spatial("epic", 0) == low + spectrogram + gru(4096, 2)
    heads = gru(4096, 2) + gru(2048 + 3 * 2048, 2) + gru(4096 + 3 * 2048, 2)
    assert published_spatial("epic", 3) == low + spectrogram + 3 * crop + heads
    assert published_spatial("ucf101", 2) == low + 2 * crop + gru(2048, 1) + gru(4096, 1) + gru(6144, 1)


def test_a_prescan_is_the_registered_first_half_the_hallucinator_and_the_sampler() -> None:
    for workload in ("epic", "ucf101"):
        for crops in range(4):
            assert published_stages(workload, crops).prescan == 523_533_836 + 4_536_224 + 19_100_673


def test_full_frames_have_a_single_head() -> None:
    full = [published_stages("epic", crops).full / 1e9 for crops in range(4)]
    assert [f"{gflops:.4f}" for gflops in full[1:]] == ["6.1384", "6.4507", "6.7630"]
    # Table II prints the total of S_0, which has neither sampler nor hallucinator: 5.80 GFLOPs per frame
    assert full[0] - (4_536_224 + 19_100_673) / 1e9 == pytest.approx(published_spatial("epic", 0) / 1e9, abs=1e-9)


@pytest.mark.parametrize("max_skip", range(1, 5))
@pytest.mark.parametrize("crops", range(4))
def test_stages_and_printed_shares_give_the_averages_of_table_ii(crops: int, max_skip: int) -> None:
    row = read_table(2)[f"epic/s{crops}-t{max_skip}"]
    shares = {name: float(row[f"{name}_pct"].value) for name in ("prescan", "full")}
    average = published_stages("epic", crops).per_frame(shares) / 1e9
    assert average == pytest.approx(float(row["avg_gflops"].value), abs=0.01)
