"""Do to runs all that must not harm them, and print what was promised and what was seen.

    python scripts/torture.py          # some minutes
    python scripts/torture.py --quick  # the part that the first tier of the tests has

A row of the table is one kind of harm. Ends with 1 where something fell short, and says what.
Needs what the tests need: pip install ".[test]".
"""

import argparse
import contextlib
import fcntl
import functools
import gzip
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PATHS = [str(ROOT / "src"), str(ROOT / "tests"), str(ROOT / "scripts")]
sys.path[:0] = PATHS
# For the server that the lives are forked from.
os.environ["PYTHONPATH"] = os.pathsep.join([*PATHS, os.environ.get("PYTHONPATH", "")])

import crash_test  # noqa: E402
from support import (  # noqa: E402
    BACKWARD,
    EVALUATION,
    EXPORT,
    EXPORT_RENAME,
    READING,
    REPORT,
    RUN,
    STATE_FILE,
    SWEEP,
    TORCHRUN,
    ZEROING,
    Environment,
    Life,
    Place,
    die_at,
    read_status,
    signal_at,
    wait_until,
)

Before = Callable[[], None]
WINDOWS: list[tuple[Place, int]] = [
    *(((BACKWARD), 25), (STATE_FILE, 5), (EXPORT_RENAME, 1), (ZEROING, 2)),
    *((READING, 1), (EVALUATION, 1), (EXPORT, 1), (REPORT, 1), (BACKWARD, 100)),
    *((("os", "fsync"), 9), (("os", "rename"), 4), (("os", "replace"), 5)),
]
TOKEN = "hf_aTokenThatIsNone0123"


@dataclass(frozen=True)
class Bench:
    """Where runs are harmed: a folder, a finished run, how it ended, and chance."""

    place: Path
    done: Path
    expected: dict[str, str]
    rng: random.Random
    quick: bool

    def few(self, quick: int, full: int) -> int:
        """Return how often something is done."""
        return quick if self.quick else full

    def fresh(self, of_done: bool = False) -> Path:
        """Return a folder of its own; with a copy of the finished run in it where asked."""
        folder = Path(tempfile.mkdtemp(dir=self.place))
        if of_done:
            shutil.copytree(self.done / "run", folder / "run")
        return folder

    def goes_on(self, folder: Path, before: Before | None = None) -> str:
        """Run the command again; return what fell short of ending like the finished run."""
        life = Life(folder, *RUN, before=before)
        if code := life.wait(120):
            return f"the same command again: {code} {life.errors[-300:]}"
        same = crash_test.outcome(folder) == self.expected
        return "" if same else "other bits than without the harm"


def line_of(life: Life, *codes: int) -> str:
    """Wait for a life's end; return what falls short of one line and one of these exit codes."""
    code, lines = life.wait(120), life.errors.strip().splitlines()
    if code not in codes:
        return f"exit {code}, not {' or '.join(map(str, codes))}: {life.errors[-300:]}"
    if code and (len(lines) != 1 or len(lines[0]) > 1000):
        return f"exit {code} with {len(lines)} lines: {life.errors[:300]}"
    return ""


# -- the harms: each yields what fell short, or "" ----------------------------------------------


def kills(bench: Bench) -> Iterator[str]:
    """Kill in every window, then go on."""
    for place, count in WINDOWS[: bench.few(1, 99)]:
        folder = bench.fresh()
        life = Life(folder, *RUN, before=functools.partial(die_at, place, count))
        code = life.wait(120)
        yield bench.goes_on(folder) if code == -signal.SIGKILL else f"{place}: not killed"


def random_kills(bench: Bench) -> Iterator[str]:
    """Kill at random, again and again, until the run is done."""
    for _ in range(bench.few(0, 3)):
        folder, code = bench.fresh(), -signal.SIGKILL
        while code == -signal.SIGKILL:
            life = Life(folder, *RUN)
            end = time.monotonic() + bench.rng.uniform(0.1, 2)
            wait_until(lambda end=end: time.monotonic() > end, life.over)
            life.signal(signal.SIGKILL)
            code = life.wait()
        yield bench.goes_on(folder) if code == 0 else f"exit {code}: {life.errors[-300:]}"


