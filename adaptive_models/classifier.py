"""The GRU classifier with its three heads (sections III.B, IV.A)."""

from __future__ import annotations

from typing import ClassVar, cast

import torch
from torch import Tensor, nn

from adaptive_models.folding import folded
from adaptive_models.native.inference import Head
from adaptive_models.recurrent import GRU, head_of, suits_head


class GRUHead(nn.Module):
    """A GRU over the fully processed frames, ReLU, dropout, and a linear classifier for each group of classes.

    Args:
        inputs: features of a frame.
        classes: number of classes in each group, e.g. (125, 352) for verbs and nouns.
        hidden: width of the GRU.
        layers: layers of the GRU.
        dropout: probability of dropping a GRU output in training.
    """

    REFERENCE_NAMES: ClassVar[dict[str, str]] = {
        "fc_verb.": "classifiers.0.",
        "fc_noun.": "classifiers.1.",
        "fc_action.": "classifiers.0.",
    }
    """Names of parameters in published checkpoints, and ours for the same layers."""

    def __init__(
        self, inputs: int, classes: tuple[int, ...], hidden: int = 1024, layers: int = 2, dropout: float = 0.5
    ) -> None:
        super().__init__()
        self.rnn = GRU(inputs, hidden, layers, batch_first=True)
        self.relu = nn.ReLU()
        self.dropout = nn.Dropout(dropout)
        self.classifiers = nn.ModuleList(nn.Linear(hidden, count) for count in classes)

    def forward(self, features: Tensor, memory: Tensor | None = None) -> tuple[tuple[Tensor, ...], Tensor]:
        """Classify one more frame.

        Args:
            features: (N, inputs) of this frame.
            memory: (layers, N, hidden) as returned for the frame before; None for zeros.

        Returns:
            Logits (N, classes) of each group, and the memory.
        """
        if suits_head(self, self.rnn, self._linears(), features, memory):
            head = folded(self, _logits)
            logits, memory = head(features.contiguous(), None if memory is None else memory.contiguous())
            return logits.split([linear.out_features for linear in self._linears()], dim=1), memory
        output, memory = self.rnn(features[:, None], memory)
        output = self.dropout(self.relu(output))
        return tuple(classifier(output)[:, 0] for classifier in self.classifiers), memory

    def _linears(self) -> list[nn.Linear]:
        return cast("list[nn.Linear]", list(self.classifiers))


def _logits(head: GRUHead) -> Head:
    return head_of(head.rnn, head._linears(), rectified=True)


class ThreeHeads(nn.Module):
    """Three GRU heads whose logits are averaged; without crops there is the global head alone.

    Args:
        global_inputs: features of the low-resolution frame.
        audio_inputs: features of the spectrogram; 0 without audio.
        crop_inputs: features of one crop.
        crops: k, the number of crops; may be 0.
        classes: number of classes in each group.
        hidden: width of each GRU.
        layers: layers of each GRU.
    """

    INPUTS: ClassVar[dict[str, tuple[str, ...]]] = {
        "global": ("global", "audio"),
        "local": ("audio", "crop"),
        "both": ("global", "audio", "crop"),
    }
    """The features that each head takes, in this order."""

    REFERENCE_NAMES: ClassVar[dict[str, str]] = {
        "actreg_global.": "heads.global.",
        "actreg_local.": "heads.local.",
        "actreg_both.": "heads.both.",
        **GRUHead.REFERENCE_NAMES,
    }
    """Names of parameters in published checkpoints, and ours for the same layers."""

    def __init__(
        self,
        global_inputs: int,
        audio_inputs: int,
        crop_inputs: int,
        crops: int,
        classes: tuple[int, ...],
        hidden: int = 1024,
        layers: int = 2,
    ) -> None:
        super().__init__()
        self.widths = {"global": global_inputs, "audio": audio_inputs, "crop": crops * crop_inputs}
        self.heads = nn.ModuleDict(
            {
                head: GRUHead(sum(self.widths[name] for name in names), classes, hidden, layers)
                for head, names in self.INPUTS.items()
                if crops or head == "global"
            }
        )

    def per_head(
        self,
        global_features: Tensor,
        audio_features: Tensor | None = None,
        crop_features: Tensor | None = None,
        memory: Tensor | None = None,
    ) -> tuple[list[tuple[Tensor, ...]], Tensor]:
        """Classify one more frame with every head on its own; arguments, memory and errors as in `forward`.

        Returns:
            For each head (global, local, both) its logits (N, classes) of each group, and the memory.
        """
        frames = global_features.shape[0]  # a symbol where any number of frames is exported for
        absent = global_features.new_empty(frames, 0)
        features = {
            "global": global_features,
            "audio": absent if audio_features is None else audio_features,
            "crop": absent if crop_features is None else crop_features.flatten(1),
        }
        for name, width in self.widths.items():
            if features[name].shape != (frames, width):
                got = tuple(features[name].shape)
                raise ValueError(f"the classifier needs {name} features of {width} values a frame, got shape {got}")
        logits, memories = [], []
        for i, (head, gru_head) in enumerate(self.heads.items()):
            inputs = torch.cat([features[name] for name in self.INPUTS[head]], dim=1)
            head_logits, head_memory = gru_head(inputs, None if memory is None else memory[i])
            logits.append(head_logits)
            memories.append(head_memory)
        return logits, torch.stack(memories)

    def forward(
        self,
        global_features: Tensor,
        audio_features: Tensor | None = None,
        crop_features: Tensor | None = None,
        memory: Tensor | None = None,
    ) -> tuple[tuple[Tensor, ...], Tensor]:
        """Classify one more frame.

        Args:
            global_features: (N, global_inputs).
            audio_features: (N, audio_inputs), or None without audio.
            crop_features: (N, crops, crop_inputs), or None without crops.
            memory: (heads, layers, N, hidden) as returned for the frame before, videos in dimension 2;
                None for zeros.

        Returns:
            For each group of classes the mean of the heads' logits (N, classes), and the memory.

        Raises:
            ValueError: features that are missing, superfluous or of the wrong size.
        """
        logits, memory = self.per_head(global_features, audio_features, crop_features, memory)
        return tuple(torch.stack(group).mean(dim=0) for group in zip(*logits, strict=True)), memory
