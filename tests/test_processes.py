"""Two real processes under torchrun: one folder, equal masks, exact evaluation."""

import csv
import functools
import socket
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import NoReturn

import pytest
import torch
from safetensors.torch import load_file
from support import (
    ROOT,
    SMALL,
    TORCHRUN,
    Command,
    Life,
    composed,
    experiment,
    read_facts,
    read_rounds,
)

from pruneloop import launcher, machine, pipeline
from pruneloop.errors import ConfigError, InvariantError
from pruneloop.machine import check_batches, check_same


@pytest.mark.parametrize("method", [pytest.param("global_l1", marks=pytest.mark.more), "random"])
def test_two_processes_make_one_run(command: Command, tmp_path: Path, method: str) -> None:
    # 24 rows of validation and 61 of test in batches of 32 over two processes: the last is uneven.
    small = (*SMALL, "data.test_rows=61", f"prune={method}", "hydra.run.dir=run")
    # As the README starts it: without a GPU, each process could take itself for the only one.
    result = command(*small, "device=auto", launcher=TORCHRUN, CUDA_VISIBLE_DEVICES="")
    assert result.returncode == 0, result.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["run"]
    rounds, facts = read_rounds(tmp_path / "run"), read_facts(tmp_path / "run")
    assert facts["processes"] == 2
    assert [r["zeros"] for r in rounds] == facts["planned_zeros"]
    # 216 training rows: 7 batches, 4 for each process.
    assert rounds[0]["steps"] == 4
    # An accuracy over exactly 61 rows is a multiple of 1/61.
    assert abs(61 * rounds[0]["test_accuracy"] - round(61 * rounds[0]["test_accuracy"])) < 1e-9
    # Gathered rows are those that they are said to be.
    with (tmp_path / "run/predictions.csv").open(encoding="utf-8-sig", newline="") as file:
        said = [row["label"] == row["pruned"] for row in csv.DictReader(file)]
    assert len(said) == 61 and sum(said) / 61 == pytest.approx(rounds[-1]["test_accuracy"])
    assert result.stdout.count("round  sparsity  model sparsity  shock acc.") == 1


@pytest.mark.parametrize("readme", ["README.md", "README.ko.md"])
def test_what_the_readme_starts_is_what_is_tried_here(readme: str) -> None:
    _, _, line = (ROOT / readme).read_text(encoding="utf-8").partition("`torchrun ")
    assert (*TORCHRUN[:3], *line.partition(" train.py")[0].split()) == TORCHRUN


@pytest.mark.more
def test_a_sweep_of_two_processes_trains_round_0_once(command: Command, tmp_path: Path) -> None:
    """Each process composes a sweep's folder of its own; the first one's is meant."""
    line = ("-m", "prune.amount=0.2,0.3", *SMALL, "rounds=1", "hydra.sweep.dir=sweep")
    result = command(*line, launcher=TORCHRUN, CUDA_VISIBLE_DEVICES="")
    assert result.returncode == 0, result.stderr
    assert result.stdout.count("round 0: taken over from") == 1
    for amount in ("0.2", "0.3"):
        facts = read_facts(tmp_path / f"sweep/prune.amount={amount}")
        assert facts["processes"] == 2
    assert len(list((tmp_path / "sweep/round0").glob("*/dense"))) == 1


def failing(error: type[Exception]) -> None:
    """Be one of two processes, for which every run fails."""

    def run(*_: object) -> NoReturn:
        with open("calls", "a") as calls:
            calls.write("x")
        raise error("no")

    launcher.world_size = lambda: 2
    pipeline.run = run


