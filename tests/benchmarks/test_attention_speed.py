"""Fused attention beside the layers one by one.

Run with `pytest tests/benchmarks/test_attention_speed.py --benchmark-only -s`.
"""

from __future__ import annotations

import pytest
from attention_speed import table
from pytest_benchmark.fixture import BenchmarkFixture

from adaptive_models import native

ROUNDS = 5


@pytest.mark.skipif(native.operators() is None, reason="built without a compiler")
def test_fused_attention_is_as_fast_as_it_must_be(
    benchmark: BenchmarkFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    found = benchmark.pedantic(table, (ROUNDS,), rounds=1)
    with capsys.disabled():
        print(f"\n\n{found.to_string(index=False, float_format='%.3g')}")
    single = found[found.batch == 1].set_index("pixels")
    assert (single.speedup >= 4.5).all()
    assert single.share_of_matrix_product_pct[112] >= 30
    together = found[found.batch == 8].set_index("pixels")
    assert (together.speedup >= 0.95 * single.speedup[together.index]).all()  # no worse, but for noise
    assert (single.strided_speedup >= 1.5).all()
    assert (found[["feature_error", "attention_error", "strided_error"]] <= 2e-5).all(axis=None)
    assert single.fused_mb[224] < single.plain_mb[224] / 2
