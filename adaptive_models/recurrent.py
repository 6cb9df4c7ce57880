"""The GRU of samplers and classifiers, which take one frame after the other."""

from __future__ import annotations

from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from adaptive_models import native
from adaptive_models.native import inference
from adaptive_models.native.pages import into_large_pages

_IN_LARGE_PAGES: WeakKeyDictionary[nn.Module, list[int]] = WeakKeyDictionary()
"""The addresses of weights that were moved."""

FEW_SEQUENCES = 16
"""Of up to so many at once (1, 2, 4, 8, 16 were timed) the operator is faster than torch."""


class GRU(nn.GRU):
    """torch's GRU, of which single steps of few sequences read their weights as fast as memory gives them.

    That is in inference on a CPU, in float32, with the compiled operators; everything else is torch's own.
    """

    def forward(self, input: Any, hx: Tensor | None = None) -> tuple[Any, Tensor]:
        """As `torch.nn.GRU.forward`."""
        if not self._suits(input, hx):
            return super().forward(input, hx)
        self._into_large_pages()
        time = 1 if self.batch_first else 0
        layer_input = input.select(time, 0).contiguous()
        memory = input.new_empty(self.num_layers, len(layer_input), self.hidden_size)
        if hx is None:
            hx = torch.zeros_like(memory)
        weights = [(each[:2], each[2:]) for each in self.all_weights]
        for before, after, (matrices, biases) in zip(hx.contiguous(), memory, weights, strict=True):
            inference.gru_step(layer_input, before, matrices, biases, out=after)
            layer_input = after
        return layer_input.unsqueeze(time).clone(), memory  # as torch's, of which neither lies in the other

    def _into_large_pages(self) -> None:
        """Once for the weights that there are: it takes as long as many steps."""
        weights = [weight for weight in self._flat_weights if weight is not None]
        addresses = [weight.data_ptr() for weight in weights]
        if _IN_LARGE_PAGES.get(self) != addresses:
            into_large_pages(*weights)
            _IN_LARGE_PAGES[self] = addresses

    def _suits(self, x: Any, hx: Tensor | None) -> bool:
        """Whether this is a step for `inference.gru_step`."""
        return (
            native.suits_inference(x, *self._flat_weights, *(() if hx is None else (hx,)))
            and x.ndim == 3
            and x.shape[1 if self.batch_first else 0] == 1
            and 0 < x.shape[0 if self.batch_first else 1] <= FEW_SEQUENCES
            and not (self.training or self.bidirectional or self.proj_size)
            and all(each.is_contiguous() for layer in self.all_weights for each in layer)
            and (hx is None or hx.shape == self.get_expected_hidden_size(x, None))
            and x.shape[2] == self.input_size
        )
