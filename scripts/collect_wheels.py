"""Collect what pruneloop needs beyond torch, transformers, accelerate, pyarrow, pandas and pytest.

    python scripts/collect_wheels.py wheels

For a machine without a network (docs/gpu.md): wheels of Python 3.12 on x86-64 Linux, by the
index that pip is configured for, at most 12 MiB of them. matplotlib and its own needs would be
20 MiB more: where it is absent, a run leaves out the pictures, and the report with them.
"""

import argparse
import subprocess
import sys
from pathlib import Path

LIMIT = 12 << 20
PLATFORMS = ("manylinux_2_28_x86_64", "manylinux2014_x86_64", "manylinux_2_17_x86_64", "any")
WHEELS = (
    # Later ones want a newer huggingface-hub and pyarrow than the machine may have.
    "datasets==5.0.0",
    *("dill<0.4.2", "multiprocess<0.70.20", "xxhash", "requests", "urllib3", "idna"),
    *("charset-normalizer", "certifi", "aiohttp", "yarl", "multidict", "aiosignal", "frozenlist"),
    *("propcache", "aiohappyeyeballs", "attrs", "evaluate>=0.4.6,<0.5"),
    *("hydra-core>=1.3.8,<1.4", "omegaconf==2.3.1", "sentencepiece>=0.2.1", "protobuf>=5"),
    *("pytest-socket>=0.7", "pytest-timeout>=2.3", "hypothesis>=6.100", "sortedcontainers"),
)
# On the index as source alone.
SOURCES = ("antlr4-python3-runtime==4.9.3",)


def commands(folder: Path) -> list[list[str]]:
    """Return what pip is asked for."""
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    platforms = [word for name in PLATFORMS for word in ("--platform", name)]
    target = ["--no-deps", "--python-version", "3.12", "--only-binary", ":all:", *platforms]
    return [
        [*pip, "download", *target, "--dest", str(folder), *WHEELS],
        [*pip, "wheel", "--no-deps", "--wheel-dir", str(folder), *SOURCES],
    ]


def size_of(folder: Path) -> int:
    """Return the bytes of a folder's wheels.

    Raises:
        SystemExit: they are more than fit, or a package is missing.
    """
    wheels = {path.name.split("-")[0].lower(): path for path in folder.glob("*.whl")}
    for wanted in (*WHEELS, *SOURCES):
        name = wanted.translate(str.maketrans("<>=", "   ")).split()[0].replace("-", "_")
        if name not in wheels:
            raise SystemExit(f"{folder}: no wheel of {wanted}")
    size = sum(path.stat().st_size for path in wheels.values())
    if size > LIMIT:
        raise SystemExit(f"{folder}: {size / (1 << 20):.1f} MiB, more than {LIMIT >> 20}")
    return size


def main() -> None:
    """Collect them, and say how much they are."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    for line in commands(folder):
        subprocess.run(line, check=True)
    size = size_of(folder) / (1 << 20)
    print(f"{folder}: {len(list(folder.glob('*.whl')))} wheels, {size:.1f} MiB")


if __name__ == "__main__":
    main()
