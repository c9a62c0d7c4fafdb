"""What a run needs of its machine: processes, a device, a precision; and what it refuses."""

import atexit
import logging
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import datasets
import torch
import transformers
from accelerate import Accelerator
from accelerate.state import AcceleratorState, GradientState
from accelerate.utils import GradientAccumulationPlugin, gather_object

from pruneloop import launcher
from pruneloop.config import Device, Precision, Tracker
from pruneloop.errors import ConfigError, EnvironmentFault, InvariantError, PeerLost, reason

log = logging.getLogger(__name__)


def check_machine(device: Device, precision: Precision, accumulation: int) -> None:
    """Make sure that the machine and the launcher go with what is asked for.

    Raises:
        ConfigError, EnvironmentFault: they do not.
    """
    launcher.check_launcher(device.name, precision.name, accumulation)
    gpu = torch.cuda.is_available()
    if device == Device.cuda and not gpu:
        raise EnvironmentFault(
            "device=cuda: this machine has no usable CUDA GPU; use device=cpu or device=auto"
        )
    gpu = gpu and not _on_cpu(device)
    if gpu and launcher.local_world_size() > torch.cuda.device_count():
        raise EnvironmentFault(
            f"{launcher.local_world_size()} processes, but {torch.cuda.device_count()} GPU(s) on "
            "this machine; start one process for each GPU, or use device=cpu"
        )
    if precision == Precision.fp16 and not gpu:
        raise ConfigError("finetune.precision=fp16: needs a GPU; use bf16 or fp32 on a CPU")
    if precision == Precision.bf16 and gpu and not torch.cuda.is_bf16_supported():
        raise EnvironmentFault("finetune.precision=bf16: this GPU has no bf16; use fp16")


def check_compiler(device: Device) -> None:
    """Make sure that torch can compile for the device, which wants compilers of its own.

    Raises:
        EnvironmentFault: it cannot.
    """
    on_gpu = torch.cuda.is_available() and not _on_cpu(device)
    try:
        torch.compile(torch.neg)(torch.ones(2, device="cuda" if on_gpu else "cpu"))
    except Exception as error:  # whatever its back end raises
        raise EnvironmentFault(
            f"finetune.compile=true: torch.compile does not work here ({reason(error)}); leave it "
            "out"
        ) from error


def chosen_precision(device: Device, precision: Precision) -> Precision:
    """Return the precision that `auto` means on this machine, and say why; any other as it is.

    The same on all processes of a machine: its oldest GPU decides.
    """
    if precision != Precision.auto:
        return precision
    if torch.cuda.is_available() and not _on_cpu(device):
        cards = range(torch.cuda.device_count())
        major, minor = min(torch.cuda.get_device_capability(card) for card in cards)
        chosen = Precision.bf16 if major >= 8 else Precision.fp16
        why = f"this GPU has compute capability {major}.{minor}"
    elif has := sorted(_BF16_FLAGS & cpu_flags()):
        chosen, why = Precision.bf16, f"this CPU has {' and '.join(has)}"
    else:
        chosen, why = Precision.fp32, f"this CPU has none of {', '.join(sorted(_BF16_FLAGS))}"
    log.info(f"finetune.precision=auto: {chosen.name}, as {why}")
    return chosen


# What multiplies matrices of bf16 faster than those of float32.
_BF16_FLAGS = {"avx512_bf16", "amx_bf16"}


