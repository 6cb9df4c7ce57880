"""What can be counted and run: systems by id, bare backbones by name, and adapters of other people's."""

from __future__ import annotations

import importlib.util
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from importlib.metadata import entry_points
from math import ceil
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from bench.errors import UsageError, in_words
from bench.systems.libraries.find import LIBRARIES, in_library, library_system

if TYPE_CHECKING:
    from torch import nn

ENTRY_POINTS = "foveabench.systems"

PRESCAN_STAGES = ("scan", "decide", "hallucinate")
"""Of an adaptive system, those that run for every frame that is looked at, whatever is decided."""

_ID = rf"[\w.-]+(/[\w.-]+)?|({'|'.join(LIBRARIES)}):[\w.-]+"


@dataclass(frozen=True)
class System:
    """A model with the way it is run.

    Attributes:
        id: "<workload>/<name>", a backbone's name, or "<library>:<name>" of a model of a library's.
        build: makes the module, with random weights.
        inputs: shape of each input of one call, without the batch dimension. A single input is passed by position,
            several by these names.
        frames: how many frames of a video one call stands for.
        title: what people call it.
        backbone: of which network it is made.
        published: what is published about it: "top1" (per cent), "avg_gflops" (per frame), and the "source" of them.
        crops: k of an `AdaptiveSystem`, else None.
        max_skip: M of an `AdaptiveSystem` with a temporal sampler, else None.
        stepwise: whether it is another adaptive system: a `Stepwise` module, whose step decides about `frames` frames.
        weights: trained ones that come with it, a folder of parts or a checkpoint; None if its weights are random
            unless somebody gives some.

    Raises:
        ValueError: an id, inputs, frames or published values that are not as above.
    """

    id: str
    build: Callable[[], nn.Module]
    inputs: Mapping[str, Sequence[int]]
    frames: int = 1
    title: str = ""
    backbone: str = ""
    published: Mapping[str, float | str] = field(default_factory=dict)
    crops: int | None = None
    max_skip: int | None = None
    weights: Path | None = None
    stepwise: bool = False

    def __post_init__(self) -> None:
        if not re.fullmatch(_ID, self.id):
            raise ValueError(f"system id {self.id!r}: use <workload>/<name>, of letters, digits and . _ -")
        if not isinstance(self.inputs, Mapping) or not self.inputs or not all(map(_is_shape, self.inputs.values())):
            raise ValueError(
                f"system {self.id}: inputs {self.inputs!r}: name each input and give its shape without the batch "
                'dimension, as in {"rgb": (3, 224, 224)}'
            )
        if not isinstance(self.frames, int) or self.frames < 1:
            raise ValueError(f"system {self.id}: frames {self.frames!r}: one call stands for at least 1 frame")
        top1 = self.published.get("top1", 0)
        if not isinstance(top1, (int, float)) or not 0 <= top1 <= 100:
            raise ValueError(f"system {self.id}: published top1 {top1!r}: it is a number of per cent, from 0 to 100")
        if self.published and not self.published.get("source"):
            raise ValueError(f'system {self.id}: published {dict(self.published)!r}: say where, under "source"')

    @property
    def workload(self) -> str:
        """The first part of the id; empty for a bare backbone."""
        return self.id.rpartition("/")[0]

    @property
    def adaptive(self) -> bool:
        """Whether it runs step by step: an S_k or (S_k, T_M), or another `Stepwise` module."""
        return self.crops is not None or self.stepwise

    @property
    def decides(self) -> bool:
        """Whether there is something to decide, by a policy: an S_k processes every frame fully."""
        return self.max_skip is not None or self.stepwise

    @property
    def clip_frames(self) -> int:
        """How many frames of a clip one call is given: those of inputs (n, 3, H, W), or as many as it stands for."""
        images = [shape[0] for shape in self.inputs.values() if len(shape) == 4 and shape[1] == 3]
        return max([self.frames, *images])

    def sampled(self, frames: int) -> int:
        """How many frames to sample from a clip that stands for so many: all that its calls are given."""
        return ceil(frames / self.frames) * self.clip_frames

    @property
    def modalities(self) -> str:
        """Its inputs as the published tables write them: R(GB), A(udio), F(low)."""
        letters = {"rgb": "R", "spectrogram": "A", "log_mel": "A", "flow": "F"}
        return "+".join(letters.get(name, name) for name in self.inputs)

    @property
    def shapes(self) -> str:
        """Its inputs in words, as in "rgb 3x224x224"."""
        return ", ".join(f"{name} {'x'.join(map(str, shape))}" for name, shape in self.inputs.items())


def spatial_sampler(system: str) -> str | None:
    """The S_k of an (S_k, T_M), against which its speed-ups are, as in "epic/s3" of "epic/s3-t4"; None for others."""
    found = re.fullmatch(r"(.+/s\d+)-t\d+", system)
    return found[1] if found else None


def _is_shape(shape: Any) -> bool:
    return isinstance(shape, (tuple, list)) and all(isinstance(side, int) and side > 0 for side in shape)


