"""The hallucinator: a convolutional LSTM that predicts the next frame's attention."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from adaptive_models import native
from adaptive_models.folding import fold_hallucinator, foldable, folded
from adaptive_models.native import inference

FEW_MAPS = 16
"""Of up to so many at once (1, 2, 4, 8, 16, 64, 256 were timed) the operator is at least as fast as torch's layers."""


class ConvLSTMCell(nn.Module):
    """One step of a convolutional LSTM without peepholes (Shi et al. 2015), 3x3 kernels, size kept."""

    def __init__(self, inputs: int, hidden: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs + hidden, 4 * hidden, kernel_size=3, padding=1)

    def forward(self, x: Tensor, memory: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """Take x (N, inputs, h, w) and (hidden, cell), each (N, hidden, h, w), to the next (hidden, cell)."""
        hidden, cell = memory
        gates = self.conv(torch.cat([x, hidden], dim=1))
        input_gate, forget_gate, output_gate, candidate = gates.chunk(4, dim=1)
        cell = forget_gate.sigmoid() * cell + input_gate.sigmoid() * candidate.tanh()
        return output_gate.sigmoid() * cell.tanh(), cell


def _conv_bn_relu(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inputs, outputs, kernel_size=3, padding=1), nn.BatchNorm2d(outputs), nn.ReLU())


class Hallucinator(nn.Module):
    """Predicts the attention of frame t+1 from that of frame t and its memory (sections III.C, IV.A, Eq. 4).

    Encoder (3x3 convolution, batch norm, ReLU) -> ConvLSTM 3x3, ReLU on its output -> decoder as the encoder.

    Args:
        channels: channels of the attention.
        hidden: channels of the encoder and of the ConvLSTM's memory.
    """

    REFERENCE_NAMES: ClassVar[dict[str, str]] = {
        "conv_encoder.": "encoder.0.",
        "bn_encoder.": "encoder.1.",
        "rnn.cell_list.0.": "cell.",
        "conv_decoder.": "decoder.0.",
        "bn_decoder.": "decoder.1.",
    }
    """Prefixes of parameter names in published checkpoints, and ours for the same layers."""

    def __init__(self, channels: int = 32, hidden: int = 32) -> None:
        super().__init__()
        self.channels, self.hidden = channels, hidden
        self.encoder = _conv_bn_relu(channels, hidden)
        self.cell = ConvLSTMCell(hidden, hidden)
        self.relu = nn.ReLU()
        self.decoder = _conv_bn_relu(hidden, channels)

    def forward(
        self, attention: Tensor, memory: tuple[Tensor, Tensor] | None = None
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """Hallucinate one frame ahead.

        Args:
            attention: (N, channels, h, w) of this frame.
            memory: (hidden, cell), each (N, hidden, h, w), as returned for the frame before; None for zeros.

        Returns:
            The hallucination, of the attention's shape, and the memory (the hidden state before its ReLU).
        """
        if self._suits(attention, memory):
            contiguous = None if memory is None else (memory[0].contiguous(), memory[1].contiguous())
            return folded(self, _hallucination)(attention.contiguous(), contiguous)
        features = self.encoder(attention)
        if memory is None:
            memory = torch.zeros_like(features), torch.zeros_like(features)
        memory = self.cell(features, memory)
        return self.decoder(self.relu(memory[0])), memory

    def _suits(self, attention: Tensor, memory: tuple[Tensor, Tensor] | None) -> bool:
        """Whether this is a step for `inference.Hallucination`."""
        return (
            native.suits_inference(attention, *(memory or ()))
            and attention.ndim == 4
            and len(attention) <= FEW_MAPS
            and attention.shape[1] == self.channels
            and all(each.shape == (len(attention), self.hidden, *attention.shape[2:]) for each in memory or ())
            and foldable(self, (), [self], attention)
        )


def _hallucination(hallucinator: Hallucinator) -> inference.Hallucination:
    return inference.Hallucination(fold_hallucinator(hallucinator))
