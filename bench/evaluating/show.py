"""Evaluations as people see them, and as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from bench.display import note, print_table, say
from bench.errors import RunError
from bench.evaluating.metrics import difference, hits
from bench.evaluating.summary import evaluated, learned_against_others
from bench.records.evaluation import Evaluation, read_evaluation

TITLES = {
    "top1": "top-1",
    "top5": "top-5",
    "product_top1": "product top-1",
    "product_top5": "product top-5",
    "verb_top1": "verb top-1",
    "verb_top5": "verb top-5",
    "noun_top1": "noun top-1",
    "noun_top5": "noun top-5",
}
SHOWN = {
    "top5": ("top-5", 2),
    "product_top5": ("by product", 2),
    "verb_top1": ("verb", 2),
    "noun_top1": ("noun", 2),
    "gflops": ("GFLOPs/frame", 4),
    "trade_off": ("trade-off", 4),
    "skip_pct": ("skip %", 1),
    "prescan_pct": ("pre-scan %", 1),
    "full_pct": ("full %", 1),
}
"""Columns for people, with their decimals; JSON has all."""

NAMED = 3
"""Clips that were left out, by name; the file has all."""


def to_json(evaluations: Sequence[Evaluation]) -> dict[str, Any]:
    """What `foveabench evaluate --json` prints."""
    return {"evaluations": _plain(evaluated(evaluations)), "comparisons": _plain(learned_against_others(evaluations))}


def _plain(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows, with None where a cell is empty."""
    rows = table.astype(object).where(table.notna(), None).to_dict("records")
    return [{str(name): value for name, value in row.items()} for row in rows]


def show_evaluations(evaluations: Sequence[Evaluation]) -> None:
    """A row for each evaluation, and how learned decisions fare against those that do not look."""
    table = evaluated(evaluations)
    titles = {name: title for name, title in SHOWN.items() if table[name].notna().any()}
    rows = []
    for row in table.to_dict("records"):
        top1 = f"{row['top1']:.2f} ± {(row['top1_high'] - row['top1_low']) / 2:.1f}"
        numbers = [_number(row[name], decimals) for name, (_, decimals) in titles.items()]
        rows.append([row["system"], row["policy"], top1, *numbers])
    print_table(["system", "policy", "top-1 %", *(title for title, _ in titles.values())], rows)
    _explain(evaluations[0])
    for each in evaluations:
        for name, why in list(each.left_out.items())[:NAMED]:
            note(f"warning: {each.system}: {name} is left out: {why}")
        if len(each.left_out) > NAMED:
            note(f"warning: {each.system}: and {len(each.left_out) - NAMED} more: see the file of results")
        if not each.trained:
            note(f"warning: {each.system}: random weights, accuracy is that of guessing")
    against = learned_against_others(evaluations)
    if len(against):
        say("")
        gains = [
            f"{row.gain:+.2f} [{row.gain_low:+.2f}, {row.gain_high:+.2f}]" for row in against.itertuples(index=False)
        ]
        print_table(
            ["system", "learned less", "points of top-1", "learned is", "operations saved %"],
            zip(
                against["system"],
                against["rival"],
                gains,
                against["verdict"],
                [_number(value, 1) for value in against["saved_pct"]],
                strict=True,
            ),
        )


def _explain(evaluation: Evaluation) -> None:
    rules = "Actions: verb and noun both among the best k; by product: the pair among the best k pairs. "
    say(
        "{count} clips of {data} {split}, {frames} frames each{dtype}. "
        + (rules if len(evaluation.groups) == 2 else "")
        + "±: half of the 95 % Wilson interval. "
        + "GFLOPs as executed; trade-off: GFLOPs in the paper's convention over top-1.",
        count=len(evaluation.clips),
        data=evaluation.data,
        split=evaluation.split,
        frames=evaluation.frames,
        dtype="" if evaluation.dtype == "float32" else f", in {evaluation.dtype}",
    )


def _number(value: float, digits: int) -> str:
    return "" if pd.isna(value) else f"{value:.{digits}f}"


def compare_results(a: str, b: str) -> dict[str, Any]:
    """Two systems on the same clips, as plain data.

    Args:
        a, b: file of an evaluation, or its name up to ".seed0.json", for all seeds together.

    Raises:
        RunError: no such file, or a damaged one.
        UsageError: evaluations on other clips or of other seeds.
    """
    first, second = _find(a), _find(b)
    columns = [str(name) for name in hits(first[0]) if name in hits(second[0])]
    differences = {name: difference(first, second, name) for name in columns}
    means = [evaluated(each)[[*columns, "gflops"]].mean() for each in (first, second)]
    return {
        "a": {**{name: getattr(first[0], name) for name in ("system", "policy", "dtype")}, **means[0]},
        "b": {**{name: getattr(second[0], name) for name in ("system", "policy", "dtype")}, **means[1]},
        "seeds": [each.seed for each in first],
        "clips": len(first[0].clips),
        "differences": {
            name: {"value": each.value, "low": each.low, "high": each.high} for name, each in differences.items()
        },
    }


def _find(name: str) -> list[Evaluation]:
    path = Path(name)
    paths = [path] if path.is_file() else sorted(path.parent.glob(f"{path.name}.seed*.json"))
    if not paths:
        raise RunError(f"{name}: neither a file of results nor the name of one up to its seed")
    return [read_evaluation(each) for each in paths]


def show_comparison(compared: dict[str, Any]) -> None:
    """Accuracies of two systems side by side, and their difference."""
    a, b = compared["a"], compared["b"]
    rows = [
        [
            TITLES[name],
            f"{a[name]:.2f}",
            f"{b[name]:.2f}",
            f"{each['value']:+.2f} [{each['low']:+.2f}, {each['high']:+.2f}]",
        ]
        for name, each in compared["differences"].items()
    ]
    rows.append(["GFLOPs/frame", f"{a['gflops']:.4f}", f"{b['gflops']:.4f}", f"{a['gflops'] / b['gflops']:.3f} x"])
    types = [each["dtype"] for each in (a, b)] if a["dtype"] != b["dtype"] else ["", ""]
    names = [f"{each['system']} {each['policy']} {own}".rstrip() for each, own in zip((a, b), types, strict=True)]
    print_table(["%", *names, "A - B, in points"], rows)
    say(
        "{clips} clips, seeds {seeds}; intervals of 95 % by the paired bootstrap over clips",
        clips=compared["clips"],
        seeds=", ".join(map(str, compared["seeds"])),
    )
