"""What run.json records: what was run, on what data, where, and the plan."""

import os
import platform
import re
import shlex
from collections.abc import Sequence
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path

import torch
from accelerate import Accelerator

from pruneloop import __version__
from pruneloop.config import Config, HubData, PretrainedModel, flat
from pruneloop.data.loading import Data
from pruneloop.data.splits import Splits
from pruneloop.hub import licence_of
from pruneloop.machine import cpu_flags
from pruneloop.pruning import PrunedModel
from pruneloop.records import DataFacts, RunFacts
from pruneloop.redaction import public
from pruneloop.report.language import spoken
from pruneloop.report.table import plan_table


def run_facts(
    config: Config,
    overrides: list[str],
    split: Splits,
    data: Data,
    pruned: PrunedModel,
    zeros: Sequence[tuple[int, int]],
    accelerator: Accelerator,
) -> RunFacts:
    """Put a run's facts together; `zeros` are the planned ones, at least and at most."""
    name = config.model.name if isinstance(config.model, PretrainedModel) else None
    overrides = public(overrides)
    return RunFacts(
        command=_command(overrides, accelerator.num_processes),
        overrides=overrides,
        model=name or "tiny",
        base_model=_on_hub(name),
        licence=licence_of(name) if name else None,
        data=_data_facts(config, split, data),
        parameters=pruned.parameters,
        prunable=pruned.masks.prunable,
        planned_zeros=[most for _, most in zeros],
        planned_zeros_at_least=[fewest for fewest, _ in zeros],
        device=accelerator.device.type,
        hardware=_hardware(accelerator),
        processes=accelerator.num_processes,
        precision=config.finetune.precision.name,
        language=spoken(config.report.language.name),
        config=flat(config),
        versions=_versions(accelerator),
    )


def announcement(facts: RunFacts, zeros: Sequence[tuple[int, int]], matrices: int) -> str:
    """Return in words what is about to happen; `zeros` as in `run_facts`."""
    return (
        f"model: {facts.parameters:,} parameters, {facts.prunable:,} of them prunable in "
        f"{matrices} matrices; {facts.processes} process(es) on {facts.device} "
        f"({facts.hardware}), {facts.precision}\n"
        f"plan:\n{plan_table(zeros, facts.prunable, facts.parameters)}"
    )


def _data_facts(config: Config, split: Splits, data: Data) -> DataFacts:
    name = config.data.name if isinstance(config.data, HubData) else None
    return DataFacts(
        name=split.name,
        hub_name=_on_hub(name),
        labels=split.labels,
        rows=split.counts,
        majority=split.majority(),
        truncated=data.truncated,
        unknown_tokens=data.train.unknown,
        max_length=data.max_length,
        fingerprints=split.fingerprints,
    )


def _versions(accelerator: Accelerator) -> dict[str, str]:
    libraries = ("torch", "transformers", "datasets", "accelerate", "evaluate")
    found = {"pruneloop": __version__, "python": platform.python_version()}
    found |= {library: version(library) for library in libraries}
    return found | ({"cuda": str(torch.version.cuda)} if accelerator.device.type == "cuda" else {})


def _command(overrides: list[str], processes: int) -> str:
    """Return what repeats the run, in a folder of its own."""
    local = os.environ.get("LOCAL_WORLD_SIZE", "1")
    launcher = ["torchrun", "--nproc_per_node", local] if processes > 1 else ["python"]
    if processes > int(local):
        launcher[1:1] = ["--nnodes", str(processes // int(local))]
    return shlex.join([*launcher, "train.py", *overrides])


def _on_hub(name: str | None) -> str | None:
    """Return a name of the hub; None for a folder here."""
    return None if name is None or Path(name).expanduser().exists() else name


def _hardware(accelerator: Accelerator) -> str:
    """Return what the run computes on, as people call it."""
    if accelerator.device.type == "cuda":
        return torch.cuda.get_device_name(accelerator.device)
    return f"{processor()}, {os.cpu_count()} cores"


def processor() -> str:
    """Return what the machine's processor is called."""
    with suppress(OSError):
        found = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
        if found:
            return found.group(1)
    return platform.processor() or platform.machine()


def has_vnni() -> bool | None:
    """Return whether the processor multiplies bytes in one instruction; None where nobody says."""
    flags = cpu_flags()
    return bool({"avx_vnni", "avx512_vnni", "amx_int8"} & flags) if flags else None
