"""Models of other people's libraries by "library:name", such as "timm:resnet50"."""

from __future__ import annotations

from difflib import get_close_matches
from importlib import import_module
from typing import TYPE_CHECKING

from bench.errors import UsageError

if TYPE_CHECKING:
    from bench.systems.registry import System

LIBRARIES = ("timm", "torchvision", "pytorchvideo", "transformers")
"""Each an optional extra of that name, and a module beside this one with `names` and `system`."""


def in_library(id: str) -> bool:
    """Whether an id is that of a library's model."""
    library, colon, _ = id.partition(":")
    return bool(colon) and library in LIBRARIES


def library_system(id: str) -> System:
    """The model of that id as a system: with random weights, for one image or clip of its own size.

    Nothing is downloaded: what a model costs is known from its configuration.

    Raises:
        UsageError: the library is not installed, or has no such model; the message names similar ones.
        RunError: the library is installed, and cannot be imported.
    """
    library, _, name = id.partition(":")
    models = import_module(f"bench.systems.libraries.{library}_models")
    try:
        found: System = models.system(name)
    except KeyError:
        near = get_close_matches(name, models.names(), n=3, cutoff=0.5) or models.names()[:3]
        raise UsageError(f"no model {name!r} in {library}: did you mean {', '.join(near)}?") from None
    return found
