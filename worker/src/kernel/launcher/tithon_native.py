"""Whose threads of this process are that Python did not start: the library in whose code each of them began."""

import bisect
import os
import resource
import struct
import sys
import threading

_LINUX = sys.platform == "linux"
# Those that put their threads up again in a copy, do so for a thread that is new there, or go on without.
_POOLS = ("openblas", "libgomp", "libomp", "libiomp", "mkl_", "libarrow", "numexpr", "blosc", "/cv2/", "/tokenizers/")
# Those that keep their team in the forking thread's own storage.
_TEAMS = ("libgomp", "libomp", "libiomp")
# What is said of threads that began in Python itself.
UNKNOWN = "threads that Python's threading does not know"
# In whose code any library's thread may begin.
_SYSTEM = ("libc.", "libc-", "libpthread", "libstdc++", "libgcc_s", "ld-", "[")
_STD_THREAD = "libstdc++"
# glibc's block of a thread lies at the top of its stack, below what else the thread has to itself. In bytes.
_TOP = 16384
_BLOCK = 2304
_PAGE = 4096
_WORD = struct.calcsize("N")
# Among which of its words the thread's number is.
_NUMBER = slice(64, 128)
_NUMBER_MAX = 0xFFFFFFFF


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
    """Which file is mapped where, and the blocks of all threads."""

    def __init__(self):
        self._ranges, stacks, guard_end = [], [], None
        with open("/proc/self/maps", errors="replace") as maps:
            for line in maps:
                fields = line.rstrip("\n").split(None, 5)
                start, end = (int(address, 16) for address in fields[0].split("-"))
                path = fields[5] if len(fields) == 6 else ""
                if path.startswith("/"):
                    self._ranges.append((start, end, "x" in fields[1], path))
                elif fields[1] == "rw-p" and start == guard_end:
                    stacks.append((start, end))
                guard_end = end if fields[1] == "---p" else None
        self._starts = [start for start, *_ in self._ranges]
        self._blocks = [block for stack in stacks for block in _blocks(*stack)]

    def file(self, address, only_code=True):
        place = bisect.bisect_right(self._starts, address) - 1
        if place < 0:
            return None
        _, end, is_code, path = self._ranges[place]
        return path if address < end and (is_code or not only_code) else None

    def block(self, thread):
        for block in self._blocks:
            if any(thread in (word & _NUMBER_MAX, word >> 32) for word in block[_NUMBER]):
                return block
        return None


def _blocks(start, end):
    """The blocks of threads in a stack; where another mapping follows closely it may end before."""
    tops = {end, start - _PAGE + resource.getrlimit(resource.RLIMIT_STACK)[0], start - _PAGE + threading.stack_size()}
    for top in tops:
        if not start < top <= end:
            continue
        begin = max(start, top - _TOP)
        try:
            words = _words_at(begin, top - begin)
        except OSError:  # its thread has ended meanwhile, or this Linux does not let us look
            continue
        for place, word in enumerate(words):
            # On Intel's machines it begins with its own address, and has that again.
            if word == begin + place * _WORD and words[place + 2 : place + 3] == (word,):
                yield words[place : place + _BLOCK // _WORD]


def _owner(thread, mapped):
    """The file of the library that a thread began in; None if that cannot be told."""
    try:
        block = mapped.block(thread)
        return block and _beginning(block, mapped)
    except (OSError, OverflowError, ValueError, struct.error):  # it has ended meanwhile
        return None


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


def _words_at(address, size):
    """The words of this process's memory there; what is not there is no crash."""
    memory = os.open("/proc/self/mem", os.O_RDONLY)
    try:
        found = os.pread(memory, size, address)
    finally:
        os.close(memory)
    count = len(found) // _WORD
    return struct.unpack(f"{count}N", found[: count * _WORD])
