"""What pruning costs, against torch.nn.utils.prune and against the machine's limit.

    OMP_NUM_THREADS=1 python scripts/bench_pruning.py
    python scripts/bench_pruning.py --device cuda
    torchrun --nproc_per_node 2 scripts/bench_pruning.py --layers 2 --only prune

Prints one table and writes it as JSON. Ratios are medians over alternating repeats in
one process. Times are process times on a CPU and CUDA events on a GPU.
"""

import argparse
import ctypes
import gc
import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn
from torch.nn.utils import prune as torch_prune
from transformers import BertConfig, BertForSequenceClassification

from pruneloop.pruning import GlobalL1, Masks, drops_by_amount, prunable_weights

MIB = 1 << 20
SCOPE = ["encoder_pooler"]


def seconds(device: torch.device, work: Callable[[], object]) -> float:
    """Return how long a piece of work takes on its device."""
    if device.type == "cuda":
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        work()
        end.record()
        torch.cuda.synchronize()
        return start.elapsed_time(end) / 1000
    started = time.process_time()
    work()
    return time.process_time() - started


def peak(device: torch.device, work: Callable[[], object]) -> int:
    """Return how many bytes a piece of work needs on top of what was held before."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        work()
        return torch.cuda.max_memory_allocated() - before
    ctypes.CDLL("libc.so.6").malloc_trim(0)  # else freed memory hides what is taken
    Path("/proc/self/clear_refs").write_text("5")  # resets the high-water mark
    before = _status("VmRSS")
    work()
    return max(_status("VmHWM") - before, 0)


def held(device: torch.device) -> int:
    """Return the bytes held now."""
    gc.collect()
    if device.type == "cuda":
        return torch.cuda.memory_allocated()
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    return _status("VmRSS")


def _status(key: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(key + ":"):
            return int(line.split()[1]) * 1024
    raise LookupError(key)


def make_model(options: argparse.Namespace, device: torch.device) -> BertForSequenceClassification:
    """Return a random-weight model of KoBERT's shape (or fewer layers)."""
    torch.manual_seed(0)
    config = BertConfig(vocab_size=8002, num_hidden_layers=options.layers, pad_token_id=1)
    model = BertForSequenceClassification(config).to(device)
    if options.ties:
        with torch.no_grad():
            for weight in prunable_weights(model, SCOPE).values():
                weight.copy_((weight * 1000).round() / 1000)
    return model


def rounds_ours(model: nn.Module, options: argparse.Namespace) -> tuple[list[float], Masks]:
    """Prune for some rounds with this library; return each round's seconds and the masks."""
    weights = prunable_weights(model, SCOPE)
    masks, method = Masks.dense(weights), GlobalL1()
    device = next(iter(weights.values())).device
    times = []
    for (drop,) in drops_by_amount(method.units(masks), options.rounds, options.amount):

        def work(drop: int = drop) -> None:
            nonlocal masks
            masks = method.prune(weights, masks, [drop])
            masks.zero_weights(weights)

        times.append(seconds(device, work))
    return times, masks


def rounds_torch(model: nn.Module, options: argparse.Namespace) -> tuple[list[float], Masks]:
    """The same with torch.nn.utils.prune.global_unstructured."""
    names = list(prunable_weights(model, SCOPE))
    modules = [model.get_submodule(name.removesuffix(".weight")) for name in names]
    device = modules[0].weight.device
    times = []
    for _ in range(options.rounds):

        def work() -> None:
            torch_prune.global_unstructured(
                [(module, "weight") for module in modules],
                pruning_method=torch_prune.L1Unstructured,
                amount=options.amount,
            )

        times.append(seconds(device, work))
    masks = {n: m.weight_mask.bool() for n, m in zip(names, modules, strict=True)}
    return times, Masks(masks)


def bandwidth_limit(weights: dict[str, nn.Parameter], device: torch.device) -> float:
    """Return the seconds that three reads and a write of the weights must take."""
    flat = torch.cat([weight.detach().view(-1) for weight in weights.values()])
    copy = torch.empty_like(flat)
    per_pass = min(seconds(device, lambda: copy.copy_(flat)) for _ in range(5)) / 2
    return 4 * per_pass


def bench_prune(options: argparse.Namespace, device: torch.device) -> list[dict[str, object]]:
    """Time, memory and identity of the prune."""
    ours: list[list[float]] = []
    theirs: list[list[float]] = []
    same = True
    for _ in range(options.repeats):
        mine, masks = rounds_ours(make_model(options, device), options)
        reference, expected = rounds_torch(make_model(options, device), options)
        ours.append(mine)
        theirs.append(reference)
        # With ties torch leaves open which of them goes: then only the counts agree.
        same &= masks.zeros == expected.zeros
        same &= bool(options.ties) or masks.digest() == expected.digest()
    rows: list[dict[str, object]] = []
    for index in range(options.rounds):
        a = statistics.median(times[index] for times in ours)
        b = statistics.median(times[index] for times in theirs)
        ratio = statistics.median(t[index] / o[index] for o, t in zip(ours, theirs, strict=True))
        rows.append(row(f"prune, round {index + 1}", f"{a:.3f} s", f"{b:.3f} s", f"{ratio:.1f}x"))
    summed = statistics.median(sum(t) / sum(o) for o, t in zip(ours, theirs, strict=True))
    rows.append(row(f"prune, {options.rounds} rounds summed", "", "", f"{summed:.1f}x"))
    rows.append(row("masks identical (with ties: counts)", str(same), "", ""))

    model = make_model(options, device)
    weights = prunable_weights(model, SCOPE)
    size = sum(weight.numel() for weight in weights.values())
    limit = bandwidth_limit(weights, device)
    first = statistics.median(times[0] for times in ours)
    rows.append(row("distance to the limit", f"{first / limit:.1f}x", f"{limit:.3f} s", ""))
    one = argparse.Namespace(**(vars(options) | {"rounds": 1}))
    dense = Masks.dense(weights)
    drop = round(options.amount * size)
    kept: list[Masks] = []

    def prune_once() -> None:
        kept.append(GlobalL1().prune(weights, dense, [drop]))
        kept[0].zero_weights(weights)

    # The result itself, a byte a weight, is kept and not extra.
    extra = peak(device, prune_once) - size
    extra_torch = peak(device, lambda: rounds_torch(model, one))
    rows.append(row("extra peak memory", mib(extra), mib(extra_torch), ""))
    bytes_kept = sum(mask.nbytes for mask in kept[0].values())
    rows.append(row("kept by masks, bytes a weight", f"{bytes_kept / size:.2f}", "12", ""))
    return rows


