"""Two real processes under torchrun: one folder, equal masks, exact evaluation."""

import json
from pathlib import Path

import pytest
from conftest import SMALL, Command

TORCHRUN = ("-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2")


@pytest.mark.parametrize("method", ["global_l1", "random"])
def test_two_processes_make_one_run(command: Command, tmp_path: Path, method: str) -> None:
    # 61 test rows in batches of 128 over two processes: the last one is uneven.
    small = (*SMALL, "data.test_rows=61", f"prune={method}", "hydra.run.dir=run")
    result = command(*small, launcher=TORCHRUN)
    assert result.returncode == 0, result.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["run"]
    rounds = [json.loads(line) for line in (tmp_path / "run/rounds.jsonl").read_text().splitlines()]
    facts = json.loads((tmp_path / "run/run.json").read_text())
    assert facts["processes"] == 2
    assert [r["zeros"] for r in rounds] == facts["planned_zeros"]
    # 216 training rows: 7 batches, 4 for each process.
    assert rounds[0]["steps"] == 4
    # An accuracy over exactly 61 rows is a multiple of 1/61.
    assert abs(61 * rounds[0]["test_accuracy"] - round(61 * rounds[0]["test_accuracy"])) < 1e-9
    assert result.stdout.count("round  sparsity  model sparsity") == 1


def test_bad_configuration_is_one_line_under_torchrun(command: Command) -> None:
    result = command("rounds=0", launcher=TORCHRUN)
    assert result.returncode != 0
    assert result.stderr.count("pruneloop: rounds=0") == 1
