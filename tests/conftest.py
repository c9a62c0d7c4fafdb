"""The fixtures of all tests, and the environment that they run in."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

# Before torch and datasets are imported: one thread, no hub, and a cache of our own.
os.environ.update(OMP_NUM_THREADS="1", HF_HUB_OFFLINE="1", TOKENIZERS_PARALLELISM="false")
# What determinism on a GPU asks for, before cuBLAS first looks.
os.environ["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"
os.environ["LC_ALL"] = "C.UTF-8"  # pages follow the locale

from support import ROOT, Command

# A shell that starts the tests in the background has its children ignore Ctrl-C.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session", autouse=True)
def caches(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep the datasets cache of the tests apart from the user's."""
    import datasets

    folder = tmp_path_factory.mktemp("hf")
    os.environ["HF_DATASETS_CACHE"] = str(folder)
    datasets.config.HF_DATASETS_CACHE = folder
    datasets.disable_progress_bars()
    yield


@pytest.fixture(autouse=True)
def own_accelerator() -> Iterator[None]:
    """Let no test find the processes and the device that another one has chosen."""
    yield
    if state := sys.modules.get("accelerate.state"):
        state.AcceleratorState._reset_state(True)


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