def signals(bench: Bench) -> Iterator[str]:
    """Send a signal in every window, three Ctrl-C among them."""
    kinds = [[signal.SIGTERM], [signal.SIGINT] * 3, [signal.SIGHUP], [signal.SIGINT]]
    for turn, (place, count) in enumerate(WINDOWS[: bench.few(1, 99)]):
        folder, kind = bench.fresh(), kinds[turn % len(kinds)]
        life = Life(folder, *RUN, before=functools.partial(signal_at, place, count, *kind))
        # One that comes while the end is written lets it be written.
        if short := line_of(life, 130 if kind[0] == signal.SIGINT else 75, 0):
            yield f"{place}, {kind}: {short}"
            continue
        stopped = life.wait() != 0
        if stopped and read_status(folder / "run")["state"] not in ("preempted", "interrupted"):
            yield f"{place}, {kind}: STATUS.json says {read_status(folder / 'run')['state']}"
            continue
        yield bench.goes_on(folder)


def ctrl_c(bench: Bench) -> Iterator[str]:
    """Press Ctrl-C three times at a random moment."""
    for _ in range(bench.few(0, 15)):
        folder = bench.fresh()
        life = Life(folder, *RUN)
        begun = folder / "stderr.txt"
        wait_until(begun.exists, life.over)
        end = time.monotonic() + bench.rng.uniform(0.1, 2)
        wait_until(lambda end=end: time.monotonic() > end, life.over)
        for _ in range(3):
            life.signal(signal.SIGINT)
            time.sleep(bench.rng.choice((0, 0.001, 0.02)))
        short = line_of(life, 130, 0)
        status = folder / "run/STATUS.json"
        running = status.exists() and json.loads(status.read_text())["state"] == "running"
        yield short or ("STATUS.json is left at running" if running else "")


def damage(bench: Bench) -> Iterator[str]:
    """Flip a byte of a file of a finished run, or empty or delete it."""
    names = sorted(
        str(path.relative_to(bench.done / "run"))
        for path in (bench.done / "run").rglob("*")
        if path.is_file() and path.suffix != ".log" and ".hydra" not in path.parts
    )
    for name in bench.rng.sample(names, min(len(names), bench.few(2, 30))):
        folder = bench.fresh(of_done=True)
        path = folder / "run" / name
        content = bytearray(path.read_bytes())
        way = bench.rng.choice(("flip", "empty", "delete"))
        if way == "delete":
            path.unlink()
        elif way == "empty" or not content:
            path.write_bytes(b"")
        else:
            content[bench.rng.randrange(len(content))] ^= 0x20
            path.write_bytes(content)
        short = line_of(Life(folder, *RUN), 0, 4)
        same = crash_test.outcome(folder) == bench.expected
        yield (short and f"{way} {name}: {short}") or ("" if same else f"{way} {name}: other bits")


def folders_for_files(bench: Bench) -> Iterator[str]:
    """Put a folder where a file should be."""
    names = ["report.html", "pruneloop.log", "STATUS.json", "run.json", "rounds.jsonl"]
    for name in (*names[: bench.few(1, 9)], *([] if bench.quick else ["state/lock"])):
        folder = bench.fresh(of_done=True)
        path = folder / "run" / name
        path.unlink()
        (path / "x").mkdir(parents=True)
        short = line_of(Life(folder, *RUN), 0, 4, 5)
        yield short and f"{name}: {short}"


def full_disk(bench: Bench) -> Iterator[str]:
    """Let no file grow beyond a size: ten of them."""
    sizes = [int(1000 * 1.8**number) for number in range(10)]
    for size in bench.rng.sample(sizes, bench.few(1, 10)):
        folder = bench.fresh()
        short = line_of(Life(folder, *RUN, before=functools.partial(limit_files, size)), 0, 5)
        yield f"{size} bytes: {short}" if short else bench.goes_on(folder)


