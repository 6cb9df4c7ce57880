"""What our own systems cost, guarded: `pytest --benchmark`."""

from __future__ import annotations

import pytest

from bench.guards.efficiency import Efficiency


@pytest.mark.benchmark(min_rounds=1, max_time=0.1)
@pytest.mark.parametrize("system", ["san19", "san10-patchwise", "resnet50", "ucf101/san19-base", "epic/s3-t4"])
def test_costs_are_those_of_the_baseline(efficiency: Efficiency, system: str) -> None:
    efficiency.check(system)
