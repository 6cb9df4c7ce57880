"""The paper's complexity figures, redrawn from our own counts."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import pandas as pd
import seaborn as sns
import torch
from matplotlib.figure import Figure

from adaptive_models import build_backbone
from adaptive_models.san import SAN
from adaptive_models.system import CROP_SIZE, HIGH_SIZE, LOW_SIZE
from bench.counting.count import count_flops
from bench.counting.profile import Profile
from bench.reporting.style import ONE_COLUMN, print_style, save_figure

SIZES = range(32, 257, 16)
SPLIT = "layer3-0"


def complexity_by_size(sizes: Iterable[int] = SIZES) -> pd.DataFrame:
    """Operations of SAN19 on an RGB image (3, N, N), without classifier (paper, Fig. 3).

    Args:
        sizes: N, at least 32.

    Returns:
        A row per size: `size`; `gflops_paper` and `gflops_exact`, counted in these conventions; `gmacs`.

    Raises:
        ValueError: a size below 32.
    """
    rows = []
    for size in sizes:
        profile = _count(_san19(), size)
        exact = sum(op.exact for row in profile.rows for op in row.ops.values())
        rows.append((size, profile.flops / 1e9, exact / 1e9, profile.macs / 1e9))
    return pd.DataFrame(rows, columns=["size", "gflops_paper", "gflops_exact", "gmacs"])


def accumulated_by_layer(size: int = LOW_SIZE) -> pd.DataFrame:
    """Operations of SAN19 on an RGB image, accumulated over its layers in the `paper` convention (paper, Fig. 13).

    A layer is a bottleneck block, a convolution between stages with the normalisation, ReLU and max-pool before it, or the
    average pooling with those before it. The published code accumulates in the order in which modules are *registered*:
    there a stage's normalisation comes before its blocks, though it runs after them, and the shared ReLU and max-pool come
    last, though they run all along.

    Args:
        size: side of the image.

    Returns:
        A row per layer in execution order: `layer`; `modules`, which run in it; `flops`, its own; `accumulated_flops`; and
        `accumulated_flops_registered`, in the published code's order.
    """
    model = _san19()
    rows = pd.DataFrame([(row.name, row.flops) for row in _count(model, size).rows], columns=["name", "flops"])
    module = rows["name"].str.extract(r"^(layer\d+\.\d+|\w+)", expand=False)
    rows["layer"] = module.where(module.str.match("layer|conv|avgpool")).bfill()
    layers = rows.groupby("layer", sort=False)["flops"].sum().rename("flops").reset_index()
    layers.insert(1, "modules", module.groupby(rows["layer"], sort=False).agg(lambda run: " ".join(run.unique())).array)
    layers["accumulated_flops"] = layers["flops"].cumsum()
    position = {name: index for index, (name, _) in enumerate(model.named_modules())}
    ends = [max(position[name] for name in position if f"{name}.".startswith(f"{layer}.")) for layer in layers["layer"]]
    registered = rows["name"].map(position)
    layers["accumulated_flops_registered"] = [rows.loc[registered <= end, "flops"].sum() for end in ends]
    layers["layer"] = layers["layer"].str.replace(".", "-")
    return layers


def fig3(out: Path) -> list[Path]:
    """Write Fig. 3: GFLOPs of SAN19 against the side of its input; the sizes that the system uses are marked.

    Raises:
        RunError: the folder cannot be written to.
    """
    data = complexity_by_size()
    with print_style() as colours:
        figure = Figure(figsize=(ONE_COLUMN, 2.3))
        axes = figure.subplots()
        axes.plot(data["size"], data["gflops_exact"], color="0.65", linewidth=0.8, label="exact convention")
        axes.plot(
            data["size"], data["gflops_paper"], color=colours[0], marker="o", markersize=2.2, label="paper convention"
        )
        used = data[data["size"].isin([CROP_SIZE, LOW_SIZE, HIGH_SIZE])]
        axes.scatter(used["size"], used["gflops_paper"], s=22, color=colours[3], zorder=3)
        for size, gflops in zip(used["size"], used["gflops_paper"], strict=True):
            axes.annotate(f"N = {size}: {gflops:.2f}", (size, gflops), (-6, 6), textcoords="offset points", ha="right")
        axes.set(xlabel="Side N of the input (3 × N × N)", ylabel="GFLOPs", xlim=(24, 264), ylim=(0, None))
        axes.set_xticks(range(32, 257, 32))
        axes.legend(loc="upper left", frameon=False)
        return save_figure(figure, data, "fig3", out)


def fig13(out: Path) -> list[Path]:
    """Write Fig. 13: operations of SAN19 at 3x112x112 accumulated by layer; the split after the pre-scan is marked.

    Raises:
        RunError: the folder cannot be written to.
    """
    data = accumulated_by_layer()
    split = int(data.index[data["layer"] == SPLIT][0])
    gflops, published = data.loc[split, ["accumulated_flops", "accumulated_flops_registered"]] / 1e9
    with print_style() as colours:
        figure = Figure(figsize=(ONE_COLUMN, 2.5))
        axes = figure.subplots()
        axes.bar(data.index, data["flops"] / 1e9, color=colours[1], width=0.7, linewidth=0, label="each layer")
        axes.plot(data.index, data["accumulated_flops"] / 1e9, color=colours[0], marker="o", label="accumulated")
        axes.axvspan(-0.6, split + 0.5, color="0.93", zorder=0, linewidth=0)
        axes.annotate(f"{SPLIT}: {gflops:.3f}", (split, gflops), (-6, 6), textcoords="offset points", ha="right")
        axes.set_xticks(data.index, data["layer"], rotation=90)
        axes.set(ylabel="GFLOPs", xlim=(-0.6, len(data) - 0.4), ylim=(0, None))
        axes.grid(visible=False, axis="x")
        axes.legend(loc="upper left", frameon=False)
        return save_figure(figure, data, "fig13", out)


FIGURES: dict[str, Callable[[Path], list[Path]]] = {"fig3": fig3, "fig13": fig13}


def _san19() -> SAN:
    with torch.device("meta"):
        return build_backbone("san19").eval()


def _count(model: SAN, size: int) -> Profile:
    return count_flops(model, torch.empty(1, 3, size, size, device="meta"), convention="paper")