def limit_files(size: int) -> None:
    """Be a disk that is full in the middle of a write."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


def threads(bench: Bench) -> Iterator[str]:
    """Go on with another number of threads."""
    for count in (3,) if bench.quick else (2, 3, 4):
        folder = bench.fresh()
        Life(folder, *RUN, before=functools.partial(die_at, BACKWARD, 60)).wait(120)
        yield bench.goes_on(folder, before=functools.partial(with_threads, count))


def with_threads(count: int) -> None:
    """Compute with so many threads."""
    import torch

    torch.set_num_threads(count)


def odd_folders(bench: Bench) -> Iterator[str]:
    """Run in folders with names that mean something elsewhere."""
    names = ["한글 폴더", "a::b", "[x]*?", "%20#1", 'it\'s "it"', "-rf", "~", "$HOME", "a\nb", "é"]
    for name in names[: bench.few(1, 99)]:
        folder = bench.fresh() / name
        folder.mkdir()
        yield (short := bench.goes_on(folder)) and f"{name!r}: {short}"


def hostile_data(bench: Bench) -> Iterator[str]:
    """Read files that mean harm."""
    files = {
        "bomb.csv.gz": gzip.compress(b"text,label\n" + b"a" * (1 << 24)),
        "wide.csv": b"x," * 200_000 + b"\n1\n",
        "cell.csv": b"text,label\n" + b"a" * (2 << 20) + b",1\n",
        "binary.parquet": b"PAR1" + os.urandom(2000) + b"PAR1",
        "escape.csv": "text,\x1b[31mlabel\n가,1\n".encode(),
        "deep.json": b"[" * 100_000,
    }
    for name, content in list(files.items())[: bench.few(1, 99)]:
        folder = bench.fresh()
        (folder / name).write_bytes(content)
        words = ("data=files", f"data.train={name}", "data.max_bytes=1000000")
        life = Life(folder, *words, "hydra.run.dir=run")
        short = line_of(life, 3)
        acts = "\x1b" in life.errors + life.output
        yield (f"{name}: {short}" if short else "") or ("an escape came through" if acts else "")


def hostile_models(bench: Bench) -> Iterator[str]:
    """Load checkpoints that ask for code, kernels or quantisers, or that are damaged."""
    changes: list[dict[str, object]] = [
        {"model_type": "evil", "auto_map": {"AutoConfig": "evil.Evil"}},
        {"attn_implementation": "someone/evil"},
        {"quantization_config": {"quant_method": "bitsandbytes"}},
        {"hidden_size": 10**12},
        {"model_type": None},
    ]
    for change in changes[: bench.few(1, 99)]:
        folder = bench.fresh()
        shutil.copytree(bench.done / "run/checkpoint", folder / "model")
        (folder / "model/evil.py").write_text("open('ran', 'w')")
        config = folder / "model/config.json"
        config.write_text(json.dumps(json.loads(config.read_text()) | change))
        words = ("model=pretrained", "model.name=./model", "hydra.run.dir=run")
        life = Life(folder, "data.train_rows=240", "data.test_rows=60", *words)
        ran = list(folder.rglob("ran"))
        yield ((short := line_of(life, 3)) and f"{change}: {short}") or ("code ran" if ran else "")


def secrets(bench: Bench) -> Iterator[str]:
    """Give tokens and passwords by environment and URL."""
    url = "data.train='http://user:passw0rd@127.0.0.1:9/a.csv?token=s3cret'"
    for words, tokens, code in (
        (("data=files", url), {"HF_TOKEN": f" {TOKEN}\n"}, 5),
        ((), {"HF_TOKEN": f"{TOKEN}\nmore"}, 5),
        (("push_to_hub=you/a--b",), {"HF_TOKEN": TOKEN}, 2),
        (("-m", "seed=0,1", "data=files", url), {"WANDB_API_KEY": TOKEN}, 5),
    ):
        folder = bench.fresh()
        life = Life(folder, *words, before=Environment(**tokens))
        # Of a sweep, each point says why it failed.
        short = line_of(life, code) if "-m" not in words else "" if life.wait() == code else "-m"
        written = b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())
        named = "\n".join(str(path) for path in folder.rglob("*")).encode()
        leaks = [s for s in ("passw0rd", "s3cret", TOKEN) if s.encode() in written + named]
        yield short or (f"{leaks} in what was written" if leaks else "")


def sweeps(bench: Bench) -> Iterator[str]:
    """Kill a sweep in the middle of a point, then go on; also joblib's."""
    for launcher in [] if bench.quick else [(), ("hydra/launcher=joblib",)]:
        folder = bench.fresh()
        line = [sys.executable, str(ROOT / "train.py"), "-m", "seed=0,1", *launcher, *SWEEP]
        with (folder / "output.txt").open("w") as output:
            first = subprocess.Popen(line, cwd=folder, stdout=output, stderr=output)
            begun = folder / "sweep/seed=0/state/state-00000000"
            wait_until(begun.exists, lambda first=first: first.poll() is not None)
            first.kill()
            first.wait()
            wait_until(functools.partial(is_free, folder / "sweep/seed=0"), lambda: False)
            code = subprocess.run(line, cwd=folder, stdout=output, stderr=output, timeout=180)
        states = {read_status(folder / f"sweep/seed={seed}")["state"] for seed in (0, 1)}
        said = (folder / "output.txt").read_text()[-300:]
        yield "" if code.returncode == 0 and states == {"done"} else f"{launcher}: {states} {said}"


