"""What the tests share: small runs, the real command, and the optional real corpora."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

# Before torch and datasets are imported: one thread, no hub, and a cache of our own.
os.environ.update(OMP_NUM_THREADS="1", HF_HUB_OFFLINE="1", TOKENIZERS_PARALLELISM="false")

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared"

needs_shared = pytest.mark.skipif(
    not (SHARED / "data").is_dir(), reason="the real corpora are not beside the checkout"
)

SMALL_DATA = ("data.train_rows=240", "data.test_rows=60")
SMALL_MODEL = ("model.layers=1", "model.hidden=16", "model.intermediate=32")
SHORT = ("finetune.dense_epochs=1", "finetune.batch_size=32", "rounds=2", "device=cpu")
SMALL = (*SMALL_DATA, *SMALL_MODEL, *SHORT)
"""Overrides for a run of a second or two."""

Command = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="session", autouse=True)
def caches(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep the datasets cache of the tests apart from the user's."""
    import datasets

    folder = tmp_path_factory.mktemp("hf")
    os.environ["HF_DATASETS_CACHE"] = str(folder)
    datasets.config.HF_DATASETS_CACHE = folder
    datasets.disable_progress_bars()
    yield


@pytest.fixture
def command(tmp_path: Path) -> Command:
    """Run train.py in a real second process, in an empty folder."""

    def run(*overrides: str, launcher: tuple[str, ...] = (), timeout: int = 120, **env: str):
        line = [sys.executable, *launcher, str(ROOT / "train.py"), *overrides]
        return subprocess.run(
            line,
            cwd=tmp_path,
            env=os.environ | env,
            capture_output=True,
            text=True,
            timeout=timeout,
        )

    return run
