"""How well a hallucinator foresees attention on held-out clips, beside copying the last attention."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from bench.errors import RunError
from bench.evaluating.metrics import mean_gain, verdict
from bench.records.files import write_text

if TYPE_CHECKING:
    from adaptive_models.hallucinator import Hallucinator
    from adaptive_models.training.cache import FeatureCache

COLUMNS = {"ssim": "hallucinated", "ssim copy": "copied", "ssim free": "hallucinated_free"}


def foresight_path(out: Path, data: str, seed: int) -> Path:
    """Where the similarities of a seed lie, beside its evaluations."""
    return out / "evaluations" / data / f"foresight.seed{seed}.csv"


def write_foresight(hallucinator: Hallucinator, clips: FeatureCache, batch: int, path: Path) -> None:
    """Write the mean SSIM over the frames of each clip, of hallucinations and copies to the attention that came.

    Columns are `clip`, its number in the data set; `hallucinated`, one frame ahead, as the system does it; `copied`;
    and `hallucinated_free`, from hallucinations once five frames were seen, as the paper evaluates.

    Raises:
        RunError: the file cannot be written.
    """
    from adaptive_models.training.hallucinator import foresight

    found = {name: values.mean(dim=1).numpy() for name, values in foresight(hallucinator, clips, batch).items()}
    table = pd.DataFrame({"clip": clips.positions} | {own: found[name] for name, own in COLUMNS.items()})
    write_text(path, table.to_csv(index=False, float_format="%.6f", lineterminator="\n"))


def foresight_over_seeds(folder: Path) -> pd.DataFrame:
    """What the files of a data set's folder say, on the clips that all of them have.

    Returns:
        A single row, or none without files: `seeds`, `clips`; means over clips and seeds of each of `COLUMNS`, each
        with its standard deviation between seeds under the name with "_spread"; `gain`, hallucinated less copied, with
        its 95 % interval by the bootstrap over clips in `gain_low` and `gain_high`; and the `verdict` on it.

    Raises:
        RunError: a damaged file.
    """
    files = sorted(folder.glob("foresight.seed*.csv"))
    if not files:
        return pd.DataFrame()
    seeds = pd.concat({path.name: _read(path) for path in files}, names=["seed"])
    by_clip = seeds.groupby("clip").filter(lambda rows: len(rows) == len(files)).groupby("clip").mean()
    means = seeds.groupby("seed").mean()
    gain = mean_gain(by_clip["hallucinated"] - by_clip["copied"])
    row: dict[str, object] = {"seeds": len(files), "clips": len(by_clip)}
    for name in COLUMNS.values():
        row |= {name: means[name].mean(), f"{name}_spread": means[name].std()}
    row |= {"gain": gain.value, "gain_low": gain.low, "gain_high": gain.high, "verdict": verdict(gain)}
    return pd.DataFrame([row])


def _read(path: Path) -> pd.DataFrame:
    try:
        return pd.read_csv(path).set_index("clip")[list(COLUMNS.values())].astype(float)
    except (OSError, ValueError, KeyError) as error:
        raise RunError(f"{path}: not the similarities that `foveabench evaluate --features` writes: {error}") from None
