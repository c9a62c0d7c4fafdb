"""What must hold on a GPU as it does on a CPU: each test runs on both, where there are both.

`pytest -m cuda` runs the GPU's side alone (docs/gpu.md). Lives are plain subprocesses here: the
fork server of the other tests may have looked for a GPU, which no fork survives.
"""

import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from support import PROGRAM, ROOT, RUN, TORCHRUN, read_rounds, read_status, script, small_bert
from torch import Tensor, nn

from pruneloop.pruning import GlobalL1, Masks, PrunedModel, prunable_weights, selection
from pruneloop.training import LOOK_EVERY, Batch, CrossEntropy, FineTuning, Recipe, can_be_captured
from pruneloop.training.step_graphs import Step, StepGraphs

CUDA = pytest.param(
    "cuda",
    marks=[
        pytest.mark.cuda,
        pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU"),
    ],
)
on_both = pytest.mark.parametrize("device", ["cpu", CUDA])
# A second or more of imports each: the CPU's side has tests of its own elsewhere.
on_both_slowly = pytest.mark.parametrize(
    "device", [pytest.param("cpu", marks=pytest.mark.more), CUDA]
)


class Batches:
    """The same batches in every epoch, padded; `shapes` are rows and tokens, taken in turns."""

    def __init__(self, count: int, *shapes: tuple[int, int]) -> None:
        generator = torch.Generator().manual_seed(5)
        self._batches = []
        for _, (rows, tokens) in zip(range(count), cycle(shapes or [(8, 6)])):
            mask = torch.ones(rows, tokens, dtype=torch.int64)
            mask[1::2, tokens * 2 // 3 :] = 0
            ids = torch.randint(5, 30, (rows, tokens), generator=generator)
            labels = torch.randint(0, 2, (rows,), generator=generator)
            self._batches.append({"input_ids": ids, "attention_mask": mask, "labels": labels})

    def __len__(self) -> int:
        return len(self._batches)

    def epoch(self, round_number: int, epoch: int, skip: int = 0) -> Iterator[Batch]:
        return iter(self._batches[skip:])


def accelerator_for(device: str, precision: str = "no") -> Accelerator:
    return Accelerator(cpu=device == "cpu", mixed_precision=precision)


def half_pruned(accelerator: Accelerator) -> tuple[nn.Module, PrunedModel]:
    torch.manual_seed(0)
    plain = small_bert(vocab_size=30, num_hidden_layers=2, max_position_embeddings=128)
    model = accelerator.prepare(plain)
    weights = prunable_weights(plain)
    pruned = PrunedModel(plain, weights, Masks.dense(weights))
    pruned.prune(GlobalL1(), [pruned.masks.prunable // 2])
    return model, pruned


def tuning(
    accelerator: Accelerator,
    model: nn.Module,
    pruned: PrunedModel,
    batches: Batches | None = None,
) -> FineTuning:
    """Return a round's training; its steps are CUDA graphs where a run's would be."""
    recipe = Recipe(1, 1e-3, 1, 0.1, 0.1, 1.0)
    batches = batches or Batches(12)
    captured = can_be_captured(pruned.model, accelerator)
    own = CrossEntropy((0.8, 1.2))
    return FineTuning(
        model, batches, accelerator, pruned.hold, recipe, 0, 1, own, captured=captured
    )


@on_both
@pytest.mark.parametrize("ties", [False, True])
def test_selection_is_the_brute_forces(
    device: str, ties: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Over the borders of chunks, with ties and with entries that are pruned already."""
    monkeypatch.setattr(selection, "GPU_CHUNK", 64)
    monkeypatch.setattr(selection, "CPU_CHUNK", 64)
    generator = torch.Generator().manual_seed(0)
    scores = [torch.randn(30, 17, generator=generator), torch.randn(211, generator=generator)]
    masks = [torch.rand(score.shape, generator=generator) > 0.3 for score in scores]
    if ties:
        scores = [(score * 3).round() for score in scores]
    scores = [score * mask for score, mask in zip(scores, masks, strict=True)]
    flat, kept = (torch.cat([t.view(-1) for t in given]) for given in (scores, masks))
    for k in (0, 1, 200, int(kept.sum())):
        order = flat.abs().masked_fill(~kept, torch.inf).argsort(stable=True)[:k]
        expected = kept.clone().index_fill_(0, order, False)
        moved = ([t.to(device) for t in given] for given in (scores, masks))
        found = torch.cat([mask.view(-1).cpu() for mask in selection.smallest(*moved, k)])
        assert torch.equal(found, expected)


@on_both
@pytest.mark.parametrize("levels", [0, 50])
def test_every_methods_masks_are_the_cpus(device: str, levels: int) -> None:
    found = script("gpu_check").masks_agree(device, 1, 16, levels)
    assert len(found) > 25
    assert all(found.values()), found


@pytest.mark.parametrize(
    ("device", "precision"),
    [
        *(("cpu", "no"), ("cpu", "bf16")),
        *(pytest.param("cuda", p, marks=CUDA.marks) for p in ("no", "bf16", "fp16")),
    ],
)
def test_training_learns_and_keeps_the_zeros(device: str, precision: str) -> None:
    accelerator = accelerator_for(device, precision)
    model, pruned = half_pruned(accelerator)
    before = {name: weight.detach().clone() for name, weight in pruned.weights.items()}
    steps = tuning(accelerator, model, pruned)
    list(steps)
    assert 0.1 < steps.recent_loss < 1.5
    for name, mask in pruned.masks.items():
        weight = pruned.weights[name].detach()
        assert weight.device.type == device
        assert not weight[~mask].view(torch.int32).any()
        assert not torch.equal(weight, before[name]), "nothing was trained"


@on_both
def test_gradients_are_the_cpus_but_for_rounding(device: str) -> None:
    """Those of pruned weights are exactly 0. Steps would not do: Adam makes noise as large."""

    def gradients(on: str) -> dict[str, Tensor]:
        AcceleratorState._reset_state(True)
        model, pruned = half_pruned(accelerator_for(on))
        (batch,) = Batches(1).epoch(0, 0)
        model.eval()(**{name: value.to(on) for name, value in batch.items()}).loss.backward()
        pruned.hold()
        for name, mask in pruned.masks.items():
            assert not pruned.weights[name].grad[~mask].any()
        return {name: p.grad.cpu() for name, p in pruned.model.named_parameters()}

    here, there = gradients("cpu"), gradients(device)
    for name, value in here.items():
        assert torch.allclose(value, there[name], rtol=1e-3, atol=1e-5), name


@pytest.mark.parametrize("device", [CUDA])
def test_the_scalers_state_comes_back(device: str) -> None:
    """fp16: steps that overflow are skipped, and the scale that this left is saved."""
    accelerator = accelerator_for(device, "fp16")
    model, pruned = half_pruned(accelerator)
    assert not can_be_captured(pruned.model, accelerator)
    accelerator.scaler._init_scale = 2.0**60  # the first steps overflow
    steps = tuning(accelerator, model, pruned)
    list(steps)
    scale = accelerator.scaler.get_scale()
    assert scale < 2.0**60
    saved = {name: value.clone() for name, value in steps.state().items()}
    accelerator.scaler.update(new_scale=8.0)
    tuning(accelerator, model, pruned).load_state(saved)
    assert accelerator.scaler.get_scale() == scale


# -- steps as CUDA graphs --------------------------------------------------------------------

# Rows of one length, of another, a last batch that is short, and more tokens than 3,072: from
# there on the gradient of an embedding is another kernel.
SHAPES = ((8, 6), (8, 16), (3, 6), (64, 64))


@dataclass(frozen=True)
class Trained:
    losses: list[float]
    weights: list[Tensor]
    graphs: int


def trained(device: str, precision: str, stop: int = 0) -> Trained:
    """Train with dropout and captured steps; `stop`: go on in a new round object."""
    AcceleratorState._reset_state(True)
    accelerator = accelerator_for(device, precision)
    model, pruned = half_pruned(accelerator)

    def begin() -> FineTuning:
        return tuning(accelerator, model, pruned, Batches(16, *SHAPES))

    steps, losses = begin(), []
    while steps.step < steps.steps:
        for progress in steps:
            losses.append(float(steps._losses[(progress.step - 1) % LOOK_EVERY]))
            if progress.step == stop:
                saved = {name: value.clone() for name, value in steps.state().items()}
                random = torch.cuda.get_rng_state()
                steps = begin()
                torch.rand(7, device=device)
                steps.load_state(saved)
                torch.cuda.set_rng_state(random)
                break
    pruned.check()
    weights = [weight.detach().cpu() for weight in pruned.model.parameters()]
    return Trained(losses, weights, len(steps._update._graphs._graphs))


@pytest.fixture
def deterministic() -> Iterator[None]:
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


@pytest.mark.parametrize("device", [CUDA])
@pytest.mark.parametrize("precision", ["no", "bf16"])
@pytest.mark.filterwarnings("ignore:.*capturable=True")
def test_captured_steps_are_the_plain_ones(
    device: str, precision: str, deterministic: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bit for bit, dropout and all. All batches have padding: without it the mask is left out."""
    captured = trained(device, precision)
    assert captured.graphs == len(SHAPES)

    def plainly(graphs: StepGraphs, batch: Batch, step: Step, rehearse: object) -> Any:
        return step({name: value.to(device) for name, value in batch.items()})

    monkeypatch.setattr(StepGraphs, "__call__", plainly)
    plain = trained(device, precision)
    assert plain.graphs == 0
    assert captured.losses == plain.losses
    assert all(map(torch.equal, captured.weights, plain.weights))
    assert len(set(captured.losses)) == 16


@pytest.mark.parametrize("device", [CUDA])
def test_captured_steps_go_on_bit_for_bit(device: str, deterministic: None) -> None:
    whole, stopped = (trained(device, "bf16", stop) for stop in (0, 6))
    assert whole.losses == stopped.losses
    assert all(map(torch.equal, whole.weights, stopped.weights))


# -- whole runs ------------------------------------------------------------------------------

# A graph calls nothing: a step of the optimiser is no place for a signal.
ONE_STEP = ("pruneloop.training.FineTuning", "_one_step")


# Steps that accumulate are no graphs.
ASKED = ("rounds=1", "finetune.accumulation=1")


def live(folder: Path, device: str, setup: str = "") -> subprocess.CompletedProcess[str]:
    """Run the command in a folder on a device; `setup` is a line of Python before it."""
    code = f"import sys\nsys.path.insert(0, {str(ROOT / 'tests')!r})\nfrom support import *\n"
    path = folder / "life.py"
    path.write_text(f"{code}{setup}\n{PROGRAM}\n")
    return subprocess.run(
        [sys.executable, str(path), *RUN, *ASKED, f"device={device}"],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=200,
    )


# A run on a GPU does not ask for them, since they cost speed there.
DETERMINISTIC = (
    "import torch; real = torch.use_deterministic_algorithms; "
    "torch.use_deterministic_algorithms = lambda *_: real(True)"
)


@on_both_slowly
def test_a_killed_run_goes_on_bit_for_bit(device: str, tmp_path: Path) -> None:
    for name in ("whole", "killed"):
        (tmp_path / name).mkdir()
    whole = live(tmp_path / "whole", device, DETERMINISTIC)
    assert whole.returncode == 0, whole.stderr
    killed = live(tmp_path / "killed", device, f"{DETERMINISTIC}; die_at({ONE_STEP}, 100)")
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    again = live(tmp_path / "killed", device, DETERMINISTIC)
    assert again.returncode == 0, again.stderr
    assert "going on in" in again.stdout
    one, other = (
        (tmp_path / name / "run/checkpoint/model.safetensors").read_bytes()
        for name in ("whole", "killed")
    )
    assert one == other
    rounds = [read_rounds(tmp_path / name / "run") for name in ("whole", "killed")]
    assert [r["test_accuracy"] for r in rounds[0]] == [r["test_accuracy"] for r in rounds[1]]


@on_both_slowly
def test_memory_that_is_full_is_exit_5(device: str, tmp_path: Path) -> None:
    """The allocator itself refuses, in the middle of a round."""
    more = f"import torch; torch.empty(1 << 50, dtype=torch.uint8, device={device!r})"
    result = live(tmp_path, device, f"before_call({ONE_STEP}, 3, lambda: exec({more!r}))")
    assert result.returncode == 5, result.stderr
    (line,) = result.stderr.strip().splitlines()
    assert "memory is full" in line and "finetune.accumulation" in line
    assert read_status(tmp_path / "run")["exit_code"] == 5


TWO = """
import sys
sys.path.insert(0, {tests!r})
import torch
from accelerate import Accelerator
from accelerate.utils import InitProcessGroupKwargs, gather_object
from test_cuda import half_pruned, tuning

# NCCL refuses two processes on one GPU; gloo takes them.
own = [] if {device!r} == "cpu" else [InitProcessGroupKwargs(backend="gloo")]
accelerator = Accelerator(cpu={device!r} == "cpu", kwargs_handlers=own)
assert accelerator.num_processes == 2 and accelerator.device.type == {device!r}
model, pruned = half_pruned(accelerator)
list(tuning(accelerator, model, pruned))
pruned.check()
weights = [weight.detach().double().sum().item() for weight in pruned.model.parameters()]
found = gather_object([(pruned.masks.digest(), weights)])
assert found[0] == found[1], "the processes have different weights"
accelerator.end_training()
"""


@on_both_slowly
def test_two_processes_on_one_device(device: str, tmp_path: Path) -> None:
    program = tmp_path / "two.py"
    program.write_text(TWO.format(tests=str(ROOT / "tests"), device=device))
    line = [sys.executable, *TORCHRUN, str(program)]
    result = subprocess.run(line, capture_output=True, text=True, timeout=200)
    assert result.returncode == 0, result.stderr
