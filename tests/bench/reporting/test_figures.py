from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path

import matplotlib
import pandas as pd
import pytest
import torch

from adaptive_models import build_backbone
from bench.counting.count import count_flops
from bench.errors import RunError
from bench.reporting import figures
from bench.reporting.figures import FIGURES, accumulated_by_layer, complexity_by_size
from bench.reporting.style import print_style

FOLDER = Path(__file__).resolve().parents[3]
# Blocks of SAN19: 3, 3, 4, 6 and 3 in its five stages
LAYERS = [
    "conv_in",
    *(
        layer
        for stage, blocks in enumerate((3, 3, 4, 6, 3))
        for layer in (f"conv{stage}", *(f"layer{stage}-{block}" for block in range(blocks)))
    ),
    "avgpool",
]


@pytest.fixture(scope="module")
def layers() -> pd.DataFrame:
    return accumulated_by_layer().set_index("layer")


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    out = tmp_path_factory.mktemp("drawn")
    paths = [path for draw in FIGURES.values() for path in draw(out)]
    assert sorted(out.iterdir()) == sorted(paths)
    return {path.name: path.read_bytes() for path in paths}


def test_complexity_is_that_of_the_published_counter() -> None:
    # counted with the published implementation
    data = complexity_by_size([224, 32, 64])
    assert data["size"].tolist() == [224, 32, 64]
    assert (data["gflops_paper"] * 1e9).round().tolist() == [3_748_779_300, 76_505_700, 306_022_800]


def test_exact_operations_and_macs_are_those_of_the_exact_convention() -> None:
    (row,) = complexity_by_size([64]).to_dict("records")
    exact = count_flops(build_backbone("san19").eval(), torch.empty(1, 3, 64, 64))
    assert row["gflops_exact"] * 1e9 == pytest.approx(exact.flops)
    assert row["gmacs"] * 1e9 == pytest.approx(exact.macs)


def test_sizes_that_the_network_cannot_take_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 32"):
        complexity_by_size([64, 31])


def test_layers_are_the_blocks_and_transitions_in_execution_order(layers: pd.DataFrame) -> None:
    assert layers.index.tolist() == LAYERS
    assert layers.loc["conv_in", "modules"] == "conv_in"
    assert layers.loc["conv0", "modules"] == "bn_in relu pool conv0"
    assert layers.loc["conv3", "modules"] == "bn2 relu pool conv3"
    assert layers.loc["avgpool", "modules"] == "bn4 relu avgpool"


def test_layers_cost_what_the_rules_say(layers: pd.DataFrame) -> None:
    # by hand at 112: a 1x1 convolution 3 -> 64; BN 2, ReLU 1 and max-pool 1 per element, then 64 -> 64 at 56
    assert layers.loc["conv_in", "flops_paper"] == 3 * 64 * 112**2
    assert layers.loc["conv0", "flops_paper"] == (2 + 1 + 1) * 64 * 112**2 + 64 * 64 * 56**2
    # BN, ReLU and average pooling of 2048 x 3 x 3
    assert layers.loc["avgpool", "flops_paper"] == (2 + 1 + 1) * 2048 * 3 * 3


def test_accumulated_operations_end_at_the_whole_network(layers: pd.DataFrame) -> None:
    assert (layers["flops_paper"].cumsum() == layers["accumulated_flops_paper"]).all()
    for column in ("accumulated_flops_paper", "accumulated_flops_paper_registered"):
        assert layers[column].is_monotonic_increasing
        assert layers[column].iloc[-1] == 892_427_180


def test_the_first_half_costs_what_is_known(layers: pd.DataFrame) -> None:
    assert layers.loc["layer3-0", "accumulated_flops_paper"] == 526_042_636
    assert layers.loc["layer3-0", "accumulated_flops_paper_registered"] == 523_533_836
    prescan = count_flops(build_backbone("san19").eval().prescan, torch.empty(1, 3, 112, 112), convention="paper")
    assert layers.loc["layer3-0", "accumulated_flops_paper"] == prescan.flops


def test_registered_order_has_normalisation_early_and_shared_modules_last(layers: pd.DataFrame) -> None:
    # up to layer0-0: bn0 of 64 x 56 x 56 is counted already; the ReLU and max-pool at 112 are not
    ahead = layers["accumulated_flops_paper_registered"] - layers["accumulated_flops_paper"]
    assert ahead["layer0-0"] == 2 * 64 * 56**2 - 2 * 64 * 112**2


def test_files_hold_the_data(drawn: dict[str, bytes], layers: pd.DataFrame, tmp_path: Path) -> None:
    assert set(drawn) == {f"{name}.{suffix}" for name in ("fig3", "fig13") for suffix in ("png", "svg", "csv")}
    for name, content in drawn.items():
        (tmp_path / name).write_bytes(content)
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "fig13.csv", index_col="layer"), layers)
    sizes = pd.read_csv(tmp_path / "fig3.csv").set_index("size")
    assert {32, 64, 112, 224, 256} <= set(sizes.index)
    assert sizes.loc[112, "gflops_paper"] == 0.892427180


def test_pictures_are_one_column_wide(drawn: dict[str, bytes]) -> None:
    for name in FIGURES:
        assert int.from_bytes(drawn[f"{name}.png"][16:20], "big") == 3.5 * 300
        assert b'width="252pt"' in drawn[f"{name}.svg"]  # 3.5 inches


def test_pictures_name_no_date_and_no_program(drawn: dict[str, bytes]) -> None:
    for name in FIGURES:
        assert b"dc:date" not in drawn[f"{name}.svg"]
        assert b"Matplotlib v" not in drawn[f"{name}.svg"]
        assert b"Software" not in drawn[f"{name}.png"]


def test_another_process_draws_the_same_bytes(drawn: dict[str, bytes], tmp_path: Path) -> None:
    # other hashes, another back end, and settings that the user prefers on the screen
    (tmp_path / "matplotlibrc").write_text("font.size: 30\nsvg.fonttype: none\nlines.linewidth: 9\n")
    code = "import sys; from pathlib import Path; from bench.reporting.figures import fig13; fig13(Path(sys.argv[1]))"
    settings = {"PYTHONHASHSEED": "7", "MPLBACKEND": "svg", "MATPLOTLIBRC": str(tmp_path), "LC_ALL": "C"}
    command = [sys.executable, "-c", code, str(tmp_path / "out")]
    subprocess.run(command, check=True, cwd=FOLDER, env={**os.environ, **settings})
    for path in (tmp_path / "out").iterdir():
        assert path.read_bytes() == drawn[path.name], path.name


def test_the_same_counts_draw_the_same_bytes(
    drawn: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted = pd.read_csv(io.BytesIO(drawn["fig3.csv"]))
    monkeypatch.setattr(figures, "complexity_by_size", lambda: counted)
    with matplotlib.rc_context({"font.size": 31, "svg.hashsalt": "mine"}):
        paths = figures.fig3(tmp_path)
    assert len(paths) == 3
    for path in paths:
        assert path.read_bytes() == drawn[path.name], path.name


def test_the_users_settings_are_as_before() -> None:
    with matplotlib.rc_context({"font.size": 31, "svg.hashsalt": "mine"}):
        with print_style():
            assert matplotlib.rcParams["font.size"] == 7
        assert matplotlib.rcParams["font.size"] == 31
        assert matplotlib.rcParams["svg.hashsalt"] == "mine"


def test_a_folder_that_cannot_be_made_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(RunError, match=r"cannot write .*fig13\.png"):
        FIGURES["fig13"](tmp_path / "taken")
    assert (tmp_path / "taken").read_text() == "a file"
