from __future__ import annotations

import os
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import Tensor, nn

from adaptive_models import build_backbone
from adaptive_models.checkpoints import CheckpointError, load_reference
from adaptive_models.classifier import GRUHead, ThreeHeads
from adaptive_models.hallucinator import Hallucinator
from adaptive_models.san import SAN
from adaptive_models.temporal_sampler import TemporalSampler

# A GRU head as the reference names it: 6 inputs, width 4, 5 verbs and 3 nouns.
HEAD = {
    "rnn.weight_ih_l0": (12, 6),
    "rnn.weight_hh_l0": (12, 4),
    "rnn.bias_ih_l0": (12,),
    "rnn.bias_hh_l0": (12,),
    "fc_verb.weight": (5, 4),
    "fc_verb.bias": (5,),
    "fc_noun.weight": (3, 4),
    "fc_noun.bias": (3,),
}


def checkpoint_of(shapes: dict[str, tuple[int, ...]]) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {name: torch.rand(shape, generator=generator) for name, shape in shapes.items()}


def head() -> GRUHead:
    return GRUHead(6, (5, 3), hidden=4, layers=1)


def snapshot(module: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


def holds(module: nn.Module, state: dict[str, Tensor]) -> bool:
    return all(torch.equal(tensor, state[name]) for name, tensor in module.state_dict().items())


@pytest.mark.parametrize(
    ("network", "make", "pairs"),
    [
        (
            "san19_pairwise",
            lambda: build_backbone("san19"),
            {
                "conv_in.weight": "conv_in.weight",
                "layer0.0.sam.conv1.bias": "layer0.0.sam.query.bias",
                "layer3.5.sam.conv2.weight": "layer3.5.sam.key.weight",
                "layer4.2.sam.conv3.weight": "layer4.2.sam.value.weight",
                "layer2.3.sam.conv_p.weight": "layer2.3.sam.position.weight",
                "layer1.0.sam.conv_w.2.weight": "layer1.0.sam.weigh.2.weight",
            },
        ),
        (
            "hallucinator",
            Hallucinator,
            {"rnn.cell_list.0.conv.weight": "cell.conv.weight", "conv_decoder.weight": "decoder.0.weight"},
        ),
        ("temporal_sampler_T3", lambda: TemporalSampler(3), {"fc_out.weight": "fc_out.weight"}),
    ],
)
def test_reference_checkpoints(
    recipe_weights: Callable[[str], dict[str, Tensor]],
    tmp_path: Path,
    network: str,
    make: Callable[[], nn.Module],
    pairs: dict[str, str],
) -> None:
    weights = recipe_weights(network)
    plain = make()
    load_reference(plain, weights)
    for published, own in pairs.items():
        assert torch.equal(plain.state_dict()[own], weights[published]), published
    assert sum(t.numel() for name, t in weights.items() if not name.startswith("fc.")) == sum(
        t.numel() for t in plain.state_dict().values()
    )
    path = tmp_path / "checkpoint.pth"
    torch.save({"epoch": 3, "state_dict": {f"module.{name}": tensor for name, tensor in weights.items()}}, path)
    wrapped = make()
    load_reference(wrapped, path)
    assert holds(wrapped, plain.state_dict())


@pytest.mark.parametrize("prefix", ["", "module."])
@pytest.mark.parametrize("wrap", [dict, lambda entries: {"state_dict": entries, "best": 0.5}])
@pytest.mark.parametrize("saved", [False, True])
def test_a_head_from_every_form_of_checkpoint(
    tmp_path: Path, prefix: str, wrap: Callable[[dict], dict], saved: bool
) -> None:
    entries = checkpoint_of(HEAD)
    source = wrap({prefix + name: tensor for name, tensor in entries.items()})
    if saved:
        torch.save(source, tmp_path / "head.pth")
        source = str(tmp_path / "head.pth")
    gru_head = head()
    load_reference(gru_head, source)
    assert torch.equal(gru_head.rnn.weight_hh_l0, entries["rnn.weight_hh_l0"])
    assert torch.equal(gru_head.classifiers[0].weight, entries["fc_verb.weight"])
    assert torch.equal(gru_head.classifiers[1].bias, entries["fc_noun.bias"])


def test_a_head_for_actions() -> None:
    entries = checkpoint_of({name.replace("verb", "action"): s for name, s in HEAD.items() if "noun" not in name})
    gru_head = GRUHead(6, (5,), hidden=4, layers=1)
    load_reference(gru_head, entries)
    assert torch.equal(gru_head.classifiers[0].weight, entries["fc_action.weight"])


def test_three_heads() -> None:
    # 2 of the image, 4 of the sound, 2 crops of 3: the heads take 6, 10 and 12 inputs.
    inputs = {"actreg_global": 6, "actreg_local": 10, "actreg_both": 12}
    shapes = {
        f"{name}.{entry}": (12, width) if entry == "rnn.weight_ih_l0" else shape
        for name, width in inputs.items()
        for entry, shape in HEAD.items()
    }
    entries = checkpoint_of(shapes)
    network = ThreeHeads(2, 4, 3, 2, (5, 3), hidden=4, layers=1)
    load_reference(network, entries)
    for published, own in (("actreg_global", "global"), ("actreg_local", "local"), ("actreg_both", "both")):
        assert torch.equal(network.heads[own].rnn.weight_ih_l0, entries[f"{published}.rnn.weight_ih_l0"])
        assert torch.equal(network.heads[own].classifiers[1].weight, entries[f"{published}.fc_noun.weight"])


def test_own_names_are_read_too() -> None:
    source, target = head(), head()
    load_reference(target, source.state_dict())
    assert holds(target, source.state_dict())


def test_the_classifier_of_a_backbone_may_be_there_or_not() -> None:
    torch.manual_seed(0)
    network, entries = SAN((1,) * 5, widths=(32,) * 5), SAN((1,) * 5, widths=(32,) * 5).state_dict()
    load_reference(network, entries)
    load_reference(network, {**entries, "module.fc.weight": torch.zeros(1000, 32), "fc.bias": torch.zeros(1000)})
    assert holds(network, entries)
    with pytest.raises(CheckpointError, match=r"^checkpoint does not fit GRUHead: unexpected: fc\.weight$"):
        load_reference(head(), {**checkpoint_of(HEAD), "fc.weight": torch.zeros(1000, 32)})


def test_counts_of_batches_may_be_missing() -> None:
    network, source = Hallucinator(2, 2), Hallucinator(2, 2)
    nn.init.normal_(source.encoder[1].running_mean)
    entries = {name: t for name, t in source.state_dict().items() if not name.endswith("num_batches_tracked")}
    load_reference(network, entries)
    assert holds(network, source.state_dict())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"fc_noun.bias": None}, "missing: classifiers.1.bias"),
        ({"rnn.weight_ih_l1": (12, 4)}, "unexpected: rnn.weight_ih_l1"),
        ({"module.fc_verbs.bias": (5,)}, "unexpected: module.fc_verbs.bias"),
        ({"fc_verb.weight": (5, 8)}, "wrong shape: fc_verb.weight has shape (5, 8), not (5, 4)"),
        ({"fc_action.bias": (5,)}, "given twice: classifiers.0.bias"),
        (
            {"fc_verb.bias": None, "fc_noun.bias": (4,), "extra": (1,)},
            "missing: classifiers.0.bias; unexpected: extra; wrong shape: fc_noun.bias has shape (4,), not (3,)",
        ),
    ],
)
def test_entries_that_do_not_fit_are_named_and_nothing_changes(
    change: dict[str, tuple[int, ...] | None], message: str
) -> None:
    shapes = {name: shape for name, shape in {**HEAD, **change}.items() if shape is not None}
    gru_head = head()
    before = snapshot(gru_head)
    with pytest.raises(CheckpointError) as caught:
        load_reference(gru_head, checkpoint_of(shapes))
    assert str(caught.value) == f"checkpoint does not fit GRUHead: {message}"
    assert holds(gru_head, before)


