"""The zeros of a checkpoint, permanent or with torch's masks in it."""

import json
import subprocess
from pathlib import Path

import pytest
import torch
from support import INSPECT_LINE, small_bert
from torch.nn.utils import prune as torch_prune
from transformers import BertForSequenceClassification

from pruneloop.errors import InputError
from pruneloop.inspection import table, zeros_of

KEY = "bert.encoder.layer.0.attention.self.key.weight"


@pytest.fixture
def model() -> BertForSequenceClassification:
    return small_bert(max_position_embeddings=512)  # enough for two shards


def pruned(model: BertForSequenceClassification) -> torch.nn.Module:
    key = model.bert.encoder.layer[0].attention.self.key
    return torch_prune.l1_unstructured(key, "weight", amount=64)


def test_a_permanent_checkpoint(model, tmp_path: Path) -> None:
    torch_prune.remove(pruned(model), "weight")
    model.save_pretrained(tmp_path)
    assert zeros_of(tmp_path)[KEY] == (64, 256)


def test_a_sharded_checkpoint(model, tmp_path: Path) -> None:
    torch_prune.remove(pruned(model), "weight")
    model.save_pretrained(tmp_path, max_shard_size="20KB")
    assert len(list(tmp_path.glob("*.safetensors"))) > 1
    assert zeros_of(tmp_path)[KEY] == (64, 256)


def test_torchs_masks_tell_what_is_zero(model, tmp_path: Path) -> None:
    pruned(model)
    torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")
    assert zeros_of(tmp_path)[KEY] == (64, 256)


def test_the_table_sums_kinds_and_all(model, tmp_path: Path) -> None:
    torch_prune.remove(pruned(model), "weight")
    model.save_pretrained(tmp_path)
    lines = table(zeros_of(tmp_path)).splitlines()
    assert any("25.00%" in line and line.endswith("key (1)") for line in lines)
    assert lines[-1].endswith("all matrices (11)")


def test_a_folder_without_a_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"model\.safetensors"):
        zeros_of(tmp_path)


def test_the_command_says_it_in_one_line(tmp_path: Path) -> None:
    result = subprocess.run([*INSPECT_LINE, str(tmp_path)], capture_output=True, text=True)
    assert result.returncode == 3
    assert len(result.stderr.splitlines()) == 1 and "pruneloop:" in result.stderr


@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin"])
@pytest.mark.parametrize("size", [0, 100, 5000])
def test_a_damaged_file_is_one_line(model, tmp_path: Path, name: str, size: int) -> None:
    if name.endswith("bin"):
        torch.save(model.state_dict(), tmp_path / name)
    else:
        model.save_pretrained(tmp_path)
    (tmp_path / name).write_bytes((tmp_path / name).read_bytes()[:size])
    with pytest.raises(InputError, match=name):
        zeros_of(tmp_path)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ([torch.ones(2, 2)], "holds a list, and no weights by name"),
        ("text", "holds a str, and no weights by name"),
        ({}, "holds no matrix"),
        ({"step": 3, "rate": 0.1}, "holds no matrix"),
        ({"empty.weight": torch.ones(0, 3)}, "holds no matrix"),
    ],
)
def test_what_is_no_checkpoint_is_one_line(tmp_path: Path, content: object, said: str) -> None:
    torch.save(content, tmp_path / "pytorch_model.bin")
    with pytest.raises(InputError, match=said):
        zeros_of(tmp_path)


def test_the_weights_inside_a_training_checkpoint_are_found(tmp_path: Path) -> None:
    torch.save({"step": 3, "model": {"a.weight": torch.eye(2)}}, tmp_path / "last.pt")
    assert zeros_of(tmp_path / "last.pt") == {"model.a.weight": (2, 4)}


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"weight_map": 3}', '{"weight_map": {"a": 3}}'])
def test_a_foreign_index_is_one_line(tmp_path: Path, text: str) -> None:
    (tmp_path / "model.safetensors.index.json").write_text(text)
    with pytest.raises(InputError, match="is no index of a checkpoint"):
        zeros_of(tmp_path)


@pytest.mark.parametrize("shard", ["../other.safetensors", "/etc/other", "deep/x", "..\\x"])
def test_an_index_never_leads_outside_its_folder(model, tmp_path: Path, shard: str) -> None:
    model.save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").rename(tmp_path / "other.safetensors")
    folder = tmp_path / "deep"
    folder.mkdir()
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"x": shard}}))
    with pytest.raises(InputError, match="names a file outside the folder"):
        zeros_of(folder)


def test_a_text_file_is_no_checkpoint(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(InputError, match=r"notes\.txt: (damaged|cannot be read)"):
        zeros_of(tmp_path / "notes.txt")
