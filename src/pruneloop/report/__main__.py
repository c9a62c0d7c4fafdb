"""`python -m pruneloop.report FOLDER`: make the page of a run, or of a sweep, again."""

import argparse
import sys
from pathlib import Path

from pruneloop.errors import PruneloopError
from pruneloop.records import RunFolder
from pruneloop.report.points import read_sweep
from pruneloop.report.run import write_report
from pruneloop.report.sweep import write_sweep


def main() -> None:
    """Write the page of the folder named on the command line; say where it is."""
    parser = argparse.ArgumentParser(prog="python -m pruneloop.report", description=__doc__)
    parser.add_argument("folder", type=Path, help="the folder of a run, or of a sweep")
    folder = RunFolder(parser.parse_args().folder)
    try:
        if folder.rounds_jsonl.exists():
            write_report(folder)
            print(folder.report)
        else:
            print(write_sweep(read_sweep(folder.path)))
    except PruneloopError as error:
        print(f"pruneloop: {error}", file=sys.stderr)
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
