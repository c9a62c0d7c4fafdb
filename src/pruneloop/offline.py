"""Whether the hub answers: asked before its library is loaded, which reads once if it may ask."""

import logging
import os
import socket
from collections.abc import Iterable
from pathlib import Path
from threading import Thread
from urllib.parse import SplitResult, urlsplit
from urllib.request import getproxies

log = logging.getLogger(__name__)

PATIENCE = 5.0
"""Seconds that the hub's server may take to answer."""


def keep_to_cache_without_hub(names: Iterable[str]) -> None:
    """Set HF_HUB_OFFLINE where the hub does not answer: its library tries for half a minute.

    Args:
        names: what is to be loaded; folders of this machine need no hub.
    """
    wanted = [name for name in names if not Path(name).expanduser().is_dir()]
    if not wanted or "HF_HUB_OFFLINE" in os.environ:
        return
    server = urlsplit(os.environ.get("HF_ENDPOINT") or "https://huggingface.co")
    if server.hostname is None or server.scheme in getproxies() or _answers(server):
        return
    os.environ["HF_HUB_OFFLINE"] = "1"
    log.warning(
        f"warning: {server.hostname} does not answer, so HF_HUB_OFFLINE=1 is taken: only this "
        "machine's caches are read (HF_HUB_OFFLINE=0 asks all the same)"
    )


def _answers(server: SplitResult) -> bool:
    """Return whether a server takes a connection in time; names can take minutes to resolve."""
    found = []

    def connect() -> None:
        port = server.port or (80 if server.scheme == "http" else 443)
        try:
            socket.create_connection((server.hostname, port), timeout=PATIENCE).close()
            found.append(True)
        except (OSError, ValueError):
            pass

    asking = Thread(target=connect, daemon=True)
    asking.start()
    asking.join(PATIENCE)
    return bool(found)
