"""The tutorial as a notebook: what its script writes, and run from top to bottom."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from support import ROOT, SHARED, needs_shared, read_status, script

WRITER = script("write_notebook")
SMALL = (
    f"data=nsmc data.path={SHARED / 'data/nsmc_small'} data.train=ratings_train_2k.txt.gz "
    "data.test=ratings_test_5k.txt.gz data.max_test_rows=200 model.hidden=16"
)


def test_the_notebook_is_what_its_script_writes() -> None:
    written = json.loads(WRITER.NOTEBOOK.read_text(encoding="utf-8"))
    page = WRITER.PAGE.read_text(encoding="utf-8")
    assert written == WRITER.notebook(page), "run scripts/write_notebook.py"
    cells = ["".join(c["source"]) for c in written["cells"] if c["cell_type"] == "code"]
    assert len(cells) == 1 + page.count("```sh\n") and all(c.startswith("%%") for c in cells[1:])


@pytest.mark.more
@needs_shared
@pytest.mark.timeout(600)
def test_the_notebook_runs_from_top_to_bottom(tmp_path: Path) -> None:
    """As it stands, but on fewer rows, and without installing what is there."""
    for name in ("train.py", "scripts", "docs"):
        (tmp_path / name).symlink_to(ROOT / name)
    text = WRITER.NOTEBOOK.read_text(encoding="utf-8")
    text = text.replace("data=nsmc data.max_train_rows=20000 data.max_test_rows=5000", SMALL)
    text = text.replace('python -m pip install --quiet -e \\".[deploy]\\"', "true")
    assert text.count(SMALL) == 2 and "pip install" not in text
    (tmp_path / "tutorial.ipynb").write_text(text, encoding="utf-8")
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    run = "from nbclient.cli import main; main()"
    line = [sys.executable, "-c", run, "tutorial.ipynb", "--inplace"]
    ended = subprocess.run(
        line, cwd=tmp_path, env=os.environ | {"PATH": path}, capture_output=True, text=True
    )
    assert ended.returncode == 0, ended.stderr[-3000:]
    for name in ("tutorial", "tutorial-budget"):
        assert read_status(tmp_path / "outputs" / name)["state"] == "done"
    said = json.loads((tmp_path / "tutorial.ipynb").read_text(encoding="utf-8"))
    outputs = [cell["outputs"] for cell in said["cells"] if cell["cell_type"] == "code"]
    shown = json.dumps(outputs, ensure_ascii=False)
    assert "runner.py opens" in shown and "정말 재미있는 영화였다" in shown