@pytest.mark.parametrize(
    ("error", "code", "points"),
    [
        (ConfigError, 2, 2),  # as all of them find it
        (MemoryError, 5, 1),
        pytest.param(RuntimeError, 1, 1, marks=pytest.mark.more),
    ],
)
def test_a_process_that_may_have_failed_alone_ends(
    tmp_path: Path, error: type[Exception], code: int, points: int
) -> None:
    """In a sweep it would go on to the next point, and the others wait for it in this one."""
    swept = ("-m", "seed=0,1", *SMALL, "hydra.sweep.dir=sweep")
    life = Life(tmp_path, *swept, before=functools.partial(failing, error))
    assert life.wait() == code, life.errors
    assert (tmp_path / "calls").read_text() == "x" * points


GATHER_EVIDENCE = """
import sys
from itertools import islice
import torch
from accelerate import Accelerator
from datasets import Dataset
from safetensors.torch import save_file
sys.path.insert(0, {tests!r})
from support import small_bert
from pruneloop.data.batches import TrainingBatches
from pruneloop.evidence import input_norms, saliency
from pruneloop.pruning import Groups, Masks, Method, Single, criteria, prunable_weights
from pruneloop.training import CrossEntropy, FineTuning, Recipe
from pruneloop.evidence import moved

def collate(rows):
    return {{
        "input_ids": torch.tensor([row["input_ids"] for row in rows]),
        "attention_mask": torch.ones(len(rows), 12, dtype=torch.int64),
        "labels": torch.tensor([row["label"] for row in rows]),
    }}

accelerator = Accelerator(cpu=True)
rank, world = accelerator.process_index, accelerator.num_processes
torch.manual_seed(0)
small = small_bert(hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
ids = torch.randint(5, small.config.vocab_size, (64, 12)).tolist()
rows = Dataset.from_dict(
    {{"input_ids": ids, "label": [row[0] % 2 for row in ids], "length": [12] * 64}}
)
weights = prunable_weights(small)
model = accelerator.prepare(small)
batches = TrainingBatches(rows, collate, 4, 0, rank, world)
groups = []
stream = batches.epoch(1, 0)
while group := list(islice(stream, 2 // world)):
    groups.append(group)
found = {{"saliency": saliency(model, weights, groups, accelerator, int, CrossEntropy())}}
found["inputs"] = input_norms(model, weights, groups, accelerator, int)
sums = {{name: torch.zeros_like(weight) for name, weight in weights.items()}}
recipe = Recipe(1, 1e-4, 2 // world, 0.0, 0.0, 1e9)
before = {{name: weight.detach().clone() for name, weight in weights.items()}}
list(FineTuning(model, batches, accelerator, lambda: moved(weights, sums), recipe, 0, 1))
found["moved"] = sums
for name, weight in weights.items():
    weight.data.copy_(before[name])
taylor, wanda, movement = criteria.Taylor(), criteria.Wanda(), criteria.Movement()
for kind, criterion in zip(found, (taylor, wanda, movement)):
    method = Method(criterion, Groups(Single(), False, 1.0))
    masks = Masks.dense(weights)
    half = [units // 2 for units in method.units(masks)]
    pruned = method.prune(weights, masks, half, found[kind])
    tensors = {{f"score {{n}}": t.contiguous() for n, t in found[kind].items()}}
    tensors |= {{f"mask {{n}}": mask for n, mask in pruned.items()}}
    save_file(tensors, f"{{kind}}-{{world}}-{{rank}}.safetensors")
"""


@pytest.mark.more
def test_evidence_is_the_same_on_one_process_and_on_two(tmp_path: Path) -> None:
    """Scores to 1e-5, hardly a mask; and on both ranks bit for bit."""
    path = tmp_path / "gather.py"
    path.write_text(GATHER_EVIDENCE.format(tests=str(ROOT / "tests")))
    for started in ((), TORCHRUN):
        line = [sys.executable, *started, str(path)]
        subprocess.run(line, cwd=tmp_path, check=True, capture_output=True)
    for kind in ("saliency", "inputs", "moved"):
        alone, first, second = (
            load_file(tmp_path / f"{kind}-{part}.safetensors") for part in ("1-0", "2-0", "2-1")
        )
        assert all(torch.equal(first[name], second[name]) for name in first), kind
        differ = total = 0
        for name, tensor in alone.items():
            if name.startswith("score"):
                near = 1e-5 * float(tensor.abs().max())
                assert torch.allclose(tensor, first[name], rtol=1e-5, atol=near), (kind, name)
            else:
                differ += int((tensor != first[name]).sum())
                total += tensor.numel()
        assert differ <= total / 10_000, (kind, differ, total)


