"""What section IV and the captions say about the tables in words and single numbers."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain, pairwise
from typing import NamedTuple


class Difference(NamedTuple):
    """A number of section IV-C that is the difference of two cells in a column, each by table and system."""

    says: str
    text: str
    column: str
    larger: tuple[int, str]
    smaller: tuple[int, str]


class Order(NamedTuple):
    """A statement of the text or a caption that the first system of each pair has more than the second."""

    says: str
    table: int
    column: str
    pairs: Iterable[tuple[str, str]]


def _over(first: str, others: Iterable[str]) -> list[tuple[str, str]]:
    return [(first, other) for other in others if other != first]


_BASE = (1, "epic/san19-base")
DIFFERENCES = (
    Difference("S_0 saves over SAN19-base", "2.84", "avg_gflops", _BASE, (1, "epic/s0")),
    Difference("S_0 loses against SAN19-base", "2.96", "top1", _BASE, (1, "epic/s0")),
    Difference("S_3 saves over SAN19-base", "1.84", "avg_gflops", _BASE, (1, "epic/s3")),
    Difference("S_3 loses against SAN19-base", "1.75", "top1", _BASE, (1, "epic/s3")),
    Difference("S_3,T_1 loses against S_3", "0.82", "top1", (4, "ucf101/s3"), (5, "ucf101/s3-t1")),
)
LARGEST_SPEED_UPS = {1: "1.77", 4: "4.01"}

_S = [f"epic/s{k}" for k in range(4)]
_S_T = [[f"epic/s{k}-t{m}" for k in range(4)] for m in range(1, 5)]
_CROPS_OVER_NONE = [(system, none) for none, *others in _S_T for system in others]
_SHORT_OVER_LONG = [pair for rows in pairwise(_S_T) for pair in zip(*rows, strict=True)]
_LONG_OVER_SHORT = [(long, short) for short, long in _SHORT_OVER_LONG]
_UCF_S = [f"ucf101/s{k}" for k in range(4)]
_UCF_S_T = [f"ucf101/s{k}-t1" for k in range(4)]
_UCF_BASELINES = ["ucf101/res3d-18", "ucf101/dsn", "ucf101/smart", "ucf101/tsn-resnet50", "ucf101/san19-base"]
ORDERS = (
    Order("Table I: S_3 is the most accurate S_k", 1, "top1", _over("epic/s3", _S)),
    Order("Table I: S_3 costs less than SAN19-base", 1, "avg_gflops", [("epic/san19-base", "epic/s3")]),
    Order("section IV-C: S_3 trades off better", 1, "trade_off", [("epic/san19-base", "epic/s3")]),
    Order("section IV-C: crops improve accuracy", 1, "top1", [(system, "epic/s0") for system in _S[1:]]),
    Order("Table II: every T_M saves over S_0", 2, "avg_gflops", _over("epic/s0", chain(*_S_T))),
    Order("Table III: crops improve accuracy", 3, "top1", _CROPS_OVER_NONE),
    Order("Table III: crops cost more", 2, "avg_gflops", _CROPS_OVER_NONE),
    Order("Table III: longer skips lose accuracy", 3, "top1", _SHORT_OVER_LONG),
    Order("Table III: longer skips speed up more", 3, "speed_up", _LONG_OVER_SHORT),
    Order("Table IV: S_2 is the most accurate S_k", 4, "top1", _over("ucf101/s2", _UCF_S)),
    Order("Table IV: S_2 costs less", 4, "avg_gflops", [(other, "ucf101/s2") for other in _UCF_BASELINES]),
    Order("Table V: S_3,T_1 is the best", 5, "top1", _over("ucf101/s3-t1", _UCF_S_T)),
    Order("section IV-C: S_3,T_1 speeds up most", 5, "speed_up", _over("ucf101/s3-t1", _UCF_S_T)),
    Order("section IV-C: S_1,T_1 is the most accurate", 5, "top1", _over("ucf101/s1-t1", _UCF_S_T)),
)
