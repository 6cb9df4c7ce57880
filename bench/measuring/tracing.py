"""What runs within a step: stages, their parts, and layers, each with marks at its beginning and end.

Methods are replaced while it lasts, on the objects themselves. Hooks would change what is measured: torch's and our own
fused paths step aside for them, so that a profile would show layers that never run otherwise. What is compiled, or runs
fused, is not looked into.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple, Protocol

import torch
from torch import nn

from adaptive_models.san import SAN
from adaptive_models.stepwise import Stepwise
from adaptive_models.watching import Watch


class Place(NamedTuple):
    """Where something runs: in a stage, in a part of it, in a layer; what is empty is none in particular."""

    stage: str = ""
    part: str = ""
    layer: str = ""


@dataclass(frozen=True)
class Opened:
    """Something that is about to run.

    Attributes:
        place: it runs in.
        type: of a layer.
        modules: whose weights it takes, if it is a layer.
    """

    place: Place
    type: str = ""
    modules: Sequence[nn.Module] = ()


class Listener(Protocol):
    """Who is told of everything that runs."""

    def run(self, opened: Opened, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Run it, and return what it returns."""
        ...


class Tracer:
    """Tells listeners what runs within a model.

    Args:
        model: whose stages, parts and layers; of a model that is not `Stepwise`, its call is the only stage.
    """

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self._place = Place()
        self._listener: Listener | None = None
        self._watches = [
            Watch(module, partial(self._fused, name))
            for name, module in _modules(model).items()
            if isinstance(module, SAN)
        ]

    @contextmanager
    def tracing(self, listener: Listener, layers: bool) -> Iterator[None]:
        """While it lasts, a listener is told of stages and parts, and of layers if they are wanted, too."""
        self._listener = listener
        with ExitStack() as replaced:
            taken = self._trace_parts(replaced)
            self._trace_stages(replaced)
            if layers:
                for name, module in _modules(self._model).items():
                    if name and module not in taken:
                        self._replace(replaced, module, "forward", partial(self._layer, name, module))
                for watch in self._watches:
                    replaced.enter_context(watch.watching())
            yield

    def _trace_stages(self, replaced: ExitStack) -> None:
        stages = (
            {name: name for name in self._model.stages} if isinstance(self._model, Stepwise) else {"forward": "call"}
        )
        for method, stage in stages.items():
            self._replace(replaced, self._model, method, partial(self._stage, stage))

    def _trace_parts(self, replaced: ExitStack) -> set[nn.Module]:
        """Returns the modules whose forward method is a part."""
        taken = set()
        for path, part in self._model.parts.items() if isinstance(self._model, Stepwise) else ():
            owner: Any = self._model
            *way, method = path.split(".")
            for name in way:
                owner = getattr(owner, name)
            if owner is not None:
                self._replace(replaced, owner, method, partial(self._part, part))
                if method == "forward":
                    taken.add(owner)
        return taken

    def _replace(self, replaced: ExitStack, owner: Any, name: str, run: Callable[..., Any]) -> None:
        own, before = vars(owner), vars(owner).get(name)
        function = getattr(owner, name)
        own[name] = partial(run, function)
        replaced.callback(own.pop if before is None else own.__setitem__, name, *([] if before is None else [before]))

    def _stage(self, stage: str, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        return self._open(Opened(Place(stage)), function, *args, **kwargs)

    def _part(self, part: str, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        return self._open(Opened(Place(self._place.stage, part)), function, *args, **kwargs)

    def _layer(self, name: str, module: nn.Module, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        place = Place(self._place.stage, self._place.part, name)
        return self._open(Opened(place, type(module).__name__, [module]), function, *args, **kwargs)

    def _fused(
        self, network: str, names: str, modules: Sequence[nn.Module], function: Callable[..., Any], *args: Any
    ) -> Any:
        place = Place(self._place.stage, self._place.part, f"{network}.{names}" if network else names)
        return self._open(Opened(place, "fused", modules), function, *args)

    def _open(self, opened: Opened, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        assert self._listener is not None
        outer, self._place = self._place, opened.place
        try:
            return self._listener.run(opened, function, *args, **kwargs)
        finally:
            self._place = outer


def _modules(model: nn.Module) -> dict[str, nn.Module]:
    """Modules by name, each once; those within what torch has compiled are left out."""
    found: dict[str, nn.Module] = {}
    closed: list[str] = []
    for name, module in model.named_modules():
        if not name.startswith(tuple(closed)):
            found[name] = module
            if hasattr(module, "_orig_mod") or isinstance(module, torch.jit.ScriptModule):
                closed.append(f"{name}." if name else "")
    return found
