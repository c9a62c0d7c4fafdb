"""The bytes of one file: where it lies, downloaded or unpacked, and never more than a limit.

Paths here are literal: no sign in them is a pattern, and nothing is kept from an earlier
time, since a file may have been replaced by another of the same name, length and date.
"""

import base64
import bz2
import gzip
import http.client
import io
import lzma
import re
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path, PurePosixPath
from typing import IO, Protocol
from urllib.parse import quote, unquote, urlsplit, urlunsplit
from urllib.request import Request, urlopen

from huggingface_hub import constants

from pruneloop.errors import EnvironmentFault, InputError, reason


class Readable(Protocol):
    """What bytes can be read from."""

    def read(self, size: int, /) -> bytes:
        """Return at most so many bytes; none at the end."""
        ...


DATA_ENDINGS = (".csv", ".tsv", ".txt", ".json", ".jsonl", ".ndjson", ".parquet", ".xlsx")
_PACKED: dict[str, Callable[[IO[bytes]], Readable]] = {
    ".gz": lambda file: gzip.GzipFile(fileobj=file),
    ".xz": lzma.LZMAFile,
    ".bz2": bz2.BZ2File,
}
_MAGIC = {b"\x1f\x8b": ".gz", b"\xfd7zXZ\x00": ".xz", b"BZh": ".bz2"}
_TAR = re.compile(r"\.(tar|tar\.(gz|xz|bz2)|tgz)$", re.IGNORECASE)
_BROKEN = (
    *(OSError, EOFError, zlib.error, lzma.LZMAError, zipfile.BadZipFile, tarfile.TarError),
    *(NotImplementedError, RuntimeError, ValueError),
)
_CHUNK = 1 << 20


def is_url(name: str) -> bool:
    """Return whether a name is a URL rather than a path."""
    return re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", name) is not None


def ending(name: str) -> str:
    """Return a file's ending in small letters, behind which it may be packed: `.csv`."""
    return PurePosixPath(re.sub(r"\.(gz|xz|bz2)$", "", name.lower())).suffix


def locate(folder: str | None, name: str) -> str:
    """Return the path or URL of a file that is named relative to a folder or URL.

    Raises:
        InputError: there is no such folder.
    """
    if is_url(name) or folder is None or from_home(name).is_absolute():
        return name if is_url(name) else str(from_home(name))
    if is_url(folder):
        parts = urlsplit(folder)
        inner, _, query = name.partition("?")
        path = f"{parts.path.rstrip('/')}/{inner}"
        return urlunsplit(parts._replace(path=path, query=query or parts.query))
    if not from_home(folder).is_dir():
        raise InputError(f"data.path={folder}: no such folder")
    return str(from_home(folder) / name)


def from_home(name: str) -> Path:
    """Return a path, of which only a first part `~` is no name: the home folder."""
    return Path(name).expanduser() if name == "~" or name.startswith("~/") else Path(name)


def read_bytes(location: str, name: str, limit: int) -> tuple[str, bytes]:
    """Return what a file or URL holds, unpacked, and the name that tells its kind.

    Raises:
        InputError: it is not there, damaged, too large, or an archive of several data files.
        EnvironmentFault: a download failed.
    """
    if is_url(location):
        own = PurePosixPath(unquote(urlsplit(location).path)).name
        return _unpacked(own, io.BytesIO(_download(location, limit)), limit, name)
    for path in (Path(location), Path(location + ".gz")):
        if path.is_file():
            with path.open("rb") as file:
                return _unpacked(path.name, file, limit, name)
    if Path(location).is_dir():
        raise InputError(
            f"{location}: is a folder; name its files, as data.train=[a.csv,b.csv], or say "
            "data.layout=folders if it has a folder of .txt files for each label"
        )
    beside = Path(location).parent
    found = sorted(p.name for p in beside.iterdir() if p.is_file()) if beside.is_dir() else []
    listing = f"; {beside} has {', '.join(found[:8])}" if found else ""
    raise InputError(f"{location}: no such file{listing}")


