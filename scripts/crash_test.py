"""Kill runs at random moments, resume them, and count what was lost.

    python scripts/crash_test.py --kills 200

Every run is killed (SIGKILL, and every fourth time SIGTERM) again and again until it is
done; then its final weights and records are compared with an uninterrupted run's. Prints
lost runs, bit-identical ends, the median time from SIGTERM to exit, and what saving costs.
"""

import argparse
import hashlib
import multiprocessing
import os
import random
import re
import signal
import statistics
import sys
import tempfile
import threading
import time
from pathlib import Path

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["pruneloop.pipeline", "matplotlib.figure"])

OVERRIDES = (
    "hydra.run.dir=run",
    "device=cpu",
    "rounds=2",
    "data.train_rows=240",
    "data.test_rows=60",
    "model.layers=1",
    "model.hidden=16",
    "model.intermediate=32",
    "model.dropout=0.1",
    "finetune.dense_epochs=3",
    "finetune.epochs=2",
    "finetune.batch_size=8",
    "finetune.accumulation=2",
)


def live(folder: str, every: int) -> None:
    """Be a run, in a fresh process."""
    os.chdir(folder)
    quiet = os.open(os.devnull, os.O_WRONLY)
    os.dup2(quiet, 1)
    os.dup2(quiet, 2)
    sys.argv = ["train.py", *OVERRIDES, f"checkpoint.every_steps={every}"]
    from tqdm import tqdm

    from pruneloop.command import main

    tqdm.set_lock(threading.RLock())  # its own is a semaphore, which a kill leaves behind
    main()


def start(folder: Path, every: int = 4) -> multiprocessing.Process:
    """Start a run in a folder."""
    process = CONTEXT.Process(target=live, args=(str(folder), every))
    process.start()
    return process


def outcome(folder: Path) -> dict[str, str]:
    """Return a hash of every file that a run hands over, by name; times and places aside."""
    run = folder / "run"
    found = {}
    for path in sorted(run.rglob("*")):
        name = path.relative_to(run).as_posix()
        if path.is_file() and not name.startswith(_OTHERWISE):
            content = path.read_bytes().replace(str(folder.resolve()).encode(), b"")
            found[name] = hashlib.sha256(_without_times(name, content)).hexdigest()
    return found


# The states are many or few, the log has a line for every start, and Hydra notes the place.
_OTHERWISE = ("state/", "STATUS.json", "pruneloop.log", ".hydra/hydra.yaml")


def _without_times(name: str, content: bytes) -> bytes:
    if name == "rounds.jsonl":
        return re.sub(rb'"seconds": [^,}]+', b"", content)
    if name == "rounds.csv":  # seconds and kept are the last columns
        return re.sub(rb",[\d.]+,(True|False)", b"", content)
    if name == "report.html":  # seconds are the last of a round's cells
        return re.sub(rb"<td>[\d.]+</tr>", b"", content)
    return content


def timed(folder: Path, every: int) -> float:
    """Return the seconds of an uninterrupted run."""
    folder.mkdir()
    begun = time.monotonic()
    process = start(folder, every)
    process.join()
    assert process.exitcode == 0, f"the reference run failed with {process.exitcode}"
    return time.monotonic() - begun


def main() -> None:
    """Run the test and print its table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    rng = random.Random(options.seed)
    kills = runs = lost = identical = 0
    stops: list[float] = []
    with tempfile.TemporaryDirectory() as place:
        root = Path(place)
        timed(root / "warm", 4)
        often, never = timed(root / "often", 4), timed(root / "never", 10_000)
        expected = outcome(root / "often")
        while kills < options.kills:
            folder = root / f"run-{runs}"
            folder.mkdir()
            runs += 1
            while True:
                process = start(folder)
                process.join(rng.uniform(0.1, often))
                if process.exitcode is None:
                    gentle = kills % 4 == 3
                    os.kill(process.pid, signal.SIGTERM if gentle else signal.SIGKILL)
                    begun = time.monotonic()
                    process.join()
                    kills += 1
                    if gentle and process.exitcode == 75:
                        stops.append(time.monotonic() - begun)
                    if process.exitcode in (-signal.SIGKILL, -signal.SIGTERM, 75):
                        continue
                lost += process.exitcode != 0
                identical += process.exitcode == 0 and outcome(folder) == expected
                break
    print(f"kills                              {kills}")
    print(f"runs                               {runs}")
    print(f"lost runs                          {lost}")
    print(f"bit-identical ends                 {identical} of {runs}")
    if stops:
        print(
            f"SIGTERM to exit 75, median         {statistics.median(stops):.2f} s of {len(stops)}"
        )
    print(f"a run, saving every 4 steps        {often:.2f} s, once a round {never:.2f} s")


if __name__ == "__main__":
    main()
