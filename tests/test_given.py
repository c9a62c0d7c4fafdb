"""A classifier that is trained already: as round 0, and as the teacher."""

import csv
import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from support import SHORT, SMALL, SMALL_DATA, SMALL_MODEL, composed, experiment, read_rounds
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from pruneloop.data.loading import load_splits
from pruneloop.engine import Engine
from pruneloop.errors import ConfigError, InputError
from pruneloop.training import update

LEARNING = ("finetune.dense_learning_rate=1e-2", "finetune.dense_epochs=3")


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A classifier of 0 and 1 that was trained on rows whose labels came in another order."""
    folder = tmp_path_factory.mktemp("served")
    lines = [f"이 영화는 {'나쁘다' if n % 2 else '좋다'} {n}\t{n % 2}" for n in range(300)]
    (folder / "a.tsv").write_text("\n".join(["text\tlabel", *lines]), encoding="utf-8")
    files = ("data=files", f"data.train={folder / 'a.tsv'}", "data.label_names=[up,down]")
    options = (*files, *SMALL_MODEL, *SHORT, *LEARNING, "rounds=1", "model.hidden=32")
    experiment(composed(*options), folder / "run", [])
    return folder


def given(served: Path, *more: str) -> tuple[str, ...]:
    """Rows whose labels are words, in the other order of the alphabet: down, up."""
    lines = [
        f"이 영화는 {'나쁘다' if n % 2 else '좋다'} {n}\t{('up', 'down')[n % 2]}"
        for n in range(300)
    ]
    (served / "words.tsv").write_text("\n".join(["text\tlabel", *lines]), encoding="utf-8")
    return (
        *("data=files", f"data.train={served / 'words.tsv'}", "model=pretrained", "finetune=bert"),
        *(f"model.name={served / 'run/checkpoint'}", *SHORT, "finetune.dense_epochs=0", *more),
    )


def test_a_given_classifier_is_round_0_and_only_measured(served: Path, tmp_path: Path) -> None:
    """Its labels are found by name, and their order stays; no weight of round 0 moves."""
    experiment(composed(*given(served, "rounds=1")), tmp_path, [])
    rounds = read_rounds(tmp_path)
    assert rounds[0]["test_accuracy"] > 0.95 and rounds[0]["steps"] == 0
    assert rounds[0]["train_loss"] is None and rounds[1]["train_loss"] > 0
    before = json.loads((served / "run/checkpoint/config.json").read_text())
    after = json.loads((tmp_path / "checkpoint/config.json").read_text())
    assert before["id2label"] == after["id2label"] == {"0": "up", "1": "down"}
    dense = load_file(tmp_path / "state/archive/dense/model.safetensors")
    was = load_file(served / "run/checkpoint/model.safetensors")
    assert all(torch.equal(dense[name], was[name]) for name in was)
    with (tmp_path / "predictions.csv").open(encoding="utf-8-sig", newline="") as file:
        assert {row["label"] for row in csv.DictReader(file)} == {"up", "down"}


def test_labels_that_the_classifier_lacks_are_named(served: Path, tmp_path: Path) -> None:
    options = given(served, "data.label_names=[good,bad]")
    with pytest.raises(
        InputError, match=r"\(up, down\) are not the data's \(good, bad\).*no good, bad"
    ):
        experiment(composed(*options), tmp_path, [])


def test_what_is_no_trained_classifier_is_refused(served: Path, tmp_path: Path) -> None:
    shutil.copytree(served / "run/checkpoint", tmp_path / "model")
    weights = tmp_path / "model/model.safetensors"
    tensors = {k: v for k, v in load_file(weights).items() if not k.startswith("classifier")}
    save_file(tensors, weights, {"format": "pt"})
    options = given(served, f"model.name={tmp_path / 'model'}")
    with pytest.raises(InputError, match=r"no trained classifier.*classifier\.bias"):
        experiment(composed(*options), tmp_path / "run", [])


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        (("finetune.dense_epochs=0",), "needs a trained classifier"),
        (
            ("model=pretrained", "model.name=x", "finetune.dense_epochs=0", "prune=movement"),
            "movement",
        ),
        (("distill.teacher=x",), r"needs distill\.alpha above 0"),
    ],
)
def test_what_cannot_be_is_said_before_anything_is_loaded(
    changed: tuple[str, ...], said: str
) -> None:
    with pytest.raises(ConfigError, match=said):
        composed(*changed)


# -- round 0 as the teacher ---------------------------------------------------------------------


def test_the_teacher_is_round_0_without_dropout(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its logits by row number, looked up by every batch, whichever order the rows come in."""
    seen, looked_up = [], []
    teach, group_losses = Engine.teach, update.group_losses
    monkeypatch.setattr(Engine, "teach", lambda *a: seen.append(teach(*a)) or seen[-1])

    def watched(model, group, accelerator, objective):
        looked_up.extend(group)
        return group_losses(model, group, accelerator, objective)

    monkeypatch.setattr(update, "group_losses", watched)
    options = (*SMALL, "distill=logits", "model.dropout=0.5", "rounds=1")
    experiment(composed(*options), tmp_path, [])
    model = AutoModelForSequenceClassification.from_pretrained(tmp_path / "checkpoint").eval()
    dense = load_file(tmp_path / "state/archive/dense/model.safetensors")
    model.load_state_dict(dense, strict=False)  # buffers are in it too
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "checkpoint")
    train = load_splits(composed(*options).data).train
    inputs = tokenizer(train["text"][:], padding=True, return_tensors="pt")
    with torch.inference_mode():
        logits = model(inputs["input_ids"], inputs["attention_mask"]).logits
    assert torch.allclose(seen[0], logits, atol=1e-5)
    ids = {tuple(row): n for n, row in enumerate(inputs["input_ids"].tolist())}
    taught = [batch for batch in looked_up if "teacher" in batch]
    assert len(taught) < len(looked_up), "round 0 distils"
    for batch in taught:
        padded = torch.nn.functional.pad(
            batch["input_ids"], (0, inputs["input_ids"].shape[1] - batch["input_ids"].shape[1])
        )
        numbers = [ids[tuple(row)] for row in padded.tolist()]
        assert torch.allclose(batch["teacher"], logits[numbers], atol=1e-5)


