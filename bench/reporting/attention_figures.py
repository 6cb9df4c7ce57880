"""How a self-attention network attends to one image: local and cumulative attention, and that of every block."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from matplotlib.patches import Rectangle
from torch import Tensor

from adaptive_models.data.transforms import displayable
from adaptive_models.san import SAN
from adaptive_models.system import LOW_SIZE, AdaptiveSystem
from bench.errors import UsageError
from bench.reporting.panels import BELOW, TITLE, even_rows, in_short, label, square_panels
from bench.reporting.strip import COLOURS, DIGITS, channel_mean, origin, provenance
from bench.reporting.style import print_style, save_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from bench.streaming import Stream

MOST_COLUMNS = 7
PALE = 0.3


def fig5(stream: Stream, out: Path) -> list[Path]:
    """Write Fig. 5: the image, the cumulative global attention of the pre-scan, and local attentions of six footprints.

    All are means over channels, of the frame in the middle of the clip. Local attentions are drawn where their
    footprints lie, less what lies outside the image: those of all positions add up to the cumulative attention.

    Raises:
        UsageError: the system's backbone is no SAN.
        RunError: the folder cannot be written to.
    """
    image, network = _image(stream), _network(stream)
    with torch.inference_mode():
        local, cumulative = (channel_mean(found[0]) for found in network.attentions(image)[network.split])
    height, width = cumulative.shape
    positions = list(product((height // 4, 3 * height // 4), (width // 4, width // 2, 3 * width // 4)))
    placed = {position: _placed(local, position) for position in positions}
    shown = np.stack([*placed.values()])
    lowest, highest = np.nanmin(shown), np.nanmax(shown)
    caption = (
        f"(a) Input with the footprints of six positions i = (row, column); (b) cumulative attention A of "
        f"{network.split}, {in_short(cumulative.min(), cumulative.max())} (dark to bright); (c) local attentions, "
        f"{in_short(lowest, highest)}; means over channels. {_provenance(stream)}"
    )
    with print_style() as colours:
        figure, axes = square_panels(caption, above=[TITLE] * 2, columns=4)
        _picture(axes[0, 0], image, cumulative.shape)
        axes[1, 0].imshow(cumulative, cmap=COLOURS)
        for index, (axis, position) in enumerate(zip(axes[:, 1:].flat, positions, strict=True)):
            _picture(axis, image, cumulative.shape, alpha=PALE)
            axis.imshow(placed[position], cmap=COLOURS, vmin=lowest, vmax=highest)
            label(axis, f"(c) i = {position}")
            _footprint(axis, placed[position], position, colours[index])
            _footprint(axes[0, 0], placed[position], position, colours[index], inset=0.1 * index)
        label(axes[0, 0], "(a) input")
        label(axes[1, 0], "(b) A")
        cells = [_cells(placed[i]).assign(map="a", i_row=i[0], i_column=i[1]) for i in positions]
        data = pd.concat([_cells(cumulative).assign(map="A"), *cells]).astype({"i_row": "Int64", "i_column": "Int64"})
        data = data[["map", "i_row", "i_column", "row", "column", "value"]].assign(**origin(stream))
        return save_figure(figure, data, "fig5", out)


def fig11(stream: Stream, out: Path) -> list[Path]:
    """Write Fig. 11: attention of all blocks of the low-resolution network, each on a colour scale of its own.

    They are means over channels, drawn bilinear, of the frame in the middle of the clip.

    Raises:
        UsageError: the system's backbone is no SAN.
        RunError: the folder cannot be written to.
    """
    image = _image(stream)
    with torch.inference_mode():
        maps = {name: channel_mean(found[0]) for name, (_, found) in _network(stream).attentions(image).items()}
    caption = (
        "Attention of all blocks, means over channels, each on a scale of its own, from dark to bright as written "
        f"below it. {_provenance(stream)}"
    )
    rows, columns = even_rows(len(maps) + 1, MOST_COLUMNS)
    with print_style():
        figure, axes = square_panels(caption, [TITLE, *[TITLE + BELOW] * (rows - 1)], columns, below=BELOW)
        *_, corner = axes[0]
        corner.imshow(displayable(image[0]))
        label(corner, "input", f"3 × {LOW_SIZE} × {LOW_SIZE}")
        others = [axis for axis in axes.flat if axis is not corner]
        for axis, (name, values) in zip(others, maps.items(), strict=False):
            axis.imshow(values, cmap=COLOURS, interpolation="bilinear")
            size = " × ".join(map(str, values.shape))
            label(axis, f"{name}, {size}", in_short(values.min(), values.max()))
        data = pd.concat([_cells(values).assign(layer=name) for name, values in maps.items()])
        data = data[["layer", "row", "column", "value"]].assign(**origin(stream))
        return save_figure(figure, data, "fig11", out)


def _middle(stream: Stream) -> int:
    return len(stream.results) // 2


def _provenance(stream: Stream) -> str:
    return f"{provenance(stream)}; t\u00a0=\u00a0{_middle(stream)}."  # spaces at which no line breaks


def _image(stream: Stream) -> Tensor:
    """The frame in the middle of the clip, as the low-resolution network sees it: (1, 3, 112, 112)."""
    assert stream.clip is not None
    weight = next(_network(stream).parameters())
    image = stream.clip.image(_middle(stream))[None].to(weight.device, weight.dtype)
    return F.interpolate(image, size=(LOW_SIZE, LOW_SIZE), mode="bilinear", align_corners=False)


def _network(stream: Stream) -> SAN:
    assert isinstance(stream.model, AdaptiveSystem)
    network = stream.model.low_rgb
    if not isinstance(network, SAN):
        kind = type(network).__name__
        raise UsageError(f"fig5 and fig11 are of the local attention of a SAN: {stream.system} has a {kind}")
    return network


def _placed(weights: np.ndarray, centre: tuple[int, int]) -> np.ndarray:
    """The local attention of one position on the map (h, w), NaN outside its footprint.

    Args:
        weights: (k, k, h, w).
        centre: row and column of the position.
    """
    side, _, height, width = weights.shape
    padded = np.full((height + side - 1, width + side - 1), np.nan)
    row, column = centre
    padded[row : row + side, column : column + side] = weights[:, :, row, column]
    padding = side // 2
    return padded[padding : padding + height, padding : padding + width]


def _picture(axes: Axes, image: Tensor, size: tuple[int, ...], alpha: float = 1.0) -> None:
    """An image in the coordinates of a map of that size."""
    height, width = size
    axes.imshow(displayable(image[0]), extent=(-0.5, width - 0.5, height - 0.5, -0.5), alpha=alpha)


def _footprint(axes: Axes, placed: np.ndarray, centre: tuple[int, int], colour: Any, inset: float = 0.0) -> None:
    """The outline of a footprint, and the position that it belongs to."""
    rows, columns = np.nonzero(~np.isnan(placed))
    corner = columns.min() - 0.5 + inset, rows.min() - 0.5 + inset
    sides = np.ptp(columns) + 1 - 2 * inset, np.ptp(rows) + 1 - 2 * inset
    axes.add_patch(Rectangle(corner, *sides, fill=False, edgecolor=colour, linewidth=1, clip_on=False))
    axes.plot(centre[1], centre[0], "o", color=colour, markeredgecolor="white", markeredgewidth=0.4)


def _cells(values: np.ndarray) -> pd.DataFrame:
    """A row per cell of a map that was drawn."""
    rows, columns = np.nonzero(~np.isnan(values))
    return pd.DataFrame({"row": rows, "column": columns, "value": values[rows, columns].round(DIGITS)})
