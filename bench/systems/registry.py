"""What can be counted and run: systems by id, bare backbones by name, and adapters of other people's."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from bench.errors import UsageError

if TYPE_CHECKING:
    from torch import nn

ENTRY_POINTS = "foveabench.systems"


@dataclass(frozen=True)
class System:
    """A model with the way it is run.

    Attributes:
        id: "<workload>/<name>", or a backbone's name.
        build: makes the module, with random weights.
        inputs: shape of each input of one call, without the batch dimension. A single input is passed by position, several
            by these names.
        frames: how many frames of a video one call stands for.
        title: what people call it.
        backbone: of which network it is made.
        crops: k of an adaptive system, else None.
        max_skip: M of an adaptive system with a temporal sampler, else None.
    """

    id: str
    build: Callable[[], nn.Module]
    inputs: Mapping[str, tuple[int, ...]]
    frames: int = 1
    title: str = ""
    backbone: str = ""
    crops: int | None = None
    max_skip: int | None = None
    resize: Callable[[int], System] | None = field(default=None, repr=False, compare=False)

    @property
    def workload(self) -> str:
        """The first part of the id; empty for a bare backbone."""
        return self.id.rpartition("/")[0]

    @property
    def adaptive(self) -> bool:
        """Whether it is one of the paper's S_k or (S_k, T_M), which run step by step."""
        return self.crops is not None

    @property
    def modalities(self) -> str:
        """Its inputs as the published tables write them: R(GB), A(udio), F(low)."""
        letters = {"rgb": "R", "spectrogram": "A", "flow": "F"}
        return "+".join(letters.get(name, name) for name in self.inputs)


def system(
    id: str,
    inputs: Mapping[str, tuple[int, ...]],
    frames: int = 1,
    title: str = "",
    backbone: str = "",
) -> Callable[[Callable[[], nn.Module]], System]:
    """Make a system of a function that builds a model; name it with `--adapter module:function`.

    Example::

        @bench.system("ucf101/my-net", inputs={"rgb": (3, 224, 224)})
        def my_net():
            return MyNet(classes=101)

    Args:
        id: "<workload>/<name>".
        inputs: shape of each input of one call, without the batch dimension, e.g. (3, 224, 224). A single input is passed
            by position, several by these names.
        frames: how many frames of a video one call stands for; costs per frame are divided by it.
        title: what people call it; the id if not given.
        backbone: of which network it is made, for the tables.
    """

    def make(build: Callable[[], nn.Module]) -> System:
        return System(id, build, dict(inputs), frames, title or id, backbone)

    return make


class Registry:
    """Systems and backbones by id.

    Args:
        systems: to begin with.
    """

    def __init__(self, systems: Iterable[System]) -> None:
        self._systems: dict[str, System] = {}
        for each in systems:
            self.add(each)

    def add(self, added: System) -> None:
        """Add a system.

        Raises:
            UsageError: its id is taken.
        """
        if added.id in self._systems:
            raise UsageError(f"there is a system {added.id!r} already: give yours another id")
        self._systems[added.id] = added

    def __iter__(self) -> Any:
        return iter(self._systems.values())

    def find(self, id: str) -> System:
        """The system of that id.

        Raises:
            UsageError: there is none; the message names similar ones.
        """
        if id in self._systems:
            return self._systems[id]
        from difflib import get_close_matches

        near = get_close_matches(id, self._systems, n=3, cutoff=0.5)
        hint = f": did you mean {', '.join(near)}?" if near else ": see `foveabench list`"
        raise UsageError(f"no system or backbone {id!r}{hint}")

    def add_adapter(self, where: str) -> None:
        """Add a system from "module:name" or "path/to/file.py:name".

        Raises:
            UsageError: it cannot be loaded, or is not a system.
        """
        self.add(_checked(load_object(where), where))

    def add_entry_points(self) -> None:
        """Add the systems that installed packages offer under the entry point group `foveabench.systems`.

        Raises:
            UsageError: one cannot be loaded, or is not a system.
        """
        for entry in entry_points(group=ENTRY_POINTS):
            try:
                loaded = entry.load()
            except Exception as error:
                raise UsageError(f"entry point {entry.name!r} ({entry.value}) cannot be loaded: {error}") from error
            self.add(_checked(loaded, entry.value))


def _checked(candidate: Any, where: str) -> System:
    if not isinstance(candidate, System):
        raise UsageError(f"adapter {where!r} is not a system: decorate the function that builds it with @bench.system")
    return candidate


def load_object(where: str) -> Any:
    """An object by "module:name" or "path/to/file.py:name".

    Raises:
        UsageError: there is none.
    """
    location, _, name = where.rpartition(":")
    if not location or not name:
        raise UsageError(f"{where!r} is neither module:name nor path/to/file.py:name")
    try:
        module = _load_file(Path(location)) if location.endswith(".py") else importlib.import_module(location)
    except Exception as error:
        raise UsageError(f"{where!r} cannot be loaded: {type(error).__name__}: {error}") from error
    if not hasattr(module, name):
        raise UsageError(f"{where!r}: {location} has no {name!r}")
    return getattr(module, name)


def _load_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise FileNotFoundError(f"no such file: {path}")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module  # so that what the file defines can be found again, by dataclasses for one
    spec.loader.exec_module(module)
    return module


def resized(found: System, size: int | None, modality: str | None) -> System:
    """A backbone at another input size or for another modality.

    Raises:
        UsageError: a whole system, whose inputs are fixed, or a size that the backbone cannot take.
    """
    if size is None and modality is None:
        return found
    if found.resize is None:
        raise UsageError(f"{found.id} has fixed inputs: --size and --modality are for bare backbones such as san19")
    if modality not in (None, "rgb", "spec"):
        raise UsageError(f"unknown modality {modality!r}: use rgb or spec")
    channels = 1 if modality == "spec" else 3
    side = size if size is not None else (256 if modality == "spec" else 224)
    if side < 32:
        raise UsageError(f"--size {side}: a side must be at least 32 pixels")
    return replace(found.resize(channels), inputs={"x": (channels, side, side)})
