"""The table of newer adaptive systems, which are published on other data than the paper's."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

import pandas as pd

from bench.records.files import write_forms
from bench.reporting.layout import bullets, latex_float, markdown_table
from bench.systems.others import OTHERS

TITLE = "Newer adaptive systems"

NOTES = (
    "All figures are of a whole video. Published GFLOPs are multiply-accumulates, as in our count, which is exact.",
    "Counted: the least and the most that a policy can make of the described networks. The shares of choices at the"
    " published operating points are not published, so a count of these would have to be made to fit.",
    "AR-Net: a MobileNetV2 with an LSTM sees frames at 84 pixels; ResNet-50 at 224, ResNet-34 at 168, ResNet-18 at 112,"
    " or the former itself classify, or 1, 2 or 4 frames are skipped. Least: the first frame is classified at 84,"
    " and then four are skipped at a time; most: every frame is classified at 224 pixels.",
    "AdaFocus: MobileNetV2 on the frame, ResNet-50 on a patch of it, and two GRUs, for every frame. Nothing is left to"
    " decide that costs, so that the count should be the published figure.",
    "FrameExit: ResNet-50 on one frame after another, until a gate stops it; least: one frame, most: ten.",
)


def others_table() -> pd.DataFrame:
    """A row per system: what is published of a video, as printed, and the bounds of what we count, in 1e9."""
    with (files("bench.published") / "others.csv").open(encoding="utf-8") as stream:
        published = pd.read_csv(stream, dtype=str)
    bounds = [OTHERS[name]() for name in published["name"]]
    return pd.DataFrame(
        {
            **{name: published[name] for name in ("title", "venue", "data", "frames", "metric")},
            "score_published": published["score"],
            "gflops_published": published["gflops"],
            "gmacs_least_counted": [each.least / 1e9 for each in bounds],
            "gmacs_most_counted": [each.most / 1e9 for each in bounds],
            "source": published["source"],
        }
    )


def write_others(out: Path) -> list[Path]:
    """Write others.csv, .md and .tex.

    Raises:
        RunError: the folder cannot be written to.
    """
    frame = others_table()
    shown = pd.DataFrame(
        {
            ("", "System"): frame["title"],
            ("", "venue"): frame["venue"],
            ("", "data"): frame["data"],
            ("", "frames"): frame["frames"],
            ("Published", "accuracy"): frame["metric"] + " " + frame["score_published"] + " %",
            ("Published", "GFLOPs"): frame["gflops_published"],
            ("Counted", "GMACs, least"): frame["gmacs_least_counted"].map("{:.2f}".format),
            ("Counted", "GMACs, most"): frame["gmacs_most_counted"].map("{:.2f}".format),
            ("", "source of the published"): frame["source"],
        }
    )
    texts = {
        "csv": frame.round(9).to_csv(index=False, lineterminator="\n"),
        "md": f"# {TITLE}\n\n{markdown_table(shown)}\n\n{bullets(NOTES)}\n",
        "tex": latex_float(TITLE, "others", shown, NOTES),
    }
    return write_forms(out, "others", texts)
