"""The one error frame: whatever goes wrong ends as one line and an exit code.

HYDRA_FULL_ERROR=1 shows the traceback instead.
"""

import os
import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from pruneloop import launcher
from pruneloop.errors import EnvironmentFault, Interrupted, Preempted, PruneloopError, reason
from pruneloop.redaction import without_secrets
from pruneloop.signals import finish_undisturbed


def explain(error: BaseException) -> PruneloopError | Preempted | None:
    """Turn an exception into one of ours, with a message of one line; None for a bug."""
    if isinstance(error, (PruneloopError, Preempted)):
        return error
    source = type(error).__module__.partition(".")[0]
    if source in ("hydra", "omegaconf"):  # some of Hydra's are OSErrors too
        from pruneloop.command.composition import explain_composition

        return explain_composition(error)
    if source.startswith("submitit"):
        return EnvironmentFault(f"a job of the sweep ended without a result ({reason(error)})")
    if source in ("optuna", "sqlalchemy"):
        return EnvironmentFault(f"the search's storage: {reason(error)}; see hydra.sweeper.storage")
    if isinstance(error, MemoryError):
        return EnvironmentFault(
            "this machine's memory is full; take smaller data or a smaller model"
        )
    return EnvironmentFault.of(error) if isinstance(error, OSError) else None


class Errors:
    """What went wrong in this process so far; the largest exit code counts."""

    def __init__(self) -> None:
        self._full = os.environ.get("HYDRA_FULL_ERROR", "0") not in ("", "0")
        # Hydra then lets exceptions through, instead of printing them its own way.
        os.environ["HYDRA_FULL_ERROR"] = "1"
        self._rank = launcher.rank()
        self._codes: list[int] = []

    @property
    def exit_code(self) -> int:
        """What the process is to end with."""
        return max(self._codes, default=0)

    def add(self, exit_code: int) -> None:
        """Count what ended elsewhere, such as a sweep's point, with its exit code."""
        self._codes.append(exit_code)

    def show(self, error: BaseException) -> None:
        """Print an error, once over all processes unless it may be this machine's alone."""
        known = None if self._full and not isinstance(error, Preempted) else explain(error)
        self.add(known.exit_code if known else 1)
        with suppress(OSError):  # a terminal that is gone
            if known is None:
                print(without_secrets("".join(traceback.format_exception(error))), file=sys.stderr)
            elif self._rank == 0:
                print(f"pruneloop: {known}", file=sys.stderr)
            elif isinstance(known, EnvironmentFault):
                print(f"pruneloop (process {self._rank}): {known}", file=sys.stderr)
        if known is not None and self._rank > 0:
            time.sleep(2)  # torchrun kills rank 0 when we end: let it speak first

    @contextmanager
    def shown(self) -> Iterator[None]:
        """Show what the block raises."""
        try:
            yield
        except KeyboardInterrupt:
            self.add(Interrupted.exit_code)
        except (Exception, Preempted) as error:
            finish_undisturbed()
            self.show(error)
