"""Scores: as scikit-learn computes them, over every row, incomplete batches included."""

import random
import subprocess
import sys
from pathlib import Path

import numpy
import pytest
import torch
from accelerate import Accelerator
from datasets import Dataset
from sklearn.metrics import accuracy_score, f1_score
from support import composed, small_bert
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader
from transformers import BertForSequenceClassification

from pruneloop.assembly import assemble, read_rows
from pruneloop.data.batches import evaluation_loader, padding, shortest_first
from pruneloop.errors import InvariantError
from pruneloop.evaluation import all_logits, scores_of
from pruneloop.metric import ClassificationScores
from pruneloop.model.tokenizers import train_wordpiece


@pytest.mark.parametrize("seed", range(3))
def test_scores_are_those_of_scikit_learn(seed: int, tmp_path: Path) -> None:
    """Label 3 is predicted but never true, 4 true but never predicted, 5 neither."""
    rng = numpy.random.default_rng(seed)
    true = rng.choice([0, 1, 2, 4], size=200)
    predicted = rng.choice([0, 1, 2, 3], size=200)
    metric = ClassificationScores(tmp_path)
    for start in range(0, 200, 64):
        metric.add_batch(
            predictions=predicted[start : start + 64], references=true[start : start + 64]
        )
    scores = metric.compute()
    assert scores["accuracy"] == pytest.approx(accuracy_score(true, predicted))
    assert scores["macro_f1"] == pytest.approx(f1_score(true, predicted, average="macro"))


def test_scores_typed_by_hand(tmp_path: Path) -> None:
    metric = ClassificationScores(tmp_path)
    scores = metric.compute(predictions=[0, 0, 1, 1], references=[0, 0, 0, 1])
    # F1 of label 0 is 4/5, of label 1 it is 2/3.
    assert scores["accuracy"] == 0.75
    assert scores["macro_f1"] == pytest.approx((4 / 5 + 2 / 3) / 2)


def test_a_metric_starts_anew_each_time(tmp_path: Path) -> None:
    metric = ClassificationScores(tmp_path)
    assert metric.compute(predictions=[0, 1], references=[1, 0])["accuracy"] == 0.0
    assert metric.compute(predictions=[0, 1], references=[0, 1])["accuracy"] == 1.0


# -- a model over a loader -----------------------------------------------------------

COUNT = 21  # batches of 8, 8 and 5


@pytest.fixture(scope="module")
def rows() -> Dataset:
    rng = random.Random(0)
    ids = [[2, *rng.choices(range(5, 50), k=rng.randrange(1, 12)), 3] for _ in range(COUNT)]
    labels = rng.choices([0, 1, 2], k=COUNT)
    return Dataset.from_dict(
        {"input_ids": ids, "label": labels, "length": [len(row) for row in ids]}
    )


@pytest.fixture
def model() -> BertForSequenceClassification:
    return small_bert(max_position_embeddings=16, initializer_range=1.0, num_labels=3)


@pytest.fixture
def loader(rows: Dataset) -> DataLoader:
    tokenizer = train_wordpiece(["좋다"], vocab_size=100, max_length=16)
    return evaluation_loader(rows, padding(tokenizer, on_gpu=False), batch_size=8)


@pytest.fixture
def accelerator() -> Accelerator:
    return Accelerator(cpu=True)


def test_every_row_is_scored_once(
    rows: Dataset,
    model: BertForSequenceClassification,
    loader: DataLoader,
    accelerator: Accelerator,
    tmp_path: Path,
) -> None:
    model, loader = accelerator.prepare(model.train(), loader)
    scores = scores_of(*all_logits(model, loader, accelerator, COUNT), tmp_path)
    model.eval()
    with torch.inference_mode():
        logits = torch.cat([model(torch.tensor([row])).logits for row in rows["input_ids"]])
    predicted, true = logits.argmax(dim=-1).tolist(), list(rows["label"])
    assert len(set(predicted)) > 1
    assert scores.accuracy == accuracy_score(true, predicted)
    assert scores.macro_f1 == pytest.approx(f1_score(true, predicted, average="macro"))
    assert scores.loss == pytest.approx(float(cross_entropy(logits, torch.tensor(true))), rel=1e-5)


@pytest.mark.parametrize("claimed", [COUNT - 1, COUNT + 3])
def test_another_count_of_rows_is_an_error(
    model: BertForSequenceClassification,
    loader: DataLoader,
    accelerator: Accelerator,
    claimed: int,
) -> None:
    model, loader = accelerator.prepare(model, loader)
    with pytest.raises(InvariantError, match=f"21 rows were evaluated instead of {claimed}"):
        all_logits(model, loader, accelerator, claimed)


def test_a_loss_that_is_no_number_is_an_error(
    model: BertForSequenceClassification,
    loader: DataLoader,
    accelerator: Accelerator,
    tmp_path: Path,
) -> None:
    with torch.no_grad():
        model.classifier.bias[0] = float("nan")
    model, loader = accelerator.prepare(model, loader)
    with pytest.raises(InvariantError, match="loss is not finite"):
        scores_of(*all_logits(model, loader, accelerator, COUNT), tmp_path)


def test_one_pass_scores_validation_and_test_as_two_would(tmp_path: Path) -> None:
    """The predictions of test keep its own order, though rows of both lie in a batch."""
    rows = ("data.train_rows=60", "data.test_rows=37", "data.validation=0.3")
    config = composed(*rows, "model.hidden=16", "device=cpu")
    parts = assemble(config, read_rows(config), Accelerator(cpu=True), tmp_path)
    model, data = parts.classifier.model, parts.data
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(8)  # so that predictions differ
    looks: list[int] = []
    validation, test = parts.engine.measure(lambda: looks.append(1))
    held_out = parts.engine.held_out
    assert len(looks) == len(held_out.both.loader) == 1 and 0 < held_out.of_test.sum() < 55
    for name, scores, split in (
        ("validation", validation, data.validation),
        ("test", test, data.test),
    ):
        texts = [split.rows[index] for index in shortest_first(split.rows)]
        with torch.inference_mode():
            logits = torch.cat([model(torch.tensor([row["input_ids"]])).logits for row in texts])
        true = torch.tensor([row["label"] for row in texts])
        assert 0.2 < scores.accuracy < 0.8, name  # other rows would have another one
        assert scores.predictions.tolist() == logits.argmax(-1).tolist(), name
        assert scores.accuracy == accuracy_score(true, logits.argmax(-1)), name
        assert scores.loss == pytest.approx(float(cross_entropy(logits, true)), rel=1e-4), name
        assert torch.allclose(scores.confidences, logits.softmax(-1).amax(-1), atol=1e-4), name
    assert parts.engine.validate(lambda: None).accuracy == validation.accuracy
    held_out.labels[0] = 1 - held_out.labels[0]
    with pytest.raises(InvariantError, match="another order"):
        parts.engine.measure(lambda: None)


@pytest.mark.more
def test_a_run_can_train_before_evaluate_is_loaded() -> None:
    """It loads transformers' pipelines, half a second of CPU that only scores need."""
    line = "import sys, pruneloop.pipeline; sys.exit('evaluate' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", line]).returncode == 0