def cpu_flags() -> set[str]:
    """Return what the processor can do, as Linux names it; empty where nobody says."""
    with suppress(OSError):
        flags = re.search(r"^flags\s*:(.*)", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
        if flags:
            return {*flags[1].split()}
    return set()


@contextmanager
def processes(
    device: Device, precision: Precision, tracker: Tracker, folder: Path
) -> Iterator[Accelerator]:
    """Set up the processes, the device, and a tracker that may write into the run folder.

    Afterwards accelerate's process-wide state is forgotten, so that a sweep's next job
    starts clean. The process group stays: a second one cannot meet in the same store.
    """
    transformers.utils.logging.disable_progress_bar()
    for name in ("datasets", "huggingface_hub"):  # their handlers say what the log says already
        logging.getLogger(name).handlers.clear()
    if not sys.stderr.isatty():
        datasets.disable_progress_bars()
    threads = torch.get_num_threads()
    accelerator = _accelerator(device, precision, tracker, folder)
    torch.use_deterministic_algorithms(accelerator.device.type == "cpu")
    # Filling what is written over anyway costs a step 2 %.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    atexit.unregister(_leave_process_group)
    atexit.register(_leave_process_group)
    try:
        with launcher.unseen():
            yield accelerator
    finally:
        torch.set_num_threads(threads)
        accelerator.free_memory()
        AcceleratorState._reset_state(reset_partial_state=True)
        GradientState._reset_state()


def check_same(found: Mapping[str, Any]) -> None:
    """Make sure that all processes have found the same: labels, splits, batches.

    Raises:
        InvariantError: they have not; says what differs.
    """
    everywhere = gather_object([dict(found)])
    for number, other in enumerate(everywhere[1:], 1):
        for key, value in everywhere[0].items():
            if other.get(key) != value:
                raise InvariantError(
                    f"process {number} has other {key} than process 0, before any training: "
                    f"{other.get(key)} and {value}; do both read the same files?"
                )


def check_batches(shares: Sequence[Sequence[Sequence[int]]], rows: int) -> None:
    """Make sure that the processes' shares of an epoch are parts of one order of all rows.

    Raises:
        InvariantError: a row is in two batches, or in none.
    """
    batches = {tuple(batch) for share in shares for batch in share}  # some come twice, whole
    if sorted(row for batch in batches for row in batch) != list(range(rows)):
        raise InvariantError(
            f"the batches of the {len(shares)} processes do not divide the {rows:,} training rows"
        )


def _on_cpu(device: Device) -> bool:
    return device == Device.cpu or (device == Device.auto and launcher.wants_cpu())


def _accelerator(
    device: Device, precision: Precision, tracker: Tracker, folder: Path
) -> Accelerator:
    """Return the accelerator of all processes that were started together.

    Raises:
        EnvironmentFault: this process would be alone.
    """
    # Without a GPU, accelerate joins processes only where it is told to use the CPU.
    together = launcher.world_size() > 1 and not torch.cuda.is_available()
    with launcher.unseen():
        accelerator = Accelerator(
            log_with=None if tracker == Tracker.none else tracker.name,
            project_dir=folder,
            cpu=_on_cpu(device) or together,
            mixed_precision="no" if precision == Precision.fp32 else precision.name,
            gradient_accumulation_plugin=GradientAccumulationPlugin(num_steps=1),
            dynamo_backend="no",
        )
    if accelerator.num_processes != launcher.world_size():
        raise EnvironmentFault(
            f"WORLD_SIZE={launcher.world_size()}, but this process is one of "
            f"{accelerator.num_processes}; start with torchrun --nproc_per_node N"
        )
    return accelerator


def _leave_process_group() -> None:
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


_MEMORY = (
    "this machine's memory is full; in a new hydra.run.dir, halve finetune.batch_size and double "
    "finetune.accumulation, which keeps the global batch, or take a smaller model.max_length"
)
# What gloo says where another process is gone; it has no class for it.
_LOST = re.compile(
    "closed by peer|connection reset|broken pipe|connection refused|connection closed|"
    "socket closed|no route to host|connection timed out|caused pair closure",
    re.IGNORECASE,
)


@contextmanager
def machine_faults() -> Iterator[None]:
    """Turn what the machine refuses into a line of advice.

    Raises:
        EnvironmentFault: memory is full, a process is gone, or the system refused something.
    """
    try:
        yield
    except MemoryError as error:
        raise EnvironmentFault(_MEMORY) from error
    except torch.OutOfMemoryError as error:
        raise EnvironmentFault(
            "the GPU's memory is full; in a new hydra.run.dir, halve finetune.batch_size and "
            "double finetune.accumulation, which keeps the global batch"
        ) from error
    except RuntimeError as error:
        if "DefaultCPUAllocator" in str(error):  # torch has no class for it
            raise EnvironmentFault(_MEMORY) from error
        lost = isinstance(error, torch.distributed.DistError) or _LOST.search(str(error))
        if not torch.distributed.is_initialized() or not lost:
            raise
        raise PeerLost("another process of this run has ended; see what it says") from error
    except OSError as error:
        raise EnvironmentFault.of(error) from error
