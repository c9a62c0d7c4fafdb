"""Two real processes under torchrun: one folder, equal masks, exact evaluation."""

import socket
import subprocess
import sys
from pathlib import Path

import pytest
from support import ROOT, SMALL, TORCHRUN, Command, read_facts, read_rounds


@pytest.mark.parametrize("method", [pytest.param("global_l1", marks=pytest.mark.more), "random"])
def test_two_processes_make_one_run(command: Command, tmp_path: Path, method: str) -> None:
    # 61 test rows in batches of 128 over two processes: the last one is uneven.
    small = (*SMALL, "data.test_rows=61", f"prune={method}", "hydra.run.dir=run")
    # As the README starts it: without a GPU, each process could take itself for the only one.
    result = command(*small, "device=auto", launcher=TORCHRUN, CUDA_VISIBLE_DEVICES="")
    assert result.returncode == 0, result.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["run"]
    rounds, facts = read_rounds(tmp_path / "run"), read_facts(tmp_path / "run")
    assert facts["processes"] == 2
    assert [r["zeros"] for r in rounds] == facts["planned_zeros"]
    # 216 training rows: 7 batches, 4 for each process.
    assert rounds[0]["steps"] == 4
    # An accuracy over exactly 61 rows is a multiple of 1/61.
    assert abs(61 * rounds[0]["test_accuracy"] - round(61 * rounds[0]["test_accuracy"])) < 1e-9
    assert result.stdout.count("round  sparsity  model sparsity") == 1


@pytest.mark.more
def test_bad_configuration_is_one_line_under_torchrun(command: Command) -> None:
    result = command("rounds=0", launcher=TORCHRUN)
    assert result.returncode != 0
    assert result.stderr.count("pruneloop: rounds=0") == 1


@pytest.mark.more
def test_two_machines_make_one_run(command: Command, tmp_path: Path, socket_enabled) -> None:
    """Two torchrun agents that meet over loopback, each with a folder to start from."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    run = tmp_path / "shared/run"
    line = [sys.executable, "-m", "torch.distributed.run", "--nnodes", "2", "--nproc_per_node", "1"]
    line += ["--rdzv_backend", "c10d", "--rdzv_id", "1", "--rdzv_endpoint", f"127.0.0.1:{port}"]
    line += [str(ROOT / "train.py"), *SMALL, f"hydra.run.dir={run}"]
    agents = []
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        agents.append(
            subprocess.Popen(
                line,
                cwd=tmp_path / name,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
    ends = [agent.communicate(timeout=120) for agent in agents]
    assert [agent.returncode for agent in agents] == [0, 0], ends
    assert [list((tmp_path / name).iterdir()) for name in ("first", "second")] == [[], []]
    assert sorted(output.count("done: ") for output, _ in ends) == [0, 1]
    alone = command(*SMALL, "hydra.run.dir=run", launcher=TORCHRUN)
    assert alone.returncode == 0, alone.stderr
    name = "checkpoint/model.safetensors"
    assert (run / name).read_bytes() == (tmp_path / "run" / name).read_bytes()
