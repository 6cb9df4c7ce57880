"""The paper's complexity figures, redrawn from our own counts."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import pandas as pd
import torch
from matplotlib.figure import Figure

from adaptive_models.san import SAN, build_san
from adaptive_models.system import CROP_SIZE, HIGH_SIZE, LOW_SIZE
from bench.counting.counter import Counter, counting
from bench.counting.isolation import undisturbed
from bench.counting.meta import unfilled
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
    model, rows = _san19(), []
    for size in sizes:
        profile = _count(model, size)
        exact = sum(op.exact for row in profile.rows for op in row.ops.values())
        rows.append((size, profile.flops / 1e9, exact / 1e9, profile.macs / 1e9))
    return pd.DataFrame(rows, columns=["size", "gflops_paper", "gflops_exact", "gmacs"])


def accumulated_by_layer(size: int = LOW_SIZE) -> pd.DataFrame:
    """Operations of SAN19 on an RGB image, accumulated over its layers in the `paper` convention (paper, Fig. 13).

    A layer is a bottleneck block, or a convolution between stages or the final pooling with what runs before it. The
    published code accumulates in the order in which modules are *registered*: there a stage's normalisation comes
    before its blocks, though it runs after them, and the shared ReLU and max-pool last, though they run all along.

    Args:
        size: side of the image.

    Returns:
        A row per layer in execution order: `layer`; `modules`, which run in it; `flops_paper`, its own;
        `accumulated_flops_paper`; and `accumulated_flops_paper_registered`, up to the layer in the published order.
    """
    model = _san19()
    rows = pd.DataFrame([(row.name, row.flops) for row in _count(model, size).rows], columns=["name", "flops"])
    module = rows["name"].str.extract(r"^(layer\d+\.\d+|\w+)", expand=False)
    layer = module.where(module.str.match("layer|conv|avgpool")).bfill()
    modules = module.groupby(layer, sort=False).agg(lambda run: " ".join(run.unique()))
    flops = rows["flops"].groupby(layer, sort=False).sum()
    position = {name: index for index, (name, _) in enumerate(model.named_modules())}
    registered = rows["name"].map(position)
    ends = [max(position[name] for name in position if f"{name}.".startswith(f"{each}.")) for each in flops.index]
    return pd.DataFrame(
        {
            "layer": flops.index.str.replace(".", "-"),
            "modules": modules.array,
            "flops_paper": flops.array,
            "accumulated_flops_paper": flops.cumsum().array,
            "accumulated_flops_paper_registered": [rows["flops"][registered <= end].sum() for end in ends],
        }
    )


def fig3(out: Path) -> list[Path]:
    """Write Fig. 3: GFLOPs of SAN19 against the side of its input; the sizes that the system uses are marked.

    Raises:
        RunError: the folder cannot be written to.
    """
    data = complexity_by_size()
    used = data[data["size"].isin([CROP_SIZE, LOW_SIZE, HIGH_SIZE])]
    with print_style() as colours:
        figure = Figure(figsize=(ONE_COLUMN, 2.2))
        axes = figure.subplots()
        axes.plot(data["size"], data["gflops_paper"], color=colours[0], marker="o")
        axes.scatter(used["size"], used["gflops_paper"], s=24, color=colours[3], zorder=3)
        for size, gflops in zip(used["size"], used["gflops_paper"], strict=True):
            axes.annotate(f"N = {size}: {gflops:.2f}", (size, gflops), (-5, 5), textcoords="offset points", ha="right")
        axes.set(
            xlabel="Side N of the input (3 × N × N)", ylabel="GFLOPs (paper convention)", xlim=(0, 264), ylim=(0, None)
        )
        axes.set_xticks(range(0, 257, 32))
        return save_figure(figure, data, "fig3", out)


def fig13(out: Path) -> list[Path]:
    """Write Fig. 13: operations of SAN19 at 3x112x112 accumulated by layer; the split after the pre-scan is marked.

    Raises:
        RunError: the folder cannot be written to.
    """
    data = accumulated_by_layer()
    split = int(data.index[data["layer"] == SPLIT][0])
    gflops = data["accumulated_flops_paper"] / 1e9
    registered = data["accumulated_flops_paper_registered"][split] / 1e9
    with print_style() as colours:
        figure = Figure(figsize=(ONE_COLUMN, 2.5))
        axes = figure.subplots()
        axes.axvspan(-0.6, split + 0.5, color="0.94", zorder=0)
        axes.bar(data.index, data["flops_paper"] / 1e9, color=colours[1], width=0.7, linewidth=0, label="each layer")
        axes.plot(data.index, gflops, color=colours[0], marker="o", label="accumulated")
        axes.scatter(split, gflops[split], s=24, color=colours[3], zorder=3)
        label = f"{SPLIT}\n{gflops[split]:.3f} as executed\n{registered:.3f} as registered"
        axes.annotate(label, (split, gflops[split]), (7, -3), textcoords="offset points", va="top")
        for text, x, side in (("pre-scan", split + 0.2, "right"), ("rest", split + 0.8, "left")):
            axes.text(x, 0.97, text, transform=axes.get_xaxis_transform(), ha=side, va="top", style="italic")
        axes.set_xticks(data.index, data["layer"], rotation=90)
        axes.set(ylabel="GFLOPs (paper convention)", xlim=(-0.6, len(data) - 0.4), ylim=(0, None))
        axes.grid(visible=False, axis="x")
        axes.legend(loc="upper left", frameon=False)
        return save_figure(figure, data, "fig13", out)


FIGURES: dict[str, Callable[[Path], list[Path]]] = {"fig3": fig3, "fig13": fig13}


def _san19() -> SAN:
    with torch.device("meta"), unfilled():
        return build_san("san19").eval()


def _count(model: SAN, size: int) -> Profile:
    counter, image = Counter(model, "paper"), torch.empty(1, 3, size, size, device="meta")
    with undisturbed(), torch.inference_mode(), counting(counter):
        model(image)
    return counter.profile()
