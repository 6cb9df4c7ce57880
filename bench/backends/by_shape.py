"""A function of tensors that is compiled for each kind of inputs when it is first given them."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import TreeSpec, tree_flatten, tree_unflatten

from bench.backends.backend import UnsupportedError, why

Run = Callable[[list[Tensor]], Sequence[Tensor]]

Compile = Callable[["Network", list[Tensor], list[set[int]]], Run]
"""Of a network, inputs of the kind that it will be given, and those of their dimensions that may be of any size."""


class Network(nn.Module):
    """A method of a module as a module of its own, from tensors to tensors.

    Args:
        function: the method.
        leaves: its arguments without their structure, with None in place of tensors.
        places: of the tensors among them.
        structure: of the arguments.
    """

    def __init__(
        self, function: Callable[..., Any], leaves: Sequence[Any], places: Sequence[int], structure: TreeSpec
    ) -> None:
        super().__init__()
        self.function = function
        self._leaves, self._places, self._structure = list(leaves), list(places), structure

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        """What the method returns, without its structure."""
        leaves = list(self._leaves)
        for place, tensor in zip(self._places, tensors, strict=True):
            leaves[place] = tensor
        args, kwargs = tree_unflatten(leaves, self._structure)
        return tuple(tree_flatten(self.function(*args, **kwargs))[0])


@dataclass(frozen=True)
class Compiled:
    """What was compiled: for inputs of these sizes, None where any will do, and for outputs of this structure."""

    sizes: list[list[int | None]]
    outputs: TreeSpec
    run: Run

    def takes(self, shapes: Sequence[torch.Size]) -> bool:
        """Whether inputs of these shapes are of its kind."""
        pairs = zip(self.sizes, shapes, strict=True)
        return all(own in (None, size) for sizes, shape in pairs for own, size in zip(sizes, shape, strict=True))


class ByShape:
    """A method of a module, compiled for each kind of inputs when they first come.

    What comes first is compiled for its shapes alone. Of inputs that come later, and differ in some dimensions as
    batches do, it is tried to compile for any size of these; if that fails, again for their shapes alone.

    Args:
        name: of the method, for messages.
        function: the method.
        compile: compiles it.

    Raises:
        UnsupportedError: when it is called, if it cannot be compiled. What the method itself raises is passed on.
    """

    def __init__(self, name: str, function: Callable[..., Any], compile: Compile) -> None:
        self._name, self._function, self._compile = name, function, compile
        self._compiled: dict[Hashable, list[Compiled]] = {}

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """The same as the method."""
        leaves, structure = tree_flatten((args, kwargs))
        tensors = [leaf for leaf in leaves if isinstance(leaf, Tensor)]
        others = tuple((leaf.dtype, leaf.ndim) if isinstance(leaf, Tensor) else leaf for leaf in leaves)
        found = self._compiled.setdefault((structure, others), [])
        shapes = [tensor.shape for tensor in tensors]
        compiled = next((each for each in found if each.takes(shapes)), None)
        if compiled is None:
            compiled = self._made(leaves, structure, tensors, found[0].sizes if found else [])
            found.insert(0, compiled)
        return tree_unflatten(list(compiled.run(tensors)), compiled.outputs)

    def _made(
        self, leaves: list[Any], structure: TreeSpec, tensors: list[Tensor], before: list[list[int | None]]
    ) -> Compiled:
        args, kwargs = tree_unflatten(leaves, structure)
        outputs, of_outputs = tree_flatten(self._function(*args, **kwargs))  # its own errors are not the backend's
        if not all(isinstance(each, Tensor) for each in outputs):
            raise UnsupportedError(f"{self._name} returns something beside tensors")
        places = [place for place, leaf in enumerate(leaves) if isinstance(leaf, Tensor)]
        network = Network(
            self._function, [None if isinstance(leaf, Tensor) else leaf for leaf in leaves], places, structure
        ).eval()
        problem: Exception | None = None
        with torch.inference_mode(False), torch.no_grad():
            for sizes in _wanted(tensors, before):
                examples = [
                    tensor.new_zeros([a or b for a, b in zip(own, _larger(tensor.shape, old), strict=True)])
                    for tensor, own, old in zip(tensors, sizes, before or [[]] * len(tensors), strict=True)
                ]
                free = [{dim for dim, size in enumerate(own) if size is None} for own in sizes]
                try:
                    return Compiled(sizes, of_outputs, self._compile(network, examples, free))
                except MemoryError:
                    raise
                except Exception as error:
                    problem = error
        assert problem is not None
        raise UnsupportedError(f"{self._name} cannot be compiled: {why(problem)}") from problem


def _wanted(tensors: list[Tensor], before: list[list[int | None]]) -> Iterator[list[list[int | None]]]:
    """Sizes to compile for: any where they differ from those before, if there are any; else those of the inputs."""
    fixed: list[list[int | None]] = [list(tensor.shape) for tensor in tensors]
    if before:
        pairs = zip(fixed, before, strict=True)
        yield [[a if a == b else None for a, b in zip(own, old, strict=True)] for own, old in pairs]
    yield fixed


def _larger(shape: torch.Size, before: list[int | None]) -> list[int]:
    """Sizes for an example: the larger ones, for what is of size 1 is taken to be of that size always."""
    return [max(size, old or 0) for size, old in zip(shape, before or shape, strict=True)]
