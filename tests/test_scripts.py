"""The scripts stay in step with the code that they are about."""

import re
from pathlib import Path

import pytest
import yaml
from support import ROOT, script

from pruneloop.config import GROUPS, known_keys


@pytest.mark.parametrize("mutant", script("mutants").MUTANTS, ids=lambda mutant: mutant.name)
def test_every_mutant_still_fits_the_code(mutant) -> None:
    assert (ROOT / mutant.file).read_text(encoding="utf-8").count(mutant.before) == 1
    assert all(Path(ROOT / test).exists() for test in mutant.tests if test.endswith(".py"))


def test_the_kubernetes_job_starts_again_after_75_only() -> None:
    text = (ROOT / "docs/clusters.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"```yaml\n(.*?)```", text, flags=re.DOTALL)
    spec = yaml.safe_load(block)["spec"]
    assert spec["template"]["spec"]["restartPolicy"] == "Never"  # what podFailurePolicy needs
    rules = [(r["action"], r["onExitCodes"]) for r in spec["podFailurePolicy"]["rules"][::2]]
    (ignored, again), (fails, never) = rules
    assert (ignored, again["values"], fails) == ("Ignore", [75], "FailJob")
    assert set(never["values"]) == {2, 3, 4, 6}
    assert {again["containerName"], never["containerName"]} == {
        container["name"] for container in spec["template"]["spec"]["containers"]
    }


def test_the_page_of_keys_is_what_its_script_writes() -> None:
    """Every key stands there once, with a range where it has one, a value and a meaning."""
    keys = script("write_configuration")
    page = keys.PAGE.read_text(encoding="utf-8")
    assert page == keys.page(), "run scripts/write_configuration.py"
    rows = [line.split(" | ") for line in page.splitlines() if line.startswith("| `")]
    assert all(len(row) >= 4 and row[3].strip(" |") for row in rows), "a key without a meaning"
    named = [row[0].strip("| `") for row in rows]
    assert len(named) == len(set(named))
    assert set(named) == known_keys() - {*GROUPS, "budget", "checkpoint", "report"}
    (amount,) = [row for row in rows if row[0] == "| `prune.amount`"]
    assert amount[1].startswith("between 0 and 1, the fraction of the kept weights")
