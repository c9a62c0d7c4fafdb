"""What is never written down: user, password and query of a URL, and the environment's tokens.

Data paths and tokens are known to a process, and all that it writes passes through here:
errors, log lines, records, settings.
"""

import hashlib
import os
import re
from typing import Any

TOKENS = (
    *("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "WANDB_API_KEY"),
    *("MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN"),
    *("AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"),
)
"""The variables of the environment that hold what nobody else may know."""

_SCHEME = r"[A-Za-z][A-Za-z0-9+.-]*://"
# A password may hold signs that end the name of a host, where a port is digits only.
_USER = r"[^\s/?#@]*:(?!\d+/)\S*@|[^\s/?#]*@"
_REST = rf"(?:(?!,{_SCHEME})[^\s\"'<>])*"
_URL = re.compile(rf"({_SCHEME})(?:{_USER})?((?:(?!,{_SCHEME})[^\s?#\"'<>])*)((?:[?#]{_REST})?)")
_CUT = re.compile(r"#cut-[0-9a-f]{8}")
_SHORTEST = 8  # a shorter token could stand in any word


def without_secrets(text: str) -> str:
    """Return a text whose URLs have lost user, password and query, and that holds no token."""
    for name in TOKENS:
        value = os.environ.get(name, "").strip()
        if len(value) >= _SHORTEST and value in text:
            text = text.replace(value, f"<{name}>")
    if "://" not in text:
        return text
    return _URL.sub(lambda url: url[1] + url[2] + (url[3] if _CUT.fullmatch(url[3]) else ""), text)


def public(value: Any) -> Any:
    """Return a value as it may be on record: what was cut out is a hash, so that it is known by it.

    Lists, mappings and `KEY=URL` count by their parts.
    """
    if isinstance(value, dict):
        return {key: public(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [public(each) for each in value]
    if not isinstance(value, str):
        return value
    cut = without_secrets(value)
    if cut == value:
        return value
    return f"{cut}#cut-{hashlib.sha256(value.encode(errors='surrogatepass')).hexdigest()[:8]}"


def was_cut(value: Any) -> bool:
    """Whether something of a value on record was cut out."""
    values = value if isinstance(value, list) else [value]
    return any(isinstance(each, str) and _CUT.search(each) for each in values)


def unusable_token() -> str | None:
    """Take the white space around tokens off; return the name of one that cannot be one."""
    for name in TOKENS:
        if name in os.environ:
            os.environ[name] = os.environ[name].strip()
            if not re.fullmatch(r"[!-~]*", os.environ[name]):
                return name
    return None
