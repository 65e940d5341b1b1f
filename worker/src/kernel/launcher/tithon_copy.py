"""Copies of a kernel that live beside it: thrown away when they have done their work, or a session's own.

A copy has a mark and a spool of its own, so that whatever ends what another kernel left never meets it.
One that is to be thrown away has a guard, a process without threads between it and everybody else: it ends
the copy, and everything that the copy started, as soon as nobody is at the other end of its connection.
"""

import ctypes
import json
import os
import select
import signal

from tithon_fork import fork

MARK = "TITHON_SESSION"
_PR_SET_PDEATHSIG = 1
# Between two looks at a copy where Python is too old to be told of its end, in milliseconds.
_LOOK = 200
# Rounds of ending what a copy started: each process may have started another in the meantime.
_ROUNDS = 100


def set_mark(mark):
    """Let the environment of this process, and of all that it ever starts, say to whom it belongs.

    What others see is the block that the process was started with, which nothing but writing to it changes;
    C's own environment is taken out of it first.
    """
    os.environ[MARK] = mark
    libc = ctypes.CDLL(None)
    libc.getenv.restype = ctypes.c_void_p
    for name in list(os.environb):
        value = libc.getenv(ctypes.c_char_p(name))
        if value:
            # Copies its argument, unlike what is there since the start.
            libc.setenv(ctypes.c_char_p(name), ctypes.c_char_p(ctypes.string_at(value)), 1)
    start, end = _environment()
    first = f"{MARK}={mark}".encode() + b"\0"
    if len(first) > end - start:
        raise ValueError("the environment that the kernel was started with is too small for a mark")
    block = ctypes.string_at(start, end - start)
    for variable in block.split(b"\0"):
        if variable and not variable.startswith(MARK.encode() + b"=") and len(first) + len(variable) < end - start:
            first += variable + b"\0"
    ctypes.memmove(start, first.ljust(end - start, b"\0"), end - start)


def _environment():
    """Where the block is that `/proc/PID/environ` shows."""
    with open("/proc/self/stat") as stat:
        fields = stat.read().rpartition(")")[2].split()
    return int(fields[47]), int(fields[48])


def enter_group(entrance):
    """Be in a control group, if one is named, with all that is started from here on; false where that cannot be."""
    if entrance:
        try:
            with open(entrance, "w") as procs:
                procs.write("0")
        except OSError:
            return False
    return True


def guard(connection, order):
    """Fork a copy and end with it; returns in the copy only."""
    set_mark(order["mark"])
    enter_group(order.get("group"))
    me = os.getpid()
    copy = fork()
    if copy == 0:
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != me:
            os._exit(1)
        return
    try:
        _tell(connection, {"pid": copy})
        _wait(connection, copy)
    finally:
        _end(copy)
        _, status = os.waitpid(copy, 0)
        _end_marked(order["mark"])
        _tell(connection, {"ended": status})
        os._exit(0)


def _tell(connection, words):
    try:
        connection.sendall(json.dumps(words).encode() + b"\n")
    except OSError:  # nobody is there any more
        pass


def _wait(connection, copy):
    """Return when the copy has ended, or nobody wants it any more."""
    poller = select.poll()
    poller.register(connection, select.POLLIN)
    patience = _LOOK
    if hasattr(os, "pidfd_open"):
        try:
            poller.register(os.pidfd_open(copy), select.POLLIN)
            patience = None
        except OSError:
            pass
    while not poller.poll(patience):
        if os.waitid(os.P_PID, copy, os.WEXITED | os.WNOHANG | os.WNOWAIT):
            return


def _end(copy):
    """Kill the copy and what is in its process group: not waited for yet, so the number is its own."""
    for kill, number in ((os.killpg, copy), (os.kill, copy)):
        try:
            kill(number, signal.SIGKILL)
        except OSError:
            pass


def _end_marked(mark):
    """Kill what left the group: everything that carries the mark, but for this process."""
    wanted = f"{MARK}={mark}".encode()
    for _ in range(_ROUNDS):
        found = [pid for pid in _processes() if pid != os.getpid() and _carries(pid, wanted)]
        if not found:
            return
        for pid in found:
            try:
                os.kill(pid, signal.SIGKILL)
            except OSError:
                pass


def _processes():
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def _carries(pid, variable):
    try:
        with open(f"/proc/{pid}/environ", "rb") as environ:
            return variable in environ.read().split(b"\0")
    except OSError:
        return False
