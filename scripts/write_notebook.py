"""Write docs/tutorial.ko.ipynb out of docs/tutorial.ko.md: its commands become cells.

    python scripts/write_notebook.py

Blocks marked `sh` are cells; pasted output is left out, since the cells bring their own.
"""

import json
import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "tutorial.ko.md"
NOTEBOOK = PAGE.with_suffix(".ipynb")

_FIRST = """\
# 저장소의 맨 위 폴더에서 실행합니다. GPU를 빌렸다면 저장소를 받아 이 노트북을 그 안에서 여세요.
import os
from pathlib import Path

while not Path("train.py").exists():
    os.chdir("..")"""


def notebook(page: str) -> dict[str, Any]:
    """Return a page as a notebook, in nbformat's version 4.5."""
    parts = re.split(r"```(\w*)\n(.*?)```\n", page, flags=re.S)
    cells = []
    for words, mark, block in zip(parts[::3], [*parts[1::3], ""], [*parts[2::3], ""], strict=True):
        if words.strip():
            cells.append(("markdown", words.strip()))
        if mark == "sh":
            cells.append(("code", "%%bash\n" + block.rstrip()))
    cells[1:1] = [("code", _FIRST)]
    return {
        "cells": [_cell(number, kind, text) for number, (kind, text) in enumerate(cells)],
        "metadata": {
            "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}
        },
        "nbformat": 4,
        "nbformat_minor": 5,
    }


def _cell(number: int, kind: str, text: str) -> dict[str, Any]:
    cell: dict[str, Any] = {
        "cell_type": kind,
        "id": f"cell-{number}",
        "metadata": {},
        "source": text.splitlines(keepends=True),
    }
    return cell | ({"execution_count": None, "outputs": []} if kind == "code" else {})


def main() -> None:
    """Write the notebook."""
    found = notebook(PAGE.read_text(encoding="utf-8"))
    NOTEBOOK.write_text(json.dumps(found, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
