"""What may be chosen on a command line, and what a mistyped word was perhaps meant to be."""

import difflib
import re
from collections.abc import Iterable, Sequence
from dataclasses import fields
from pathlib import Path

from pruneloop.config import GROUPS as TYPED
from pruneloop.config import known_keys

GROUPS = (*TYPED, "recipe", "experiment")
"""The groups of conf/ that a run chooses from."""

# As people say it elsewhere.
_ELSEWHERE = {
    "resume": "the same command in the same folder goes on: hydra.run.dir=FOLDER",
    "output_dir": "write hydra.run.dir=FOLDER",
    "lr": "write finetune.learning_rate=VALUE",
}


def conf_folder() -> str:
    """Return conf/ inside the installed package, or beside src/ in a clone."""
    here = Path(__file__).resolve().parents[1]
    return str(next(f for f in (here / "conf", here.parents[1] / "conf") if f.is_dir()))


def options(group: str) -> list[str]:
    """Return the names of a group's options."""
    found = sorted(path.stem for path in (Path(conf_folder()) / group).glob("*.yaml"))
    return ["basic", *found] if group in ("hydra/launcher", "hydra/sweeper") else found


def meant(word: str, known: Iterable[str]) -> str:
    """Return what is nearest to a word, as the end of an error line; nothing where none is."""
    known = list(known)
    near = difflib.get_close_matches(word, known, n=1, cutoff=0.55)
    if not near and word:
        in_order = re.compile(".*".join(map(re.escape, word)), re.IGNORECASE)  # such as tb
        near = [other for other in known if in_order.match(other)]
    return f"; did you mean {near[0]}?" if len(near) == 1 else ""


def instead_of(key: str) -> str:
    """Say of a key that this choice of its group does not have, or none has, what to write."""
    group, _, name = key.partition(".")
    if owners := _options_with(group, name):
        return f": is a key of {group}={'|'.join(owners)}; add that, or leave it out"
    if key in known_keys():
        return f": not a key of this choice of {group}; see conf/{group}/"
    if key in _ELSEWHERE:
        return f": unknown key; {_ELSEWHERE[key]}"
    same = sorted(known for known in known_keys() if known.endswith(f".{key}"))
    return ": unknown key" + (f"; did you mean {same[0]}?" if same else meant(key, known_keys()))


def _options_with(group: str, name: str) -> Sequence[str]:
    """Return a group's options that have a key."""
    owners = [
        kind.__name__ for kind in TYPED.get(group, ()) if name in {f.name for f in fields(kind)}
    ]
    named = re.compile(rf"/schema/{group}/({'|'.join(owners)})@")
    texts = {path.stem: path.read_text("utf-8") for path in Path(conf_folder(), group).glob("*")}
    own = [option for option, text in texts.items() if owners and named.search(text)]
    # Those that build on them, such as nsmc on files.
    more = [
        option
        for option, text in texts.items()
        if any(re.search(rf"^  - {base}$", text, re.MULTILINE) for base in own)
    ]
    return sorted({*own, *more})
