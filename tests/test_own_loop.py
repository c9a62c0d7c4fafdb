"""docs/own_loop.md: its code runs as it stands, and gives what the page says."""

import re
from pathlib import Path

import pytest
import torch
from support import ROOT, small_bert
from transformers import AutoModelForSequenceClassification

from pruneloop.pruning import Masks, drops_by_amount, prunable_weights

# The Trainer warns of memory that it cannot pin without a GPU.
pytestmark = pytest.mark.filterwarnings("ignore:.*pin_memory")

PAGE = (ROOT / "docs/own_loop.md").read_text(encoding="utf-8")
PLAIN, TRAINER = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


def run(code: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> dict:
    """Run a block of the page in a folder; return its names, the model's dense zeros too."""
    monkeypatch.chdir(folder)
    model = small_bert(num_hidden_layers=2)
    rows = [
        {"input_ids": torch.randint(1, 30, (6,)), "labels": torch.tensor(i % 2)} for i in range(16)
    ]
    batch = {key: torch.stack([row[key] for row in rows]) for key in rows[0]}
    names = {"model": model, "batches": [batch] * 3, "dataset": rows}
    exec(code, names)
    return names


def zeros_of(folder: Path) -> int:
    saved = AutoModelForSequenceClassification.from_pretrained(folder)
    return Masks.from_zeros(prunable_weights(saved)).zeros


def test_the_plain_loop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = run(PLAIN, tmp_path, monkeypatch)
    masks = names["pruned"].masks
    expected = sum(drop for (drop,) in drops_by_amount([masks.prunable], 5, 0.2))
    assert masks.zeros == zeros_of(tmp_path / "sparse") == expected


def test_the_trainer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = run(TRAINER, tmp_path, monkeypatch)
    masks = names["pruner"].pruned.masks
    expected = sum(drop for (drop,) in drops_by_amount([masks.prunable], 2, 0.3))
    assert masks.zeros == zeros_of(tmp_path / "sparse") == expected


@pytest.mark.parametrize(
    "lost", ["        pruned.hold()", "    optimizer.state.clear()", "self.pruned.hold()"]
)
def test_the_page_needs_each_of_its_lines(
    lost: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without any of the three things to keep, pruned weights come back, and it is seen."""
    code = PLAIN if lost in PLAIN else TRAINER
    (line,) = [line for line in code.splitlines() if lost.strip() in line]
    indent = len(line) - len(line.lstrip())
    with pytest.raises(Exception, match="a pruned weight is not zero"):
        run(code.replace(line, " " * indent + "pass"), tmp_path, monkeypatch)
