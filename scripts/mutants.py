"""Put deliberate faults into a copy of the code, and see the tests turn red.

    python scripts/mutants.py

Each fault is one that a pruning loop can have and still look fine. It is applied to a
copy of the tree, the tests concerned run there, and the copy is thrown away. Ends with 1
if a fault goes unnoticed.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Mutant:
    """A fault: in `file`, `before` (which occurs once) becomes `after`."""

    name: str
    file: str
    before: str
    after: str
    tests: tuple[str, ...]


MUTANTS = (
    Mutant(
        "masks made permanent each round",
        "src/pruneloop/pruning/pruned_model.py",
        "        before = self.masks\n",
        "        before = self.masks = Masks.dense(self.masks)\n",
        ("tests/test_pipeline.py",),
    ),
    Mutant(
        "no fsync",
        "src/pruneloop/durable.py",
        '    with open(path, "rb") as file:\n        os.fsync(file.fileno())\n',
        "",
        ("tests/test_checkpoint.py", "tests/test_export.py"),
    ),
    Mutant(
        "random state not restored",
        "src/pruneloop/checkpointer.py",
        '            restore_random_state(saved.tensors(f"random-{rank}"), device)\n',
        "",
        ("tests/test_resume.py", "-k", "signal_saves or ten_kills or kill_in_every"),
    ),
    Mutant(
        "delete before write",
        "src/pruneloop/checkpoint.py",
        "        fresh_folder(self.writing)\n",
        "        fresh_folder(self.writing)\n"
        "        for old in self.names():\n"
        "            remove_folder(old)\n",
        ("tests/test_checkpoint.py",),
    ),
    Mutant(
        "gradient mask skipped after resume",
        "src/pruneloop/training/fine_tuning.py",
        '        self.step = int(state["step"])\n',
        '        self.step = int(state["step"])\n        self._update._hold = lambda: None\n',
        ("tests/test_training.py", "tests/test_resume.py", "-k", "state or signal_saves"),
    ),
    Mutant(
        "per-rank random masks",
        "src/pruneloop/plan.py",
        "    drawn = criteria.Random(seed * 1_000_003 + number)\n",
        "    import os\n\n"
        '    rank = int(os.environ.get("RANK", "0"))\n'
        "    drawn = criteria.Random(seed * 1_000_003 + number + rank)\n",
        ("tests/test_processes.py",),
    ),
    Mutant(
        "a budget that reads test",
        "src/pruneloop/plan.py",
        "        lost = float(getattr(dense, metric) - getattr(record, metric))\n",
        "        lost = float(dense.test_accuracy - record.test_accuracy)\n",
        ("tests/test_plan.py", "-k", "budget or undone"),
    ),
    Mutant(
        "a teacher in train mode",
        "src/pruneloop/evaluation.py",
        "    model.eval()\n    gathered",
        "    model.train()\n    gathered",
        ("tests/test_given.py", "-k", "round_0_without_dropout"),
    ),
    Mutant(
        "an aliased snapshot",
        "src/pruneloop/checkpointer.py",
        "        self._write(EARLY, live.pruned.state())\n",
        "        self._early = live.pruned.state()\n",
        ("tests/test_plan.py", "-k", "early_ones"),
    ),
    Mutant(
        "evidence of rank 0 only",
        "src/pruneloop/evidence.py",
        'accelerator.reduce(total, "sum").sqrt()',
        "total.sqrt()",
        ("tests/test_processes.py", "-m", "", "-k", "evidence"),
    ),
    Mutant(
        "a best epoch that is the last one",
        "src/pruneloop/loop.py",
        "            self.checkpointer.go_back(live, best)\n",
        "",
        ("tests/test_given.py", "-k", "best"),
    ),
)


def copy_of_the_tree(place: Path) -> Path:
    """Copy what the tests need; corpora beside the checkout are not."""
    tree = place / "tree"
    kept_out = shutil.ignore_patterns(".venv", ".git", "outputs", "__pycache__", ".*_cache")
    shutil.copytree(ROOT, tree, ignore=kept_out)
    return tree


def run_tests(tree: Path, tests: tuple[str, ...]) -> subprocess.CompletedProcess[str]:
    """Run some tests in a tree, with its own code, up to the first red one."""
    env = os.environ | {"PYTHONPATH": str(tree / "src"), "OMP_NUM_THREADS": "1"}
    line = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider"]
    line += ["-m", "more or not more", *tests]
    return subprocess.run(line, cwd=tree, env=env, capture_output=True, text=True)


def main() -> None:
    """Run every mutant and print its table."""
    unnoticed = 0
    with tempfile.TemporaryDirectory() as place:
        tree = copy_of_the_tree(Path(place))
        # A test that is red anyway would notice everything.
        for tests in dict.fromkeys(mutant.tests for mutant in MUTANTS):
            result = run_tests(tree, tests)
            if result.returncode != 0:
                sys.exit(f"red without any mutant: {' '.join(tests)}\n{result.stdout[-2000:]}")
        for mutant in MUTANTS:
            path = tree / mutant.file
            sound = path.read_text(encoding="utf-8")
            assert sound.count(mutant.before) == 1, f"{mutant.name}: the code has changed"
            begun = time.monotonic()
            path.write_text(sound.replace(mutant.before, mutant.after), encoding="utf-8")
            result = run_tests(tree, mutant.tests)
            path.write_text(sound, encoding="utf-8")
            # 1 is a red test; anything else is a run that never got so far.
            noticed = result.returncode == 1
            unnoticed += not noticed
            by = next((x for x in result.stdout.splitlines() if x.startswith("FAILED")), "")
            verdict = "red" if noticed else f"UNNOTICED (pytest ended with {result.returncode})"
            print(f"{mutant.name:<36} {verdict}  {time.monotonic() - begun:5.1f} s  {by[:90]}")
    sys.exit(1 if unnoticed else 0)


if __name__ == "__main__":
    main()
