"""The zeros of a checkpoint, permanent or with torch's masks in it."""

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
