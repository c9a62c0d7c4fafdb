"""Try a real Slurm: a cluster of two nodes on this machine, preempted jobs, what came of it.

    python scripts/slurm_trial.py [sweep|script|nodes|cancel ...]

Starts munged, slurmctld and slurmd (Debian: apt install slurmctld slurmd slurm-client
munge) with all their files in a temporary folder, submits a sweep of two points, sends
SIGTERM to one of its jobs, and waits until the job has come back from the queue and the
sweep has ended. The preempted point must then be bit for bit that of a run left alone.
The same is done to one run submitted by scripts/slurm.sbatch; the script must also run over
two nodes, and a cancelled job must stay away.
Needs root, since Slurm's daemons do. Ends with 77 where Slurm is not installed.
"""

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SKIPPED = 77
PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "scancel", "scontrol", "squeue")
RUN = (
    *("data.train_rows=400", "data.test_rows=80", "model.layers=1", "model.hidden=16"),
    *("model.intermediate=32", "model.dropout=0.1", "finetune.dense_epochs=100", "rounds=2"),
    *("finetune.batch_size=8", "checkpoint.every_steps=20", "device=cpu"),
)

CONFIG = """\
ClusterName=trial
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=5
SlurmctldPort={ctld_port}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
JobRequeue=1
ReturnToService=2
NodeName=trial1 NodeHostname={host} NodeAddr=127.0.0.1 Port={port_1} CPUs={cpus} State=UNKNOWN
NodeName=trial2 NodeHostname={host} NodeAddr=127.0.0.1 Port={port_2} CPUs={cpus} State=UNKNOWN
PartitionName=main Nodes=trial1,trial2 Default=YES MaxTime=INFINITE State=UP
"""


def missing() -> list[str]:
    """Return what a cluster needs and this machine lacks."""
    path = f"{os.environ['PATH']}:/usr/sbin:/sbin"
    found = [name for name in PROGRAMS if shutil.which(name, path=path) is None]
    return found or ([] if os.geteuid() == 0 else ["root's rights"])


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def wait_for(what: str, condition: Callable[[], bool], seconds: float = 120) -> float:
    """Wait until a condition holds; return how long that took, or give up with its name."""
    begun = time.monotonic()
    while not condition():
        if time.monotonic() - begun > seconds:
            sys.exit(f"gave up waiting: {what}")
        time.sleep(0.1)
    return time.monotonic() - begun