def test_what_the_processes_have_found_is_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    found = {"labels": ["0", "1"], "rows of train": "abc"}
    check_same(found)  # alone
    other = found | {"labels": ["1", "0"]}
    monkeypatch.setattr(machine, "gather_object", lambda mine: [*mine, other])
    with pytest.raises(InvariantError, match=r"process 1 has other labels .*\['1', '0'\] and"):
        check_same(found)


@pytest.mark.parametrize(
    ("module", "key", "said"),
    [
        (machine, "labels", "process 1 has other labels than process 0, before any training"),
        (machine, "rows of train", "process 1 has other rows of train than process 0"),
        (machine, "tokens", "process 1 has other tokens than process 0"),
        (pipeline, None, "the batches of the 2 processes do not divide the 216 training rows"),
    ],
)
def test_a_run_compares_before_it_trains(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, module: ModuleType, key: str | None, said: str
) -> None:
    def beside_another(mine: list) -> list:
        if key is None:  # the batches of an epoch: the other one has another row twice
            return [*mine, [[0] * 32 for _ in mine[0]]]
        return [*mine, mine[0] | {key: "else"} if key in mine[0] else mine[0]]

    monkeypatch.setattr(module, "gather_object", beside_another)
    with pytest.raises(InvariantError, match=said):
        experiment(composed(*SMALL), tmp_path, [])
    assert not (tmp_path / "rounds.jsonl").exists() and not list(tmp_path.glob("state/state-*"))


def test_the_processes_batches_divide_the_rows() -> None:
    check_batches([[[0, 2], [4]], [[1, 3], [0, 2]]], 5)
    for wrong in ([[[0, 2]], [[1, 2]]], [[[0]], [[1]]], [[[0, 1, 2, 3, 4]], [[0, 1, 2, 4, 3]]]):
        with pytest.raises(InvariantError, match="do not divide the 5 training rows"):
            check_batches(wrong, 5)


@pytest.mark.more
def test_bad_configuration_is_one_line_under_torchrun(command: Command) -> None:
    result = command("rounds=0", launcher=TORCHRUN)
    assert result.returncode != 0
    assert result.stderr.count("pruneloop: rounds=0") == 1


@pytest.mark.more
def test_two_machines_make_one_run(command: Command, tmp_path: Path, socket_enabled) -> None:
    """Two torchrun agents that meet over loopback, each with a folder to start from."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    run = tmp_path / "shared/run"
    line = [sys.executable, "-m", "torch.distributed.run", "--nnodes", "2", "--nproc_per_node", "1"]
    line += ["--rdzv_backend", "c10d", "--rdzv_id", "1", "--rdzv_endpoint", f"127.0.0.1:{port}"]
    line += [str(ROOT / "train.py"), *SMALL, f"hydra.run.dir={run}"]
    agents = []
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        agents.append(
            subprocess.Popen(
                line,
                cwd=tmp_path / name,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
    ends = [agent.communicate(timeout=120) for agent in agents]
    assert [agent.returncode for agent in agents] == [0, 0], ends
    assert [list((tmp_path / name).iterdir()) for name in ("first", "second")] == [[], []]
    assert sorted(output.count("done: ") for output, _ in ends) == [0, 1]
    alone = command(*SMALL, "hydra.run.dir=run", launcher=TORCHRUN)
    assert alone.returncode == 0, alone.stderr
    name = "checkpoint/model.safetensors"
    assert (run / name).read_bytes() == (tmp_path / "run" / name).read_bytes()