def is_free(run: Path) -> bool:
    """Whether no process holds a run's folder."""
    with (run / "state/lock").open() as lock, contextlib.suppress(BlockingIOError):
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        return True
    return False


def ranks(bench: Bench) -> Iterator[str]:
    """Kill one of two processes, then the launcher of two, and go on."""
    if bench.quick:
        return
    folder = bench.fresh()
    line = [sys.executable, *TORCHRUN, str(ROOT / "train.py"), *RUN]
    for victim in ("rank", "launcher", "nobody"):
        with (folder / "output.txt").open("w") as output:
            launcher = subprocess.Popen(line, cwd=folder, stdout=output, stderr=output)
        before = len(list((folder / "run/state").glob("state-*")))
        newer = functools.partial(more_states, folder, before)
        wait_until(newer, lambda launcher=launcher: launcher.poll() is not None)
        if victim == "launcher":
            launcher.kill()
            wait_until(functools.partial(has_stopped, folder), lambda: False)
        elif victim == "rank":
            children = Path(f"/proc/{launcher.pid}/task/{launcher.pid}/children").read_text()
            os.kill(int(children.split()[-1]), signal.SIGKILL)
        code = launcher.wait(120)
        time.sleep(1)  # the ranks let go of the folder
        if victim == "nobody":
            state = read_status(folder / "run")["state"]
            yield "" if (code, state) == (0, "done") else f"at last: {code}, {state}"
        else:
            yield "" if code else f"killed {victim}, and exit 0"


def has_stopped(folder: Path) -> bool:
    """Whether the run in a folder has saved and stopped, or is done."""
    return read_status(folder / "run")["state"] in ("preempted", "done")


def more_states(folder: Path, before: int) -> bool:
    """Whether the run in a folder has saved since it had so many states."""
    return len(list((folder / "run/state").glob("state-*"))) > min(before, 1)


HARMS: list[tuple[str, str, Callable[[Bench], Iterator[str]]]] = [
    ("killed in a window", "the same bits in the end", kills),
    ("killed at random, repeatedly", "the same bits in the end", random_kills),
    ("signals, by window", "75 or 130, one line, saved; same bits", signals),
    ("Ctrl-C three times", "130, one line, never left at running", ctrl_c),
    ("two processes, one or torchrun killed", "stops saved; goes on to the end", ranks),
    ("sweeps killed, basic and joblib", "the same command ends all points", sweeps),
    ("disk full", "5, one line; same bits afterwards", full_disk),
    ("files flipped, emptied, deleted", "the same bits, or 4 in one line", damage),
    ("folders in the place of files", "0, 4 or 5, one line", folders_for_files),
    ("other threads when going on", "the same bits", threads),
    ("odd folder names", "the same bits", odd_folders),
    ("hostile data", "3, one line below 1,000 characters", hostile_data),
    ("hostile checkpoints", "3, one line, and no code runs", hostile_models),
    ("tokens and passwords", "in no file, name or line", secrets),
]


def scorecard(
    place: Path, quick: bool, seed: int = 0, say: Callable[[str], None] = print
) -> list[str]:
    """Do all harms, and say the table's lines; return what fell short."""
    done = place / "done"
    done.mkdir()
    life = Life(done, *RUN)
    assert life.wait(120) == 0, life.errors
    bench = Bench(place, done, crash_test.outcome(done), random.Random(seed), quick)
    say(f"{'what was done':38} {'promised':38} tried  short  seconds")
    fell_short: list[str] = []
    for what, promised, harm in HARMS:
        begun = time.monotonic()
        seen = list(harm(bench))
        if not seen:
            continue  # no part of the quick ones
        short = [text for text in seen if text]
        fell_short += [f"{what}: {text}" for text in short]
        seconds = time.monotonic() - begun
        say(f"{what:38} {promised:38} {len(seen):5}  {len(short):5}  {seconds:7.0f}")
    return fell_short


def main() -> None:
    """Run it and print its table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="some of each, below 45 seconds")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    os.environ.update(OMP_NUM_THREADS="1", HF_HUB_OFFLINE="1")
    with tempfile.TemporaryDirectory() as place:
        fell_short = scorecard(
            Path(place), options.quick, options.seed, functools.partial(print, flush=True)
        )
    print("\n".join(["", *fell_short]))
    sys.exit(bool(fell_short))


if __name__ == "__main__":
    main()
