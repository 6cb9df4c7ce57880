"""The temporal sampler: from attention and hallucination to the number of frames to skip."""

from __future__ import annotations

from math import prod

import torch
from torch import Tensor, nn

from adaptive_models.folding import folded
from adaptive_models.native.inference import Head
from adaptive_models.recurrent import GRU, head_of, suits_head


class TemporalSampler(nn.Module):
    """Scores how many frames to skip, T_M of section III.D: a GRU over the frames that are looked at.

    Attribute names are those of the published checkpoints.

    Args:
        max_skip: M >= 1, the largest number of frames to skip.
        attention_shape: (C, h, w) of the attention and the hallucination.
        hidden: width of the GRU.
        layers: layers of the GRU.

    Raises:
        ValueError: `max_skip` is below 1: with no choice there is nothing to sample.
    """

    def __init__(
        self,
        max_skip: int,
        attention_shape: tuple[int, int, int] = (32, 7, 7),
        hidden: int = 1024,
        layers: int = 2,
    ) -> None:
        super().__init__()
        if max_skip < 1:
            raise ValueError(f"max_skip of a temporal sampler must be at least 1, got {max_skip}")
        self.rnn = GRU(2 * prod(attention_shape) + 1, hidden, layers, batch_first=True)
        self.fc_out = nn.Linear(hidden, max_skip + 1)

    def forward(
        self, attention: Tensor, hallucination: Tensor, similarity: Tensor, memory: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Score the choices for one frame.

        Args:
            attention: (N, C, h, w) of this frame.
            hallucination: (N, C, h, w), made for this frame from the frame before.
            similarity: (N,), the SSIM of the two.
            memory: (layers, N, hidden) as returned for the frame before; None for zeros.

        Returns:
            Logits (N, max_skip + 1), entry m for skipping m frames (0: process this one), and the memory.
        """
        inputs = torch.cat([attention.flatten(1), hallucination.flatten(1), -similarity[:, None]], dim=1)
        if suits_head(self, self.rnn, [self.fc_out], inputs, memory):
            return folded(self, _scores)(inputs, None if memory is None else memory.contiguous())
        output, memory = self.rnn(inputs[:, None], memory)
        return self.fc_out(output)[:, 0], memory


def _scores(sampler: TemporalSampler) -> Head:
    return head_of(sampler.rnn, [sampler.fc_out], rectified=False)


def greedy(logits: Tensor) -> Tensor:
    """Return the best choice (N,) int64 for logits (N, max_skip + 1); the fewest frames to skip on a tie."""
    return logits.argmax(dim=1)


def gumbel(logits: Tensor, generator: torch.Generator) -> Tensor:
    """Return a random choice (N,) int64 for logits (N, max_skip + 1), by the Gumbel-max trick.

    The arg max of logits plus Gumbel noise is distributed as softmax(logits); the temperature of the paper's
    Gumbel softmax (its [76]) divides both and changes nothing. The generator is on the device of the logits.
    """
    exponential = torch.empty_like(logits, dtype=torch.float64).exponential_(generator=generator)
    return greedy(logits - exponential.log())  # -log of an exponential variate is a Gumbel variate
