"""Files that something was made of: read whole, and seen to have changed without being read again."""

from __future__ import annotations

from pathlib import Path

from exporter.configfile import FILE_BYTES_MAX, read_whole

# What tells one content of a file from the next: device, inode, size, times. None: it cannot be looked at.
_Stamp = tuple[int, ...] | None


class Watched:
    """Looks before it reads, so that what changes in between is seen the next time."""

    def __init__(self) -> None:
        self._stamps: dict[Path, _Stamp] = {}

    def read(self, path: Path) -> bytes:
        """Raises OSError, and ValueError with what is wrong, in words without path or content."""
        self._stamps[path] = _stamp(path)
        return read_whole(path, FILE_BYTES_MAX)

    def changed(self) -> bool:
        """Whether any file that was to be read has changed, come or gone since; links are followed."""
        return any(_stamp(path) != stamp for path, stamp in self._stamps.items())


def why_unread(error: OSError | ValueError) -> str:
    """For people, without a path."""
    if isinstance(error, OSError):
        return error.strerror or type(error).__name__
    return str(error)


def _stamp(path: Path) -> _Stamp:
    try:
        found = path.stat()
    except (OSError, ValueError):
        return None
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns
