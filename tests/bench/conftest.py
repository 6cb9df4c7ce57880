from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
import torch
from made_up_records import MakeRecord, made_up_record
from matplotlib.figure import Figure

from bench.records.evaluation import SCHEMA, ClipOutcome, Evaluation
from bench.systems.builtin import registry
from bench.systems.registry import System

SMALL_SYSTEM = """
import bench
from adaptive_models.san import SAN
from adaptive_models.system import AdaptiveSystem


def narrow(channels):
    return SAN((0, 0, 0, 1, 0), channels=channels, widths=(32, 32, 32, 64, 64))


@bench.system(
    "small/s2-t3", inputs={"rgb": (3, 224, 224), "spectrogram": (1, 256, 256)}, title="small", crops=2, max_skip=3
)
def small():
    return AdaptiveSystem(2, 3, (5, 3), audio=True, head_layers=1, make_backbone=narrow, hidden=16)


@bench.system("small/s2", inputs={"rgb": (3, 224, 224), "spectrogram": (1, 256, 256)}, crops=2)
def spatial():
    return AdaptiveSystem(2, None, (5, 3), audio=True, head_layers=1, make_backbone=narrow, hidden=16)
"""


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    """Small networks do not gain by threads, and on cores that are shared threads wait for each other for seconds."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def small_adapter(tmp_path_factory: pytest.TempPathFactory) -> str:
    """An adaptive system of someone else's, with sound, for --adapter: one that runs in milliseconds."""
    path = tmp_path_factory.mktemp("adapter") / "small_systems.py"
    path.write_text(SMALL_SYSTEM)
    return f"{path}:small"


@pytest.fixture(scope="session")
def small_system(small_adapter: str) -> System:
    return registry([small_adapter]).find("small/s2-t3")


@pytest.fixture(scope="session")
def make_record() -> MakeRecord:
    """Makes valid records of made-up measurements."""
    return made_up_record


@pytest.fixture
def made_up() -> Callable[..., Evaluation]:
    """Makes an evaluation of made-up outcomes: true classes, logits of all classes by group, and decisions."""

    def make(
        labels: Sequence[tuple[int, ...]],
        logits: Sequence[tuple[Sequence[float], ...]],
        decisions: str | Sequence[str] = "FPSF",
        **changes: Any,
    ) -> Evaluation:
        strings = [decisions] * len(labels) if isinstance(decisions, str) else decisions
        clips = []
        for number, (own, groups, string) in enumerate(zip(labels, logits, strings, strict=True)):
            best = [torch.tensor(group).argsort(descending=True, stable=True)[:5].tolist() for group in groups]
            values = tuple(tuple(group[i] for i in order) for group, order in zip(groups, best, strict=True))
            clips.append(ClipOutcome(f"clip-{number}", own, tuple(map(tuple, best)), values, string, 0))
        stages = {"scan": 10, "decide": 1, "hallucinate": 3, "look": 100, "classify": 6}
        whole = {
            "schema": SCHEMA,
            "data": "mini",
            "split": "val",
            "limit": None,
            "system": "mini/s3-t2",
            "policy": "learned",
            "seed": 0,
            "trained": True,
            "weights": "sha256:0",
            "frames": 4,
            "batch": 4,
            "device": "cpu",
            "replayed": False,
            "versions": {},
            "stages": {"exact": {name: 10**9 * flops for name, flops in stages.items()}, "paper": stages},
            "frames_per_call": 1,
            "clips": clips,
        }
        return Evaluation(**(whole | changes))  # type: ignore[arg-type]

    return make


@pytest.fixture(autouse=True)
def nothing_of_a_figure_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever a test draws lies on its canvas: labels, names and legends, too."""
    save = Figure.savefig

    def checked(figure: Figure, *arguments: Any, **options: Any) -> None:
        save(figure, *arguments, **options)
        usual = figure.dpi
        figure.set_dpi(options.get("dpi", usual))  # letters are a little wider at fewer dots
        drawn = figure.get_tightbbox()
        figure.set_dpi(usual)
        width, height = figure.get_size_inches()
        over = max(-drawn.x0, -drawn.y0, drawn.x1 - width, drawn.y1 - height)
        assert over < 0.01, f"{over:.2f} inches of the figure are cut off"

    monkeypatch.setattr(Figure, "savefig", checked)
