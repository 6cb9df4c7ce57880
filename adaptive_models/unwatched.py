"""Whether faster ways may be taken: they skip the layers and operators that a counter, tracer or compiler looks at."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.modules import module as hooks
from torch.utils import _python_dispatch as dispatch


def unwatched(x: Tensor) -> bool:
    """Whether what takes x is inference that nobody follows layer by layer or operator by operator."""
    return (
        type(x) is Tensor
        and not torch.is_grad_enabled()
        and not any(map(torch.is_autocast_enabled, ("cpu", "cuda")))
        and not torch.compiler.is_compiling()
        and not torch.jit.is_tracing()
        and not dispatch.any_torch_dispatch_mode_on_stack()
        and not hooks._global_forward_hooks
        and not hooks._global_forward_pre_hooks
    )
