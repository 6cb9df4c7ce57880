"""Backends: what runs the networks of a system in place of torch's own operators, called one after another."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Protocol, cast

from bench.errors import UsageError, in_words

if TYPE_CHECKING:
    from bench.records.measurement import BackendName, Dtype

MODULES = {"compile": "compiled", "cudagraphs": "cuda_graphs", "onnxruntime": "onnx_runtime", "openvino": "open_vino"}
"""Beside this one, each with a class `Made` that is a `Backend`."""

NEEDS = {"onnxruntime": ("onnxruntime", "onnx", "onnxscript"), "openvino": ("openvino", "onnx", "onnxscript")}
"""Packages that an optional extra of the same name installs."""


class UnsupportedError(Exception):
    """A backend cannot run a system; the message says why, in a sentence."""


class Backend(Protocol):
    """A way of running functions of tensors.

    Attributes:
        notes: what must be known of it to read its times, a sentence each.
        compiled: how many kernels, sessions or graphs it has made so far.
    """

    notes: Sequence[str]
    compiled: int

    def accelerated(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """What does the same as a method of a module; it is compiled when it is called, for each kind of inputs.

        Args:
            name: of the method, for messages.
            function: the method, of tensors and of what is the same at every call, to tensors.

        Returns:
            A function that raises UnsupportedError where it cannot be compiled.
        """
        ...


def why(error: BaseException) -> str:
    """What went wrong at first, in words: compilers wrap errors in errors of their own."""
    while error.__cause__ is not None:
        error = error.__cause__
    return in_words(error)


def check_backend(name: BackendName, device: str) -> None:
    """Find out whether a backend could run anything here.

    Raises:
        UsageError: it is not installed, or it is for another kind of device.
    """
    graphs, gpu = name == "cudagraphs", device.partition(":")[0] == "cuda"
    if graphs and not gpu:
        raise UsageError(f"--backend cudagraphs: a graph is of a GPU's kernels: use --device cuda, not {device}")
    if name in NEEDS and device != "cpu":
        raise UsageError(f"--backend {name}: it is measured on CPUs only: use --device cpu, not {device}")
    missing = [package for package in NEEDS.get(name, ()) if find_spec(package) is None]
    if missing:
        raise UsageError(f"--backend {name}: {' and '.join(missing)} not installed: pip install 'foveabench[{name}]'")


def make_backend(name: BackendName, dtype: Dtype = "float32") -> Backend | None:
    """A backend by its name; None for eager, where nothing is put in place of anything.

    Args:
        name: one that `check_backend` has let pass.
        dtype: in which it is to run networks; by int8, it rounds the weights that it is given.

    Raises:
        UnsupportedError: it does not know int8.
    """
    if name == "eager":
        return None
    made = import_module(f"bench.backends.{MODULES[name]}").Made
    if dtype != "int8":
        return cast("Backend", made())
    if name != "onnxruntime":
        raise UnsupportedError(f"{name} rounds no weights to int8 here: eager and onnxruntime do")
    return cast("Backend", made(int8=True))
