"""From bytes to text: the encoding is found out or given, and a byte out of it is named."""

import codecs
import re
from contextlib import suppress

from pruneloop.errors import InputError

_MARKS = {
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
_PACKED = {b"PK\x03\x04": "zip or xlsx", b"\x1f\x8b": "gzip", b"\xfd7zXZ": "xz"}


def decode(raw: bytes, name: str, encoding: str, keep_bad: bool) -> str:
    """Return the text of a file, without its byte order mark.

    Args:
        encoding: `auto` is UTF-8, then cp949.
        keep_bad: keep a byte that the encoding lacks as a lone surrogate, so that its row
            can be left out, instead of refusing the file.

    Raises:
        InputError: a byte is none of the encoding, which is named with its line, or there is
            no such encoding.
    """
    _check_mark(raw, name, encoding)
    tried = [encoding]
    if encoding == "auto":
        # A few bad bytes do not make a file of UTF-8 one of cp949, though it may read as such.
        tried = ["utf-8"] if _mostly_utf8(raw) else ["utf-8", "cp949"]
    faults = {}
    for candidate in tried:
        try:
            return raw.decode(candidate).removeprefix("\ufeff")
        except UnicodeDecodeError as error:
            faults[candidate] = error
        except LookupError:
            raise InputError(f"data.encoding={encoding}: no such encoding; try cp949") from None
    nearest = min(tried, key=lambda candidate: _bad_lines(raw, candidate))
    if keep_bad:
        with suppress(UnicodeDecodeError):  # of an encoding that cannot be resumed
            return raw.decode(nearest, errors="surrogateescape").removeprefix("\ufeff")
    raise InputError(f"{name}{_where(raw, faults[nearest].start, nearest)}{_hint(encoding)}")


def _check_mark(raw: bytes, name: str, encoding: str) -> None:
    for start, kind in _PACKED.items():
        if raw.startswith(start):
            raise InputError(f"{name}: is packed ({kind}), which its name must say by its ending")
    mark = next((kind for start, kind in _MARKS.items() if raw.startswith(start)), None)
    if mark is not None and encoding == "auto":
        raise InputError(
            f"{name}: is not utf-8 or cp949; it begins as {mark} does: data.encoding={mark}"
        )


def _lines(raw: bytes) -> list[bytes]:
    return re.split(rb"\r\n|\r|\n", raw)


def _bad_lines(raw: bytes, encoding: str) -> int:
    return sum(_bad_byte(line, encoding) is not None for line in _lines(raw))


def _bad_byte(line: bytes, encoding: str) -> int | None:
    try:
        line.decode(encoding)
    except UnicodeDecodeError as error:
        return error.start
    return None


def _mostly_utf8(raw: bytes) -> bool:
    """Return whether more of the lines with other bytes than ASCII's are UTF-8 than not."""
    try:
        raw.decode()
    except UnicodeDecodeError:
        told = [line for line in _lines(raw) if not line.isascii()]
        return sum(_bad_byte(line, "utf-8") is None for line in told) > len(told) / 2
    return True


def _where(raw: bytes, start: int, encoding: str) -> str:
    """Return the place of a byte, and what it is."""
    # Not splitlines, which would end a line at other signs too.
    line = len(re.findall("\r\n|\r|\n", raw[:start].decode(encoding))) + 1
    begin = max(raw.rfind(b"\n", 0, start), raw.rfind(b"\r", 0, start)) + 1
    wide = re.search("16|32", encoding)  # whose line ends are no single bytes
    place = f"byte {start + 1} of the file" if wide else f"byte {start - begin + 1}"
    return f", line {line}: {place} (0x{raw[start]:02x}) is none of {encoding}"


def _hint(encoding: str) -> str:
    other = ", name its encoding, such as data.encoding=utf-16" if encoding == "auto" else ""
    return f"; mend it{other}, or leave such rows out by data.bad_rows=skip"
