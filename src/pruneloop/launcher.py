"""What the launcher that started this process says: how many processes, and what it asks for.

torchrun and `accelerate launch` speak through the environment. A run follows the number of
processes; how it trains stands in its own keys, so what else is asked for is refused where
it differs, and accelerate never sees it.
"""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from pruneloop.errors import ConfigError, EnvironmentFault

_NO = ("", "0", "no", "n", "none", "false", "f", "off")
_RENDEZVOUS = ("RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
# Of launchers whose processes could not find each other. Slurm's is set by srun alone.
_OTHERS = ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "MV2_COMM_WORLD_SIZE", "SLURM_STEP_NUM_TASKS")


def program() -> str:
    """Return what this process was called by, as it is typed."""
    return "python train.py" if sys.argv[0].endswith(".py") else "pruneloop"


def rank() -> int:
    """Return this process's number; 0 where no launcher gave one that can be read."""
    return _number("RANK", 0)


def world_size() -> int:
    """Return how many processes the launcher has started; 1 without one."""
    return _number("WORLD_SIZE", 1)


def local_world_size() -> int:
    """Return how many of them are on this machine."""
    return _number("LOCAL_WORLD_SIZE", world_size())


def wants_cpu() -> bool:
    """Return whether `accelerate launch --cpu` started this process."""
    return _asked("ACCELERATE_USE_CPU")


def check_launcher(device: str, precision: str, accumulation: int) -> None:
    """Make sure that the processes can find each other, and that no other training is asked for.

    Args:
        device, precision, accumulation: what the run's own keys say.

    Raises:
        EnvironmentFault: what is asked for cannot be done here.
        ConfigError: what is asked for has a key, which says something else.
    """
    _check_processes()
    for name in sorted(os.environ):
        if name.startswith("ACCELERATE_USE_") and name != "ACCELERATE_USE_CPU" and _asked(name):
            raise _not_done(name, "trains the whole model on every device")
    for name in ("ACCELERATE_DYNAMO_BACKEND", "ACCELERATE_FP8_BACKEND", "ACCELERATE_TORCH_DEVICE"):
        if _asked(name):
            raise _not_done(name, "does not do that")
    _same("ACCELERATE_MIXED_PRECISION", "finetune.precision", precision, "fp32")
    _same("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "finetune.accumulation", str(accumulation), "1")
    if wants_cpu() and device == "cuda":
        raise ConfigError(f"device={device}: the launcher asks for a CPU; use device=auto")


@contextmanager
def unseen() -> Iterator[None]:
    """Take what accelerate would read out of the environment, as long as the block runs."""
    hidden = {name: value for name, value in os.environ.items() if name.startswith("ACCELERATE_")}
    for name in hidden:
        del os.environ[name]
    try:
        yield
    finally:
        os.environ.update(hidden)


def _check_processes() -> None:
    for name in ("WORLD_SIZE", "LOCAL_WORLD_SIZE", "RANK", "LOCAL_RANK"):
        if not os.environ.get(name, "0").isdecimal():
            raise EnvironmentFault(
                f"{name}={os.environ[name]}: is no number; unset it, or start with torchrun"
            )
    if world_size() > 1:
        missing = [name for name in _RENDEZVOUS if not os.environ.get(name)]
        if missing:
            raise EnvironmentFault(
                f"WORLD_SIZE={world_size()}: without {', '.join(missing)} the processes cannot "
                "find each other; start them with torchrun, or unset WORLD_SIZE"
            )
        return
    if "WORLD_SIZE" in os.environ:
        return
    for name in _OTHERS:
        if _number(name, 1) > 1:
            raise EnvironmentFault(
                f"{name}={os.environ[name]}: its processes would not know of each other; start "
                "torchrun --nproc_per_node N train.py ... once on every machine"
            )


def _same(name: str, key: str, own: str, neutral: str) -> None:
    """Make sure that a variable says nothing, or what the run's own key says."""
    said = os.environ.get(name, "").strip().lower()
    if said not in (*_NO, neutral, own):
        raise ConfigError(f"{name}={said}: {key}={own} decides; unset it, or give {key} that value")


def _not_done(name: str, instead: str) -> EnvironmentFault:
    return EnvironmentFault(
        f"{name}={os.environ[name]}: pruneloop {instead}; unset it, or start with torchrun"
    )


def _asked(name: str) -> bool:
    return os.environ.get(name, "").strip().lower() not in _NO


def _number(name: str, otherwise: int) -> int:
    value = os.environ.get(name, "")
    return int(value) if value.isdecimal() else otherwise
