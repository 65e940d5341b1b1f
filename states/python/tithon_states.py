"""States of Python programs as frozen processes: `python <here>/tithon_states.py`.

Standard input is the keeper's channel.

A state waits, without threads of its own, in a read on its channel, a unix socket whose other end the
server holds. To run code in it, it is forked, and the copy runs the code: after a success the copy is the
new state, after an error it ends. Nothing ever runs in a state, so it never changes.

An order on a channel is a letter and a number (`tithon_channel`):

    F n     fork. With it come three descriptors: the copy's own channel, its standard output and error
    H n     answer a question yourself, on the channel that comes with it: what cannot be forked anyway
    W pid   forget a child, once it has ended; 0 is every child that has

A copy says {"pid": its own} on its channel, and gets what it is to do: see `tithon_cell` and `tithon_questions`.

The first process, the keeper, is a state that has run nothing. It adopts whatever loses its parent, so nothing that
a cell ever started escapes: when the server is gone it ends all of it, then itself. States end when their channel does,
whatever becomes of the keeper.
"""

import contextvars
import ctypes
import gc
import os
import signal
import sys
import threading
import time

import tithon_cell
import tithon_fork
from tithon_channel import Channel
from tithon_safety import Surroundings

HERE = os.path.dirname(os.path.realpath(__file__))
_PR_SET_CHILD_SUBREAPER = 36
_OOM_VICTIM = 1000


class State:
    """This process as a state, and what it becomes in its copies."""

    def __init__(self, channel):
        self._channel = channel
        self._is_keeper = True
        self._ended = set()
        self._cell = tithon_cell.Cell()
        self._surroundings = None
        self._look_around()

    def _look_around(self):
        self._surroundings = Surroundings(contexts=0)

    def live(self):
        """Wait for orders; returns never. In a copy it goes on here, so no stack grows from state to state."""
        try:
            while True:
                order = self._channel.order()
                if order is None:
                    break
                letter, number, fds = order
                if letter == b"F":
                    self._fork(fds)
                elif letter == b"H":
                    self._answer_here(fds)
                elif letter == b"W":
                    self._forget(number)
        except (EOFError, OSError):
            pass
        except BaseException as error:  # whatever it is, this is no state any more
            _say(f"tithon: a state ended: {error!r}")
        if self._is_keeper:
            _end_everything()
        os._exit(0)

    def _forget(self, pid):
        if not pid:
            return _reap_all()
        self._ended.add(pid)
        for pid in list(self._ended):
            try:
                if os.waitpid(pid, os.WNOHANG)[0]:
                    self._ended.discard(pid)
            except ChildProcessError:
                self._ended.discard(pid)

    # -- forking

    def _fork(self, fds):
        if not self._surroundings.needs_fresh_thread():
            self._fork_here(fds)
        else:
            # In the copy this thread is the main one, and what it runs never returns.
            context = contextvars.copy_context()
            thread = threading.Thread(target=context.run, args=(self._fork_in_thread, fds))
            thread.start()
            thread.join()
        for fd in fds:
            os.close(fd)

    def _fork_in_thread(self, fds):
        if self._fork_here(fds):
            for fd in fds:
                os.close(fd)
            self.live()

    def _fork_here(self, fds):
        """Fork; true in the copy, once it is a state."""
        try:
            if tithon_fork.fork():
                return False
        except OSError as error:
            Channel(os.dup(fds[0])).send({"refused": f"it cannot be forked: {error.strerror}"})
            return False
        try:
            return self._begin(fds)
        except BaseException as error:
            _say(f"tithon: a copy could not begin: {error!r}")
            os._exit(1)

    def _begin(self, fds):
        """In a copy: be a process of its own, do what is wanted; returns if that made a state."""
        os.setpgid(0, 0)
        tithon_fork.oom_score(_OOM_VICTIM)
        tithon_fork.own_offsets()
        self._channel.close()
        self._channel = Channel(os.dup(fds[0]))
        self._is_keeper = False
        self._ended = set()
        self._look_around()
        os.dup2(fds[1], 1)
        os.dup2(fds[2], 2)
        for fd in fds:
            os.close(fd)
        fds.clear()
        self._channel.send({"pid": os.getpid()})
        order = self._channel.receive()
        if not self._cell.perform(order, self._channel, self._surroundings):
            os._exit(0)
        # Touched objects are no longer shared with the copies to come.
        gc.freeze()
        return True

    def _answer_here(self, fds):
        channel = Channel(fds[0])
        for fd in fds[1:]:
            os.close(fd)
        try:
            self._cell.perform(channel.receive(), channel, self._surroundings)
        except (EOFError, OSError):
            pass
        channel.close()


def _reap_all():
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass


def _end_everything():
    """Kill all that descends from here: who loses its parent meanwhile becomes a child of this process."""
    patience = time.monotonic() + 10
    while time.monotonic() < patience:
        _reap_all()
        children = _children()
        if not children:
            return
        for pid in children:
            try:
                os.kill(pid, signal.SIGKILL)
            except OSError:
                pass
        time.sleep(0.001)


def _children():
    me = os.getpid()
    try:
        with open(f"/proc/{me}/task/{me}/children") as children:
            return [int(pid) for pid in children.read().split()]
    except OSError:  # a Linux without that file
        return [pid for pid in map(int, filter(str.isdigit, os.listdir("/proc"))) if _parent(pid) == me]


def _parent(pid):
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return int(stat.read().rpartition(")")[2].split()[1])
    except OSError:
        return None


def _say(line):
    try:
        os.write(2, line.encode() + b"\n")
    except OSError:
        pass


def main():
    # The user's modules are looked for where `python -c` would, and ours behind them all.
    sys.path[0] = ""
    sys.path.append(HERE)
    site = os.environ.pop("TITHON_SITE", None)
    if site:
        sys.path.append(site)
    entrance = os.environ.pop("TITHON_STATES_GROUP", None)
    if entrance:
        try:
            with open(entrance, "w") as procs:
                procs.write("0")
        except OSError as error:
            _say(f"tithon: the control group cannot be entered: {error}")
    # Figures are shown as images; there is no window to show them in.
    os.environ["MPLBACKEND"] = "agg"
    libc = ctypes.CDLL(None)
    libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    # A terminal's Ctrl-C is for the server.
    os.setpgid(0, 0)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    channel = Channel(os.dup(0))
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    sys.argv = [""]
    state = State(channel)
    gc.freeze()
    channel.send({"python": sys.version.split()[0]})
    state.live()


if __name__ == "__main__":
    main()