def test_a_long_list_of_entries_is_cut() -> None:
    with pytest.raises(CheckpointError, match=r"missing: (\S+, ){4}\S+ and 3 more$") as caught:
        load_reference(head(), {})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("source", [{"fc_verb.weight": [1.0]}, {"state_dict": 1}, [torch.zeros(1)], None])
def test_what_is_no_mapping_to_tensors_is_refused(source: object) -> None:
    with pytest.raises(CheckpointError, match="a checkpoint maps names to tensors"):
        load_reference(head(), source)


class _Bomb:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("save", [torch.save, lambda bomb, path: path.write_bytes(pickle.dumps(bomb, protocol=2))])
def test_a_pickle_that_would_run_code_is_refused_and_does_not_run(
    tmp_path: Path, save: Callable[[object, Path], object]
) -> None:
    crater = tmp_path / "crater"
    path = tmp_path / "checkpoint.pth"
    save({**checkpoint_of(HEAD), "bomb": _Bomb(crater)}, path)
    with pytest.raises(CheckpointError, match=r"checkpoint\.pth: not a checkpoint that can be read safely"):
        load_reference(head(), path)
    assert not crater.exists()
    torch.load(path, weights_only=False) if save is torch.save else pickle.loads(path.read_bytes())
    assert crater.exists(), "the file was harmless, so this test showed nothing"


