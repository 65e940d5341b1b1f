"""Whose threads of this process are that Python did not start: the library in whose code each of them began."""

import bisect
import os
import struct
import sys
import time

_LINUX = sys.platform == "linux"
# Those that put their threads up again in a copy, do so for a thread that is new there, or go on without.
_POOLS = ("openblas", "libgomp", "libomp", "libiomp", "mkl_", "libarrow", "numexpr", "blosc", "/cv2/", "/tokenizers/")
# Those that keep their team in the forking thread's own storage.
_TEAMS = ("libgomp", "libomp", "libiomp")
# What is said of threads that began in Python itself.
UNKNOWN = "threads that Python's threading does not know"
# In whose code any library's thread may wait.
_SYSTEM = ("libc.", "libc-", "libpthread", "libstdc++", "libgcc_s", "libm.", "libdl", "ld-", "[")
_STD_THREAD = "libstdc++"
# A waiting thread of a pool is a few calls deep. In bytes, as the others.
_STACK = 16384
_BLOCK = 2304
_WORD = struct.calcsize("N")
# A thread that has just done something spins before it waits.
_SPIN = 0.02


class Verdicts:
    """Remembers what was found out of threads, each of which has one owner for life."""

    def __init__(self):
        self._known = {}

    def strangers(self, threads):
        """Those of the threads that no known pool has started, each with words for it; None where it cannot be told."""
        mapped, found = None, {}
        for thread in threads:
            key = thread, _start_time(thread)
            if key not in self._known:
                mapped = mapped or _Mapped()
                told = _owner(thread, mapped)
                if told is None:
                    # It may be told next time.
                    found[thread] = None
                    continue
                self._known[key] = told
            if not _is_pool(self._known[key]):
                found[thread] = _words(self._known[key])
        return found


def tasks():
    """The threads of this process and their names."""
    found = {}
    for task in os.listdir("/proc/self/task") if _LINUX else ():
        try:
            with open(f"/proc/self/task/{task}/comm") as comm:
                found[int(task)] = comm.read().strip()
        except OSError:  # it has ended
            pass
    return found


def has_pools():
    return _maps_any(_POOLS)


def has_teams():
    return _maps_any(_TEAMS)


def _maps_any(names):
    with open("/proc/self/maps", errors="replace") as maps:
        return any(name in line for line in maps for name in names)


def _is_pool(path):
    return any(name in path for name in _POOLS)


def _words(path):
    """Threads that began in a file, for people: a library is named by the package that it came with."""
    if _is(path, ("libpython", "python")):
        return UNKNOWN
    parts = path.split("/")
    name = parts[-1]
    for place in ("site-packages", "dist-packages"):
        if place in parts[:-1]:
            name = parts[parts.index(place) + 1]
    return f"threads of a native library ({name.partition('.')[0]})"


def _start_time(thread):
    try:
        with open(f"/proc/self/task/{thread}/stat") as stat:
            return stat.read().rpartition(")")[2].split()[19]
    except OSError:
        return None


class _Mapped:
    """Which file is mapped where."""

    def __init__(self):
        self._ranges = []
        with open("/proc/self/maps", errors="replace") as maps:
            for line in maps:
                fields = line.rstrip("\n").split(None, 5)
                if len(fields) == 6:
                    start, end = (int(address, 16) for address in fields[0].split("-"))
                    self._ranges.append((start, end, "x" in fields[1], fields[5]))
        self._starts = [start for start, *_ in self._ranges]

    def file(self, address, only_code=True):
        place = bisect.bisect_right(self._starts, address) - 1
        if place < 0:
            return None
        _, end, is_code, path = self._ranges[place]
        return path if address < end and (is_code or not only_code) else None


def _owner(thread, mapped):
    """The file of the library that a waiting thread began in; None if that cannot be told."""
    try:
        end = _stack_end(thread)
        words = end and _words_at(end, _STACK)
        if not words:
            return None
        for place, word in enumerate(words):
            # glibc's own block of a thread, on Intel's machines, begins with its own address, twice.
            if word == end + place * _WORD and words[place + 2 : place + 3] == (word,):
                return _beginning(words[place : place + _BLOCK // _WORD], mapped)
    except (OSError, OverflowError, ValueError, struct.error):  # it has ended, or this Linux does not tell
        return None
    # Its callers, and remains of calls that have returned, also of another thread that had the stack before.
    files = {path for path in map(mapped.file, words) if path and not _is(path, _SYSTEM)}
    return min(files) if len({_is_pool(path) for path in files}) == 1 else None


def _beginning(block, mapped):
    """The file of a thread's first function, which is noted in its block with the argument behind it."""
    for place, word in enumerate(block):
        path = mapped.file(word)
        if path and _is(path, _STD_THREAD):
            # What C++ is to run: an object, whose first word leads to the library that made it.
            (table,) = _words_at(block[place + 1], _WORD)
            path = mapped.file(table, only_code=False)
        if path:
            return None if _is(path, _SYSTEM) else path
    return None


def _is(path, names):
    return path.rpartition("/")[2].startswith(names)


def _stack_end(thread):
    """Where a thread's stack ends while it waits; None if it does not."""
    patience = time.monotonic() + _SPIN
    while True:
        with open(f"/proc/self/task/{thread}/syscall") as syscall:
            fields = syscall.read().split()
        if len(fields) >= 3:
            return int(fields[-2], 16)
        if time.monotonic() > patience:
            return None
        time.sleep(0.001)


def _words_at(address, size):
    memory = os.open("/proc/self/mem", os.O_RDONLY)
    try:
        found = os.pread(memory, size, address)
    finally:
        os.close(memory)
    count = len(found) // _WORD
    return struct.unpack(f"{count}N", found[: count * _WORD])
