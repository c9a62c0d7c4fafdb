"""Write docs/tree.md: every file of the source with what it is, by its docstring's first line.

python scripts/write_tree.py
"""

import ast
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "tree.md"
HEAD = """# Where everything is

Written by `scripts/write_tree.py` from the first line of every file. Values of all keys, with a
comment each, stand in `conf/`; tests, one file a module, in `tests/`.

"""


def entries(folder: Path) -> list[str]:
    """Return a line a Python file of a folder; packages are named by their folder."""
    lines = []
    for path in sorted(folder.rglob("*.py")):
        text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
        said = " ".join((text or "").split("\n\n")[0].split())
        place = path.relative_to(folder)
        name = f"{place.parent}/" if place.name == "__init__.py" else f"{place}"
        if said and name != "./":
            lines.append(f"- `{name}`: {said}")
    return lines


def page() -> str:
    """Return the page."""
    parts = [("src/pruneloop", ROOT / "src/pruneloop"), ("scripts", ROOT / "scripts")]
    sections = [f"## {name}/\n\n" + "\n".join(entries(path)) + "\n" for name, path in parts]
    return HEAD + "\n".join(sections)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    print(PAGE)