def _download(url: str, limit: int) -> bytes:
    fault = f"cannot download {url}"
    if not re.match(r"(https?|ftp)://", url, re.IGNORECASE):
        raise InputError(f"{fault}: only http, https and ftp are known; give a local file")
    try:
        if constants.HF_HUB_OFFLINE:
            raise OSError("HF_HUB_OFFLINE is set")
        with urlopen(_request(url), timeout=60) as response:
            content = _at_most(response, url, limit)
            missing = getattr(response, "length", 0)  # of what its header announced
        if missing:
            raise OSError(f"it broke off {missing} bytes before its end")
    except (OSError, http.client.HTTPException, RuntimeError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise EnvironmentFault(
            f"{fault} ({reason(error)}); offline? give a local folder as data.path=/folder"
        ) from error
    return content


def _request(url: str) -> Request:
    """Return what asks for a URL; its user and password are for its own host alone."""
    parts = urlsplit(quote(url, safe="%/:=&?~#+!$,;'@()*[]"))
    user, at, host = parts.netloc.rpartition("@")
    if not at or parts.scheme.lower() == "ftp":  # which has a place for them
        return Request(urlunsplit(parts))
    request = Request(urlunsplit(parts._replace(netloc=host)))
    encoded = base64.b64encode(unquote(user).encode()).decode()
    request.add_unredirected_header("Authorization", f"Basic {encoded}")
    return request


def _unpacked(packed: str, file: IO[bytes], limit: int, name: str = "") -> tuple[str, bytes]:
    name = name or packed
    try:
        if packed.lower().endswith(".zip"):
            return _of_zip(name, file, limit)
        if _TAR.search(packed):
            return _of_tar(name, file, limit)
        unpack = _PACKED.get(PurePosixPath(packed.lower()).suffix, lambda plain: plain)
        return packed, _at_most(unpack(file), name, limit)
    except InputError:
        raise
    except _BROKEN as error:
        raise InputError(f"{name}: cannot be read ({reason(error)}); is it damaged?") from error


def _at_most(file: Readable, name: str, limit: int, spare: int = 0) -> bytes:
    content = bytearray()
    while chunk := file.read(_CHUNK):
        content += chunk
        if len(content) > limit + spare:
            raise too_large(name, limit)
    return bytes(content)


def too_large(name: str, limit: int) -> InputError:
    """Return the error of a file that holds more than it may."""
    return InputError(
        f"{name}: holds more than data.max_bytes={limit}; is it the right file? "
        "a larger number lets it in"
    )


def _of_zip(name: str, file: IO[bytes], limit: int) -> tuple[str, bytes]:
    with zipfile.ZipFile(file) as archive:
        members = [member for member in archive.infolist() if not member.is_dir()]
        inner = _data_file(name, [member.filename for member in members])
        member = next(member for member in members if member.filename == inner)
        if member.flag_bits & 1:
            raise InputError(f"{name}: is encrypted; unpack it, and name the file that it holds")
        with archive.open(member) as content:
            return _unpacked(PurePosixPath(inner).name, content, limit, f"{name}/{inner}")


def _of_tar(name: str, file: IO[bytes], limit: int) -> tuple[str, bytes]:
    with tarfile.open(fileobj=_unpacked_tar(name, file, limit), mode="r:") as archive:
        members, size = [], 0
        for member in archive:
            size += member.size
            if size > limit:  # before it is unpacked, to get to the next
                raise too_large(name, limit)
            if member.isfile():
                members.append(member)
        inner = _data_file(name, [member.name for member in members])
        content = archive.extractfile(next(m for m in members if m.name == inner))
        assert content is not None
        return _unpacked(PurePosixPath(inner).name, content, limit, f"{name}/{inner}")


def _unpacked_tar(name: str, file: IO[bytes], limit: int) -> IO[bytes]:
    """Return an archive that is not packed any more, whatever it was packed with.

    Here, because tarfile would read the name of a member into memory however long it is.
    """
    begin = file.read(6)
    file.seek(0)
    for magic, packed in _MAGIC.items():
        if begin.startswith(magic):
            # With some room for what an archive has beside its members.
            return io.BytesIO(_at_most(_PACKED[packed](file), name, limit, spare=_CHUNK))
    return file


def _data_file(name: str, members: Iterable[str]) -> str:
    """Return the one data file of an archive; what a Mac adds to it, and dotfiles, are none."""
    seen = [
        member
        for member in members
        if not any(part.startswith((".", "__MACOSX")) for part in PurePosixPath(member).parts)
    ]
    found = [member for member in seen if ending(member) in DATA_ENDINGS] or seen
    if len(found) != 1:
        listed = ", ".join(sorted(found)[:8]) + (", ..." if len(found) > 8 else "")
        raise InputError(
            f"{name}: must hold one data file, and has {len(found)}"
            + (f": {listed}; unpack it and name one, or a list of them" if found else "")
        )
    return found[0]