def system(
    id: str,
    inputs: Mapping[str, Sequence[int]],
    frames: int = 1,
    title: str = "",
    backbone: str = "",
    published: Mapping[str, float | str] | None = None,
    crops: int | None = None,
    max_skip: int | None = None,
    weights: Path | None = None,
    stepwise: bool = False,
) -> Callable[[Callable[[], nn.Module]], System]:
    """Make a system of a function that builds a model; name it with `--adapter module:function`.

    Example::

        @bench.system("ucf101/my-net", inputs={"rgb": (3, 224, 224)})
        def my_net():
            return MyNet(classes=101)

    Args:
        id: "<workload>/<name>".
        inputs: shape of each input of one call, without the batch dimension, e.g. (3, 224, 224). A single input is
            passed by position, several by these names.
        frames: how many frames of a video one call stands for; costs per frame are divided by it.
        title: what people call it; the id if not given.
        backbone: of which network it is made, for the tables.
        published: what is published about it: "top1" (per cent), "avg_gflops" (per frame), "source".
        crops: k, if the function builds an `AdaptiveSystem`; its inputs are those of one frame.
        max_skip: M, if that has a temporal sampler.
        weights: trained ones that come with it, a folder of parts or a checkpoint of the whole model.
        stepwise: whether the function builds another module that runs step by step (see `adaptive_models.stepwise`);
            `frames` are then those that a step decides about, and inputs those of a step.

    Raises:
        ValueError: an id, inputs, frames or published values that are not as above.
    """

    def make(build: Callable[[], nn.Module]) -> System:
        name = title or id
        return System(id, build, inputs, frames, name, backbone, published or {}, crops, max_skip, weights, stepwise)

    return make


class Registry:
    """Systems and backbones by id.

    Args:
        systems: to begin with.

    Attributes:
        problems: what went wrong with entry points, a sentence each.
        adapted: the systems of adapters.
    """

    def __init__(self, systems: Iterable[System] = ()) -> None:
        self._systems: dict[str, System] = {}
        self.problems: list[str] = []
        self.adapted: list[System] = []
        for each in systems:
            self.add(each)

    def __iter__(self) -> Iterator[System]:
        return iter(self._systems.values())

    def add(self, added: System) -> None:
        """Add a system.

        Raises:
            UsageError: its id is taken.
        """
        if added.id in self._systems:
            raise UsageError(f"there is a system {added.id!r} already: give yours another id")
        self._systems[added.id] = added

    def __contains__(self, id: str) -> bool:
        return id in self._systems

    def find(self, id: str) -> System:
        """The system of that id, or the model of a library by "timm:resnet50", say (see `library_system`).

        Raises:
            UsageError: there is none; the message names similar ones.
            RunError: the library cannot be imported.
        """
        if id in self._systems:
            return self._systems[id]
        if in_library(id):
            return library_system(id)
        near = get_close_matches(id.lower(), self._systems, n=3, cutoff=0.5)
        hint = f": did you mean {', '.join(near)}?" if near else ": see `foveabench list`"
        raise UsageError(f"no system or backbone {id!r}{hint}")

    def add_adapter(self, where: str) -> None:
        """Add a system from "module:name" or "path/to/file.py:name".

        Raises:
            UsageError: it cannot be loaded, is not a system, or its id is taken.
        """
        adapted = _checked(load_object(where), where)
        self.add(adapted)
        self.adapted.append(adapted)

    def add_entry_points(self) -> None:
        """Add what installed packages offer under the entry point group `foveabench.systems`.

        A package that is broken is noted in `problems`; the other systems are there all the same.
        """
        for entry in entry_points(group=ENTRY_POINTS):
            try:
                self.add(_checked(entry.load(), entry.value))
            except (Exception, SystemExit) as error:
                self.problems.append(f"entry point {entry.name} = {entry.value} is left out: {in_words(error)}")


def _checked(candidate: Any, where: str) -> System:
    if not isinstance(candidate, System):
        raise UsageError(f"adapter {where!r} is not a system: decorate the function that builds it with @bench.system")
    return candidate


def load_object(where: str) -> Any:
    """An object by "module:name" or "path/to/file.py:name"; modules are also looked for where the command is run.

    Raises:
        UsageError: there is none.
    """
    location, _, name = where.rpartition(":")
    if not location or not name:
        raise UsageError(f"{where!r} is neither module:name nor path/to/file.py:name")
    try:
        module = _load_file(Path(location)) if location.endswith(".py") else _load_module(location)
    except (Exception, SystemExit) as error:
        raise UsageError(f"{where!r} cannot be loaded: {in_words(error)}") from error
    if not hasattr(module, name):
        raise UsageError(f"{where!r}: {location} has no {name!r}")
    return getattr(module, name)


def _load_module(name: str) -> ModuleType:
    _look_in(Path.cwd())
    return importlib.import_module(name)


def _load_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise FileNotFoundError(f"no such file: {path}")
    _look_in(path.resolve().parent)  # as for a script, so that it may import its neighbours
    name = f"adapter {path.stem}"  # no name that could be imported, so that nothing else is replaced
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # so that what the file defines can be found again, by dataclasses for one
    spec.loader.exec_module(module)
    return module


def _look_in(folder: Path) -> None:
    if str(folder) not in sys.path:
        sys.path.append(str(folder))  # last, so that it hides nothing that is installed