# -- a teacher of one's own -----------------------------------------------------------------------


def test_a_given_teacher_is_followed_by_the_names_of_its_labels(
    served: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its own logits on the texts, by its own tokenizer, in the order of the data's labels."""
    lines = [
        f"이 영화는 {'나쁘다' if n % 2 else '좋다'} {n}\t{('up', 'down')[n % 2]}"
        for n in range(300)
    ]
    (tmp_path / "a.tsv").write_text("\n".join(["text\tlabel", *lines]), encoding="utf-8")
    seen = []
    real = Engine.teach
    monkeypatch.setattr(Engine, "teach", lambda *a: seen.append(real(*a)) or seen[-1])
    files = ("data=files", f"data.train={tmp_path / 'a.tsv'}", *SMALL_MODEL, *SHORT)
    teacher = ("distill=logits", f"distill.teacher={served / 'run'}", "rounds=1")
    experiment(composed(*files, *teacher), tmp_path / "run", [])
    model = AutoModelForSequenceClassification.from_pretrained(served / "run/checkpoint")
    assert model.config.id2label == {0: "up", 1: "down"}
    (logits,) = seen
    rows = read_rounds(tmp_path / "run")
    assert logits.shape[1] == 2 and len(rows) == 2
    # The data's labels are down, up: 나쁘다 is the first of them.
    ids = json.loads((tmp_path / "run/checkpoint/config.json").read_text())["id2label"]
    assert ids == {"0": "down", "1": "up"}
    train = load_splits(composed(*files, *teacher).data).train
    right = [
        int(row.argmax()) == label for row, label in zip(logits, train["label"][:], strict=True)
    ]
    assert sum(right) > 0.95 * len(right)


def test_a_teacher_without_the_labels_is_refused(served: Path, tmp_path: Path) -> None:
    options = ("distill=logits", f"distill.teacher={served / 'run'}")
    with pytest.raises(InputError, match=r"distill\.teacher=.*it has no negative, positive"):
        experiment(composed(*SMALL, *options), tmp_path, [])


# -- every epoch, and every round -----------------------------------------------------------------

EPOCHS = (
    *(*SMALL_DATA, *SMALL_MODEL, *SHORT, "finetune.validate_every=epoch", "finetune.epochs=3"),
    *("finetune.dense_epochs=3", "finetune.dense_learning_rate=3e-2", "rounds=1"),
    "finetune.batch_size=8",
)


@pytest.fixture(scope="module")
def epochs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("epochs")
    experiment(composed(*EPOCHS, "finetune.learning_rate=3e-2"), folder / "last", [])
    best = ("finetune.learning_rate=3e-2", "finetune.keep_best=true", "keep_rounds=true")
    experiment(composed(*EPOCHS, *best), folder / "best", [])
    return folder


def test_every_epoch_is_on_record(epochs: Path) -> None:
    with (epochs / "last/epochs.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["round"], row["epoch"]) for row in rows] == [
        (str(number), str(epoch)) for number in (0, 1) for epoch in (1, 2, 3)
    ]
    for record in read_rounds(epochs / "last"):
        assert record["epochs"][-1]["accuracy"] == record["accuracy"]


def test_a_round_goes_on_with_its_best_epoch(epochs: Path) -> None:
    """The first rounds are the same run up to where the best epoch is taken."""
    last, best = (read_rounds(epochs / name) for name in ("last", "best"))
    assert [e["accuracy"] for e in last[0]["epochs"]] == [e["accuracy"] for e in best[0]["epochs"]]
    for record in best:
        assert record["accuracy"] == max(e["accuracy"] for e in record["epochs"])
    assert any(r["accuracy"] > r["epochs"][-1]["accuracy"] for r in best), "the last was best"


def test_the_best_epoch_needs_every_epochs_score() -> None:
    with pytest.raises(ConfigError, match=r"add finetune\.validate_every=epoch"):
        composed("finetune.keep_best=true")


def test_every_rounds_checkpoint_is_left(epochs: Path) -> None:
    folder = epochs / "best"
    assert sorted(path.name for path in (folder / "rounds").iterdir()) == ["00", "01"]
    for record in read_rounds(folder):
        path = folder / f"rounds/{record['round']:02d}"
        mark = json.loads((path / "config.json").read_text())["pruneloop"]
        assert mark["zeros"] == record["zeros"]
        AutoModelForSequenceClassification.from_pretrained(path)
    last = load_file(folder / "rounds/01/model.safetensors")
    final = load_file(folder / "checkpoint/model.safetensors")
    assert all(torch.equal(last[name], final[name]) for name in final)
    assert not (epochs / "last/rounds").exists()
