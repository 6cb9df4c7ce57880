from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from adaptive_models.parts import SUFFIX, parts_of, save_part
from adaptive_models.system import AdaptiveSystem
from bench.evaluating.runner import Task
from bench.systems.weights import load_model

FIXED_SYSTEM = """
import bench
from torch import nn


class Squares(nn.Module):
    def __init__(self):
        super().__init__()
        self.rgb = nn.Sequential(nn.Conv2d(3, 4, 32, stride=32), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 49, 5))
        self.sound = nn.Sequential(nn.Conv2d(1, 2, 32, stride=32), nn.ReLU(), nn.Flatten(), nn.Linear(2 * 64, 3))

    def forward(self, rgb, spectrogram):
        verbs, nouns = self.rgb(rgb.flatten(0, 1)), self.sound(spectrogram.flatten(0, 1))
        return tuple(logits.unflatten(0, rgb.shape[:2]).mean(dim=1) for logits in (verbs, nouns))


@bench.system(
    "small/squares", inputs={"rgb": (2, 3, 224, 224), "spectrogram": (2, 1, 256, 256)}, frames=2, title="squares"
)
def squares():
    return Squares()


@bench.system("small/dense", inputs={"rgb": (4, 3, 32, 32), "spectrogram": (1, 256, 256)}, frames=2)
def dense():
    class Dense(Squares):
        def forward(self, rgb, spectrogram):
            verbs = self.rgb[:3](rgb.flatten(0, 1))
            return verbs.repeat(1, 2)[:1, :5], self.sound(spectrogram)

    return Dense()


@bench.system("small/flow", inputs={"flow": (10, 224, 224)})
def flow():
    return nn.Conv2d(10, 1, 1)
"""


@pytest.fixture(scope="session")
def fixed_adapter(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A system of two segments a call, that is not adaptive."""
    path = tmp_path_factory.mktemp("adapter") / "fixed_systems.py"
    path.write_text(FIXED_SYSTEM)
    return f"{path}:squares"


@pytest.fixture(scope="session")
def make_task(small_adapter: str, fixed_adapter: str) -> Callable[..., Task]:
    def make(policy: str = "learned", system: str = "small/s2-t3", **changes: Any) -> Task:
        spatial = small_adapter.removesuffix("small") + "spatial"
        others = (fixed_adapter.removesuffix("squares") + name for name in ("dense", "flow"))
        adapters = (small_adapter, spatial, fixed_adapter, *others)
        options = {"weights": None, "seed": 1, "frames": 6, "batch": 2} | changes
        return Task(system, adapters, policy, **options)

    return make


@pytest.fixture(scope="session")
def weights(make_task: Callable[..., Task], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Parts of the small systems, from one model, so that they share networks."""
    folder = tmp_path_factory.mktemp("weights")
    for system in ("small/s2-t3", "small/s2"):
        model = load_model(make_task(system=system).find(), None, 5)
        assert isinstance(model, AdaptiveSystem)
        for name, part in parts_of(model).items():
            if not (folder / f"{name}{SUFFIX}").exists():
                save_part(part, folder / f"{name}{SUFFIX}")
    save_part(load_model(make_task(system="small/squares").find(), None, 5), folder / f"squares{SUFFIX}")
    return folder
