"""What a run keeps in memory: with 300,000 rows of text, and over 40 rounds.

    python scripts/bench_memory.py [--rows 300000 --rounds 40]

Two runs of their own on a CPU with a small model, whose memory is read from /proc as they go: the
most that the first has ever held, and what the second holds at the end of every round. Exits with
1 where the first is over its limit, or the second still grows.
"""

import argparse
import csv
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from pruneloop.data.sample import generate

ROOT = Path(__file__).resolve().parents[1]
MOST = 1.5e9
"""Bytes that the run with many rows may hold."""
GROWTH = 8e6
"""Bytes by which a run may have grown in the second half of its rounds: less than a state."""
SMALL = (
    *("model.hidden=16", "model.heads=1", "model.intermediate=32", "device=cpu"),
    *("finetune.dense_epochs=1", "finetune.batch_size=256", "model.max_length=32"),
)


def held(process: int, what: str) -> float:
    """Return the bytes that a process holds (VmRSS), or the most that it has held (VmHWM)."""
    status = Path(f"/proc/{process}/status").read_text()
    found = re.search(rf"{what}:\s+(\d+) kB", status)
    return 1024.0 * int(found[1]) if found else 0.0


def watched(words: list[str], folder: Path) -> tuple[float, list[float]]:
    """Run; return the most that it has held, and what it held as each round was over.

    Raises:
        SystemExit: it failed; says what it printed.
    """
    line = [sys.executable, str(ROOT / "train.py"), *SMALL, *words, f"hydra.run.dir={folder}"]
    env = os.environ | {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    with tempfile.TemporaryFile("w+") as said:
        run = subprocess.Popen(line, env=env, stdout=subprocess.DEVNULL, stderr=said)
        most, rounds, records = 0.0, list[float](), folder / "rounds.jsonl"
        while run.poll() is None:
            try:
                most = max(most, held(run.pid, "VmHWM"))
                over = len(records.read_bytes().splitlines()) if records.exists() else 0
                rounds += [held(run.pid, "VmRSS")] * (over > len(rounds))
            except (FileNotFoundError, ProcessLookupError):
                break  # it is over
            time.sleep(0.02)
        if run.wait():
            said.seek(0)
            raise SystemExit(f"{' '.join(line)}: exit code {run.returncode}\n{said.read()[-2000:]}")
    return most, rounds


def many_rows(count: int, folder: Path) -> float:
    """Return the most bytes that a run on so many rows has held."""
    for split, rows in (("train", count), ("test", 1000)):
        with open(folder / f"{split}.csv", "w", encoding="utf-8", newline="") as file:
            lines = ((f"{text} {n}", label) for n, (text, label) in enumerate(generate(rows, 0)))
            csv.writer(file).writerows([("text", "label"), *lines])
    words = ["data=files", f"data.path={folder}", "data.train=train.csv", "data.test=test.csv"]
    return watched([*words, "rounds=1", "data.drop_overlap=false"], folder / "run")[0]


def many_rounds(count: int, folder: Path) -> list[float]:
    """Return the bytes that a run held as each of so many rounds was over."""
    words = ["data.train_rows=2000", "data.test_rows=400", f"rounds={count}", "prune.amount=0.05"]
    return watched(words, folder)[1]


def main() -> int:
    """Measure both; print them as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=300_000)
    parser.add_argument("--rounds", type=int, default=40)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        most = many_rows(given.rows, Path(name))
        rounds = many_rounds(given.rounds, Path(name) / "rounds")
    grown = rounds[-1] - rounds[len(rounds) // 2]
    found = {
        "rows": given.rows,
        "most_megabytes": round(most / 1e6),
        "megabytes_after_rounds": [round(size / 1e6, 1) for size in rounds],
        "grown_in_the_second_half": round(grown / 1e6, 1),
    }
    print(json.dumps(found, indent=1))
    return int(most > MOST or grown > GROWTH)


if __name__ == "__main__":
    sys.exit(main())
