"""What can go wrong, and the exit code that each of it ends the process with."""


def reason(error: BaseException) -> str:
    """Return the first line of what an exception says, or its name if it says nothing."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


class PruneloopError(Exception):
    """A failure with one line to say. `exit_code` 1 is reserved for our own bugs."""

    exit_code = 1


class ConfigError(PruneloopError, ValueError):
    """The configuration asks for something that is not possible."""

    exit_code = 2


class InputError(PruneloopError, ValueError):
    """A data set, a model or a tokenizer is not what it should be."""

    exit_code = 3


class CheckpointError(PruneloopError):
    """A checkpoint is damaged, or belongs to another run."""

    exit_code = 4


class EnvironmentFault(PruneloopError):
    """The machine cannot do it: no CUDA, no space, no network, a folder in use."""

    exit_code = 5

    @classmethod
    def of(cls, error: OSError) -> "EnvironmentFault":
        """Say in one line what the system refused, and where."""
        place = f"{error.filename}: " if error.filename else ""
        return cls(f"{place}{error.strerror or error}")


class FolderInUse(EnvironmentFault):
    """Another run is at work in the folder; what it says there is its own."""


class PeerLost(EnvironmentFault):
    """Another process of the run has ended, and says itself why."""


class InvariantError(PruneloopError):
    """A number that must hold does not: a NaN, a wrong count, unequal masks."""

    exit_code = 6


class EmptyMatrix(InvariantError):
    """A prune would take the last weight of a matrix."""


class Preempted(BaseException):
    """A signal asked the run to stop; its state is saved and it can go on.

    No Exception, as KeyboardInterrupt is none: what a library or a sweep does about
    failures must not swallow it.
    """

    exit_code = 75