@contextmanager
def daemon(*line: str) -> Iterator[None]:
    """Keep a program running in the foreground."""
    with subprocess.Popen(line, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            yield
        finally:
            process.terminate()


@contextmanager
def cluster(folder: Path) -> Iterator[None]:
    """Run a Slurm of one node, this machine; its commands find it by SLURM_CONF."""
    os.environ["PATH"] += ":/usr/sbin:/sbin"
    folder.chmod(0o755)
    for name in ("state", "spool-trial1", "spool-trial2", "munge"):
        (folder / name).mkdir(mode=0o700)
    (folder / "munge.key").write_bytes(os.urandom(128))
    (folder / "munge.key").chmod(0o400)
    config = folder / "slurm.conf"
    config.write_text(
        CONFIG.format(
            folder=folder,
            host=socket.gethostname().split(".")[0],
            ctld_port=free_port(),
            port_1=free_port(),
            port_2=free_port(),
            cpus=os.cpu_count(),
        )
    )
    os.environ["SLURM_CONF"] = str(config)
    munge = ["munged", "--foreground", "--force", f"--socket={folder}/munge.socket"]
    munge += [f"--key-file={folder}/munge.key", f"--log-file={folder}/munge/log"]
    munge += [f"--pid-file={folder}/munge/pid", f"--seed-file={folder}/munge/seed"]
    with ExitStack() as stack:
        stack.enter_context(daemon(*munge))
        wait_for("munge's socket", (folder / "munge.socket").exists)
        stack.enter_context(daemon("slurmctld", "-D", "-f", str(config)))
        for node in ("trial1", "trial2"):
            stack.enter_context(daemon("slurmd", "-D", "-f", str(config), "-N", node))
        nodes = ("sinfo", "-h", "-N", "-o", "%t")
        wait_for("two idle nodes", lambda: ask(*nodes).split() == ["idle", "idle"])
        yield
        ask("scancel", "--user=root")
        wait_for("an empty queue", lambda: not ask("squeue", "-h"))


def ask(*line: str) -> str:
    """Return what one of Slurm's commands prints, nothing if it fails."""
    return subprocess.run(line, capture_output=True, text=True).stdout.strip()


def command(*overrides: str) -> list[str]:
    """Return the line that runs train.py with the small run's overrides and others."""
    return [sys.executable, str(ROOT / "train.py"), *overrides, *RUN]


def sweep_command(folder: Path) -> list[str]:
    """Return the line that submits a sweep of two points."""
    return command(
        *("-m", "hydra/launcher=slurm", "hydra.launcher.partition=main", "seed=0,1"),
        *("hydra.launcher.gpus_per_node=null", "hydra.launcher.cpus_per_task=1"),
        *("hydra.launcher.timeout_min=60", f"hydra.sweep.dir={folder}"),
    )


def state_of(folder: Path) -> str:
    """Return what STATUS.json of a run's folder says."""
    try:
        return str(json.loads((folder / "STATUS.json").read_text())["state"])
    except OSError:
        return "absent"


def preempt(folder: Path, job: Callable[[], str]) -> None:
    """Send SIGTERM to the job that runs in a folder, and see it stop and come back."""
    at_work = lambda: len(list(folder.glob("state/state-*"))) > 1  # noqa: E731
    wait_for(f"{folder.name} at work", at_work)
    number = job()
    ask("scancel", "--signal=TERM", number)
    took = wait_for("the job saved", lambda: state_of(folder) == "preempted", 25)
    print(f"job {number}: SIGTERM, saved and stopped after {took:.1f} s", flush=True)
    took = wait_for("the job back at work", lambda: state_of(folder) in ("running", "done"), 300)
    print(f"job {number}: back from the queue after {took:.1f} s", flush=True)


def job_in(folder: Path) -> str:
    """Return the number of the array job whose point writes into a folder."""
    pid = (folder / "state/lock").read_text().split()[1]
    variables = Path(f"/proc/{pid}/environ").read_text().split("\0")
    by_name = dict(line.split("=", 1) for line in variables if "=" in line)
    if "SLURM_ARRAY_JOB_ID" not in by_name:
        return by_name["SLURM_JOB_ID"]
    return f"{by_name['SLURM_ARRAY_JOB_ID']}_{by_name['SLURM_ARRAY_TASK_ID']}"


def same_bits(one: Path, other: Path) -> bool:
    """Whether two finished runs ended with the same weights."""
    name = "checkpoint/model.safetensors"
    return (one / name).read_bytes() == (other / name).read_bytes()


def try_sweep(place: Path, reference: Path) -> bool:
    """A sweep of two points, the first of them preempted."""
    begun = time.monotonic()
    sweep = place / "sweep"
    line = sweep_command(sweep)
    with subprocess.Popen(line, cwd=place, stdout=subprocess.PIPE, text=True) as process:
        preempt(sweep / "seed=0", lambda: job_in(sweep / "seed=0"))
        output, _ = process.communicate(timeout=600)
    print(output.strip(), flush=True)
    equal = same_bits(sweep / "seed=0", reference)
    print(
        f"sweep: exit code {process.returncode}, {time.monotonic() - begun:.0f} s, the preempted "
        f"point is {'bit for bit' if equal else 'NOT'} that of a run left alone",
        flush=True,
    )
    return process.returncode == 0 and equal and (sweep / "sweep.html").exists()


def submit(place: Path, *options: str) -> tuple[str, Path]:
    """Submit scripts/slurm.sbatch; return the job's number and its run's folder."""
    (place / "outputs").mkdir(exist_ok=True)
    if not (place / "train.py").exists():
        (place / "train.py").symlink_to(ROOT / "train.py")
    # The nodes' names mean nothing to this machine's resolver.
    environment = os.environ | {"PYTHON": sys.executable, "MASTER_ADDR": "127.0.0.1"}
    line = ["sbatch", "--parsable", "--gpus-per-node=0", "--cpus-per-task=1", *options]
    line += [str(ROOT / "scripts/slurm.sbatch"), *RUN, "seed=0"]
    number = subprocess.check_output(line, cwd=place, env=environment, text=True).strip()
    return number, place / f"outputs/slurm-{number}"


def ends_like(run: Path, reference: Path, what: str) -> bool:
    """Wait for a run's end; whether it is that of another one."""
    wait_for("the run's end", lambda: state_of(run) in ("done", "failed"), 600)
    equal = state_of(run) == "done" and same_bits(run, reference)
    print(f"{what}: {state_of(run)}, {'bit for bit' if equal else 'NOT'} that of a run left alone")
    return equal


def try_script(place: Path, reference: Path) -> bool:
    """One run by scripts/slurm.sbatch, preempted."""
    number, run = submit(place)
    preempt(run, lambda: number)
    return ends_like(run, reference, "slurm.sbatch")


def try_nodes(place: Path, _: Path) -> bool:
    """One run by scripts/slurm.sbatch over two nodes, preempted, against two processes."""
    alone = place / "alone"
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    line = command("seed=0", f"hydra.run.dir={alone}")
    subprocess.run([line[0], *torchrun, *line[1:]], check=True, stdout=subprocess.DEVNULL)
    number, run = submit(place, "--nodes=2")
    preempt(run, lambda: number)
    return ends_like(run, alone, "slurm.sbatch on two nodes")


def try_cancel(place: Path, reference: Path) -> bool:
    """A sweep's jobs that their user cancels: they must stay away."""
    sweep = place / "cancelled"
    line = sweep_command(sweep)
    with subprocess.Popen(line, cwd=place, stdout=subprocess.DEVNULL) as process:
        point = sweep / "seed=0"
        wait_for("a job at work", lambda: len(list(point.glob("state/state-*"))) > 1)
        ask("scancel", job_in(point).split("_")[0])
        wait_for("an empty queue", lambda: not ask("squeue", "-h"))
        time.sleep(15)
        # Had it come back, it would be at work, or have finished by now.
        gone = not ask("squeue", "-h") and state_of(point) == "preempted"
        process.terminate()
    print(f"cancelled: {state_of(point)}, {'stays away' if gone else 'CAME BACK'}", flush=True)
    return gone


TRIALS = {"sweep": try_sweep, "script": try_script, "nodes": try_nodes, "cancel": try_cancel}


def main() -> None:
    """Try a sweep and a script; print what happened and end with 1 if anything is wrong."""
    lacks = missing()
    if lacks:
        print(f"skipped: there is no Slurm to try ({', '.join(lacks)} missing)")
        sys.exit(SKIPPED)
    os.environ.update(OMP_NUM_THREADS="1", HF_HUB_OFFLINE="1")
    with tempfile.TemporaryDirectory(prefix="slurm-trial-") as name:
        place = Path(name)
        reference = place / "reference"
        line = command("seed=0", f"hydra.run.dir={reference}")
        subprocess.run(line, cwd=place, check=True, stdout=subprocess.DEVNULL)
        with cluster(place):
            good = [TRIALS[name](place, reference) for name in sys.argv[1:] or TRIALS]
    sys.exit(0 if all(good) else 1)


if __name__ == "__main__":
    main()
