"""A file in place of a standard descriptor.

ipykernel puts a pipe there, and both its ends die with the process: what C code printed last is lost.
A file keeps it, never blocks a writer, and is as good for child processes.
"""

import ctypes
import os
import time

_CHUNK = 65536
# Space is given back to the file system whenever this much has been taken.
_PUNCH = 8 << 20

_IN_MODIFY = 2
_IN_CLOEXEC = os.O_CLOEXEC
_KEEP_SIZE_PUNCH_HOLE = 1 | 2
_LINE_BUFFERED = 1

# Seconds between two looks where nobody says that there is more: longer the longer there was nothing.
_SHORTEST = 0.05
_LONGEST = 0.4


class FdFile:
    """An append-only file that this process reads back; `take` yields each byte once."""

    def __init__(self, path):
        self._path = path
        self._writer = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_NOFOLLOW, 0o600)
        self._taken = 0
        self._punched = 0
        self._pause = _SHORTEST
        self._inotify = -1
        self._libc = None
        self._c_stdout = None
        try:
            self._libc = ctypes.CDLL(None, use_errno=True)
            self._inotify = self._watch()
        except (OSError, AttributeError):  # not Linux, or no watches left: poll
            pass

    def replace(self, fileno):
        """Put the file in place of a descriptor. C's own stdout becomes line buffered, as on a terminal:
        what stays in its buffer would miss its cell, and a crash."""
        os.dup2(self._writer, fileno)
        if fileno != 1:
            return
        try:
            self._c_stdout = ctypes.c_void_p.in_dll(self._libc, "stdout")
            self._libc.setvbuf(self._c_stdout, None, _LINE_BUFFERED, ctypes.c_size_t(0))
        except (ValueError, AttributeError):  # a libc that names it otherwise
            self._c_stdout = None

    def close(self):
        """Let go of the file, in a fork that is to have one of its own or none."""
        for fd in (self._writer, self._inotify):
            if fd >= 0:
                os.close(fd)

    def flush_c_stdio(self):
        """Write out a line that C code has begun."""
        if self._c_stdout is not None:
            self._libc.fflush(self._c_stdout)

    def take(self):
        """Yields (bytes, offset behind them) for what was written since the last call."""
        while True:
            data = os.pread(self._writer, _CHUNK, self._taken)
            if not data:
                return
            self._taken += len(data)
            self._pause = _SHORTEST
            yield data, self._taken
            if self._taken - self._punched >= _PUNCH:
                self._give_back()

    def wait(self):
        """Block until there may be more."""
        if self._inotify >= 0:
            os.read(self._inotify, 4096)
        else:
            time.sleep(self._pause)
            self._pause = min(2 * self._pause, _LONGEST)

    def _watch(self):
        inotify = self._libc.inotify_init1(_IN_CLOEXEC)
        if inotify >= 0 and self._libc.inotify_add_watch(inotify, os.fsencode(self._path), _IN_MODIFY) < 0:
            os.close(inotify)
            return -1
        return inotify

    def _give_back(self):
        """Free what was taken; offsets stay. Where the file system cannot, the file keeps its size."""
        length = self._taken - self._punched
        try:
            self._libc.fallocate(
                self._writer,
                _KEEP_SIZE_PUNCH_HOLE,
                ctypes.c_int64(self._punched),
                ctypes.c_int64(length),
            )
        except AttributeError:
            pass
        self._punched = self._taken
