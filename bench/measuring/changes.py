"""How far outputs are from those of eager float32."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from bench.records.measurement import Change


def compare_outputs(outputs: Sequence[Tensor], plain: Sequence[Tensor]) -> Change | None:
    """Compare outputs (classes,) of frames, or groups of classes, to those of eager float32, in the same order.

    Returns:
        How far they are from them; None where there are none.

    Raises:
        ValueError: not as many.
    """
    if not plain:
        return None
    pairs = list(zip(outputs, plain, strict=True))
    difference = max(float((ours - theirs).abs().max()) for ours, theirs in pairs)
    finite = all(bool(torch.isfinite(ours).all()) for ours in outputs)
    return Change(
        largest_difference=difference if finite else None,
        largest_output=max(float(theirs.abs().max()) for theirs in plain),
        predictions=len(pairs),
        changed=sum(int(ours.argmax()) != int(theirs.argmax()) for ours, theirs in pairs),
    )
