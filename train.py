"""`python train.py KEY=VALUE ...` from a clone: the command `pruneloop` without installing."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent / "src"))

from pruneloop.cli import main

if __name__ == "__main__":
    main()
