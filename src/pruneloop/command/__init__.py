"""The command line: `pruneloop KEY=VALUE ...` runs, `pruneloop VERB ...` does the rest."""

import logging
import os
import sys

from pruneloop import launcher
from pruneloop.command.explain import Errors
from pruneloop.command.output import check_tokens, guard_output, say_the_last_words
from pruneloop.command.verbs import VERBS
from pruneloop.signals import finish_undisturbed, remember_signals, watch_parent


def main() -> None:
    """Run the command line; end the process with the exit code of what went wrong."""
    verb = VERBS.get(sys.argv[1]) if len(sys.argv) > 1 else None
    if verb is None:
        remember_signals()  # before seconds go into imports
    if launcher.world_size() > 1:
        watch_parent()
    # Threads that wait by spinning slow small models tenfold where cores are shared.
    # Read when torch is loaded, which is later.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    guard_output()
    logging.raiseExceptions = False  # a log on a full disk is no reason for a traceback
    logging.captureWarnings(True)  # as lines of the log, which do not tear a progress bar
    errors = Errors()
    with errors.shown():
        check_tokens()
        if verb is not None:
            verb(sys.argv[2:])
        else:
            # Hydra takes a third of a second to load.
            from pruneloop.command.run import run

            run(sys.argv[1:], errors)
    finish_undisturbed()
    say_the_last_words()
    sys.exit(errors.exit_code)
