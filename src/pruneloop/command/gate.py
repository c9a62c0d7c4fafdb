"""What the command line may not change of Hydra's own settings."""

import re
from collections.abc import Sequence

from pruneloop.errors import ConfigError

# What may be changed. The others can name Python objects to call, packages to load, or
# folders outside the run's.
_HYDRA_KEYS = re.compile(
    r"hydra\.(run\.dir|sweep\.dir|mode|verbose|job\.(name|chdir)|launcher\..+|sweeper\..+)"
)


def refuse_code(arguments: Sequence[str]) -> None:
    """Let no override make Hydra call something, or leave the run or sweep folder.

    Raises:
        ConfigError: one would, or an argument is none.
    """
    if arguments and re.fullmatch(r"\w+", arguments[0]):
        raise ConfigError(f"{arguments[0]}: no such command, and no KEY=VALUE")
    for argument in arguments:
        key = argument.lstrip("+~").partition("=")[0]
        override = "=" in argument or argument.startswith("~")
        of_hydra = override and re.match(r"hydra\b(?!/)", key)
        if (
            (of_hydra and not _HYDRA_KEYS.fullmatch(key))
            or argument.startswith("--experimental-rerun")  # it unpickles a file
            or re.search(r"(?<!\w)_target_(?!\w)", argument)
        ):
            raise ConfigError(
                f"{key}: cannot be set here; a configuration never names code to run or a "
                "folder outside the run's"
            )
