"""`python train.py KEY=VALUE ...` from a clone: the command `pruneloop` without installing."""

import os
import sys
from pathlib import Path

SOURCE = str(Path(__file__).resolve().parent / "src")
sys.path.insert(0, SOURCE)
# For the processes that a launcher starts.
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [SOURCE, os.environ.get("PYTHONPATH")]))

from pruneloop.command import main  # noqa: E402

if __name__ == "__main__":
    main()
