"""What a process does to itself around a fork: descriptors of its own, its name, its standing with the system."""

import ctypes
import fcntl
import os
import stat
import sys
import warnings

_PR_SET_NAME = 15


def fork():
    """As `os.fork`, but a copy's random numbers go on as this process's would."""
    random = sys.modules.get("random")
    before = random and random.getstate()  # CPython seeds it anew in a copy
    with warnings.catch_warnings():
        # Python 3.12 warns of threads; which ones there are is known here.
        warnings.simplefilter("ignore", DeprecationWarning)
        pid = os.fork()
    if pid == 0 and random:
        random.setstate(before)
    return pid


def open_descriptors():
    return [int(fd) for fd in os.listdir("/proc/self/fd" if sys.platform == "linux" else "/dev/fd")]


def own_offsets():
    """Open regular files again, so that a copy's reading and writing does not move anyone else's place."""
    for fd in open_descriptors():
        try:
            if fd <= 2 or not stat.S_ISREG(os.fstat(fd).st_mode):
                continue
            flags = fcntl.fcntl(fd, fcntl.F_GETFL)
            offset = os.lseek(fd, 0, os.SEEK_CUR)
            again = os.open(f"/proc/self/fd/{fd}", (flags & (os.O_ACCMODE | os.O_APPEND)) | os.O_CLOEXEC)
            os.lseek(again, offset, os.SEEK_SET)
            replace(fd, again)
            os.close(again)
        except OSError:  # no longer permitted: the place stays shared
            pass


def replace(fd, by):
    """Put another file under a descriptor's number, inherited by children as before."""
    os.dup2(by, fd, os.get_inheritable(fd))


def oom_score(score):
    """Set how willingly this process is killed for memory; returns what it was."""
    try:
        with open("/proc/self/oom_score_adj", "r+") as file:
            before = file.read().strip()
            file.seek(0)
            file.write(str(score))
        return before
    except OSError:
        return score


def title(name):
    """Set what `ps` calls this process; returns what it was."""
    try:
        with open("/proc/self/comm") as comm:
            before = comm.read().strip()
        ctypes.CDLL(None).prctl(_PR_SET_NAME, name.encode()[:15], 0, 0, 0)
        return before
    except OSError:
        return name