def bench_step(
    options: argparse.Namespace, device: torch.device, batch: int, length: int
) -> list[dict[str, object]]:
    """A masked training step against a dense one, alternating on the same model."""
    model = make_model(options, device).train()
    weights = prunable_weights(model, SCOPE)
    masks = GlobalL1().prune(
        weights, Masks.dense(weights), [round(0.5 * sum(w.numel() for w in weights.values()))]
    )
    masks.zero_weights(weights)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5, fused=True)
    ids = torch.randint(5, 8000, (batch, length), device=device)
    labels = torch.zeros(batch, dtype=torch.long, device=device)

    def step(masked: bool) -> None:
        with torch.autocast(device.type, torch.bfloat16, enabled=options.precision == "bf16"):
            loss = model(input_ids=ids, labels=labels).loss
        loss.backward()
        if masked:
            masks.zero_gradients(weights)
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    step(True)
    size = sum(weight.numel() for weight in weights.values())
    over = peak(device, lambda: step(True)) - peak(device, lambda: step(False))
    before = held(device)
    pairs = []
    for index in range(options.steps):
        order = (True, False) if index % 2 else (False, True)
        found = {masked: seconds(device, lambda m=masked: step(m)) for masked in order}
        pairs.append((found[True], found[False]))
    masked, dense = (statistics.median(column) for column in zip(*pairs, strict=True))
    ratio = statistics.median(a / b for a, b in pairs)
    name = f"training step, {batch} x {length}"
    return [
        row(name, f"{masked:.3f} s", f"{dense:.3f} s (dense)", f"{ratio:.3f}x"),
        row(
            "  peak over dense, with masks, bytes a weight",
            f"{(max(over, 0) + size) / size:.2f}",
            "",
            f"{mib(held(device) - before)} growth over the steps",
        ),
    ]


def row(what: str, ours: str, reference: str, ratio: str) -> dict[str, object]:
    """Return a line of the table."""
    return {"what": what, "pruneloop": ours, "reference": reference, "ratio": ratio}


def mib(size: int) -> str:
    """Return a size in MiB, readable."""
    return f"{size / MIB:,.0f} MiB"


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--layers", type=int, default=12)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--amount", type=float, default=0.2)
    parser.add_argument("--repeats", type=int, default=3, help="alternating repeats of the prune")
    parser.add_argument("--steps", type=int, default=5, help="alternating pairs of training steps")
    shapes = ["32x64", "8x48"]
    parser.add_argument("--shapes", nargs="+", default=shapes, help="of steps: rows x tokens")
    parser.add_argument("--precision", default="fp32", choices=["fp32", "bf16"], help="of steps")
    parser.add_argument("--ties", action="store_true", help="weights rounded to 0.001")
    parser.add_argument("--only", choices=["prune", "steps"], help="measure one part only")
    parser.add_argument("--json", type=Path, default=Path("outputs/bench_pruning.json"))
    options = parser.parse_args()
    rank = int(os.environ.get("RANK", "0"))
    device = torch.device(options.device, rank if options.device == "cuda" else None)
    rows = [] if options.only == "steps" else bench_prune(options, device)
    if options.only != "prune":
        for shape in options.shapes:
            rows += bench_step(options, device, *map(int, shape.split("x")))
    if "RANK" in os.environ:
        _, masks = rounds_ours(make_model(options, device), options)
        torch.distributed.init_process_group("nccl" if options.device == "cuda" else "gloo")
        digests: list[object] = [None] * torch.distributed.get_world_size()
        torch.distributed.all_gather_object(digests, masks.digest())
        rows.append(row("masks equal on all ranks", str(len(set(digests)) == 1), "", ""))
        torch.distributed.destroy_process_group()
    if rank:
        return
    hardware = torch.cuda.get_device_name() if device.type == "cuda" else platform.machine()
    print(f"torch {torch.__version__}, {torch.get_num_threads()} thread(s), {hardware}")
    widths = {key: max(len(str(r[key])) for r in rows) for key in rows[0]}
    for line in rows:
        print("  ".join(str(line[key]).ljust(widths[key]) for key in line).rstrip())
    facts = {"torch": torch.__version__, "hardware": hardware, "options": vars(options)}
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_text(json.dumps(facts | {"rows": rows}, indent=1, default=str))


if __name__ == "__main__":
    main()