def test_files_that_are_no_checkpoints(tmp_path: Path) -> None:
    whole = tmp_path / "whole.pth"
    torch.save(checkpoint_of(HEAD), whole)
    contents = {
        "empty.pth": b"",
        "text.pth": b"hello, this is no checkpoint",
        "table.csv": b"a,b\n1,2\n",
        "truncated.pth": whole.read_bytes()[:-300],
        "halved.pth": whole.read_bytes()[: whole.stat().st_size // 2],
        "array.npy": np.lib.format.magic(1, 0) + b"\x00" * 20,
    }
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    (tmp_path / "folder").mkdir()
    gru_head = head()
    before = snapshot(gru_head)
    for name in (*contents, "folder"):
        with pytest.raises(CheckpointError) as caught:
            load_reference(gru_head, tmp_path / name)
        assert str(caught.value).startswith(f"{tmp_path / name}: not a checkpoint that can be read safely (")
        assert "\n" not in str(caught.value)
    with pytest.raises(FileNotFoundError, match=r"none\.pth"):
        load_reference(gru_head, tmp_path / "none.pth")
    assert holds(gru_head, before)


def test_safetensors_files_are_read_too(tmp_path: Path) -> None:
    path = tmp_path / "head.safetensors"
    save_file(checkpoint_of(HEAD), path)
    gru_head, same = head(), head()
    load_reference(gru_head, path)
    load_reference(same, checkpoint_of(HEAD))
    assert holds(gru_head, snapshot(same))
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(CheckpointError) as caught:
        load_reference(gru_head, path)
    assert str(caught.value).startswith(f"{path}: not a safetensors file (")


def test_a_file_that_does_not_fit_is_named_once(tmp_path: Path) -> None:
    for name, save in (("other.pth", torch.save), ("other.safetensors", save_file)):
        save({"weight": torch.zeros(1)}, tmp_path / name)
        with pytest.raises(CheckpointError) as caught:
            load_reference(head(), tmp_path / name)
        assert str(caught.value).startswith(f"{tmp_path / name}: checkpoint does not fit GRUHead: missing: ")
        assert str(caught.value).count(name) == 1


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@given(st.binary(max_size=64))
@settings(max_examples=100, deadline=None)
def test_whatever_a_file_begins_with_the_error_is_one_of_ours(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    path = tmp_path_factory.getbasetemp() / "any.pth"
    path.write_bytes(content)
    with pytest.raises(CheckpointError):
        load_reference(head(), path)
