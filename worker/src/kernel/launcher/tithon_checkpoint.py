"""Checkpoints: frozen copies of this kernel, any of which can become the session's kernel later.

A checkpoint is a fork that dropped every connection, waits without threads on a unix socket and never
changes. Woken, it forks once more: the copy rebuilds sockets and threads and is the kernel; the
checkpoint stays as it is, so it can be woken again.

The worker asks, between two cells, with a `tithon_checkpoint_request` on shell: {"socket": path,
"name": what `ps` is to show, "brief": whether it is given up when nobody has asked it anything for a minute}.
Where a copy is asked, whose state is to be the session's, "mark" and "group" name whom it belongs to from then on.
The answer says `ok`, `busy`, or `refused` and why, and the seconds it
took. The copy is made at the top of the main thread's stack, not in the handler: so the stack of a
kernel that was woken a hundred times is as deep as that of the first.

On its socket a checkpoint is asked, one JSON object and a line end per connection, and answers {"pid": of
the kernel}. {"wake": {"spool_base": n}} makes the session's kernel; with "connection", "spool" and "log" where the
checkpoint was made by a copy. {"copy": {…}} makes one that lives beside
it: "connection" names its connection file, "spool" its spool, "log" where it writes what goes nowhere else, "mark" the directory that it belongs to,
"group" where it enters a control group, "expendable" whether it is to leave no trace and be killed for memory first. Such a
copy is either "guarded" (`tithon_copy.py`), or waits for the line "go"
on the connection and ends without it. {"show": {"most": n}} answers {"pid"} of a copy, which says what the variables
are (`tithon_show.py`) and ends. A checkpoint is ended by SIGKILL; every other signal is blocked.

A copy shares no descriptor with the kernel that could be noticed there: files get an offset of their
own, pipes, sockets and terminals are replaced by dead ones. Otherwise a reader would never see the end of what the
kernel closed.
"""

import contextvars
import fcntl
import gc
import json
import os
import select
import signal
import socket
import stat
import sys
import threading
import time

import tithon_copy
import tithon_show
from tithon_fork import fork as _fork
from tithon_fork import oom_score as _oom_score
from tithon_fork import open_descriptors
from tithon_fork import own_offsets as _own_offsets
from tithon_fork import replace as _replace
from tithon_fork import title as _title
from tithon_safety import Surroundings

# How long a library's fork handlers may take before the copy is given up.
_FORK_PATIENCE = 5.0
# How long nobody may come for a checkpoint before it ends itself, in seconds: its worker knows of it within
# moments, or it was forked in the moment in which its session was ended, and nobody ever will.
_UNCLAIMED = 60.0
# Turns of the event loop in which it must come to rest.
_TURNS = 50
_OOM_VICTIM = 1000
_EVERY_SIGNAL = set(signal.valid_signals()) if hasattr(signal, "valid_signals") else set()


class Checkpointer:
    """Makes checkpoints of one kernel; belongs to its main thread."""

    def __init__(self, app, infrastructure):
        self._app = app
        self._infrastructure = infrastructure
        self._surroundings = None
        self._order = None  # (stream, ident, parent) of the request being served
        self._in_cell = False
        self._watches_cells = False
        self._oom_score = None  # the kernel's own, before any copy of it was made
        app.kernel.shell_handlers["tithon_checkpoint_request"] = self._requested

    def look_around(self, descriptors_before=()):
        """Remember what belongs to the kernel itself; before any code of the user runs."""
        self._surroundings = Surroundings(descriptors_before)

    def _cell_begins(self):
        self._in_cell = True

    def _cell_ends(self):
        self._in_cell = False

    def _requested(self, stream, ident, parent):
        if not self._watches_cells:
            # Only now: a session without checkpoints is left as it is. No cell runs while this does.
            self._watches_cells = True
            events = self._app.kernel.shell.events
            events.register("pre_execute", self._cell_begins)
            events.register("post_execute", self._cell_ends)
        if threading.current_thread() is not threading.main_thread():
            content = {"status": "refused", "reason": "another event loop has the main thread", "seconds": 0}
            self._answer(content, stream, ident, parent)
            return
        self._order = (stream, ident, parent)
        # After this handler is done with, which still has its own `idle` to publish.
        self._app.io_loop.add_callback(self._app.io_loop.stop)

    def is_wanted(self):
        """Whether the event loop was stopped for a checkpoint."""
        return self._order is not None

    def serve(self):
        """Make the checkpoint that was asked for, with the event loop stopped.

        Returns twice: None in the kernel, which goes on, and in each copy that is woken, what it was woken with.
        """
        stream, ident, parent = self._order
        self._order = None
        began = time.perf_counter()
        try:
            content = {"status": "busy"}
            if self._comes_to_rest():
                reason = self._surroundings.obstacle(self._app.kernel, self._app.io_loop.asyncio_loop)
                if reason is None:
                    order = self._fork(parent["content"])
                    if order is not None:
                        return order
                    content = {"status": "ok"}
                else:
                    content = {"status": "refused", "reason": reason}
        except Exception as error:  # the kernel goes on without a checkpoint, whatever it was
            content = {"status": "refused", "reason": f"{type(error).__name__}: {error}"}
        content["seconds"] = time.perf_counter() - began
        self._answer(content, stream, ident, parent)
        return None

    def _answer(self, content, stream, ident, parent):
        self._app.kernel.session.send(stream, "tithon_checkpoint_reply", content, parent, ident=ident)

    def _comes_to_rest(self):
        """Whether nothing but waiting is left to do in the event loop, and no cell is under way."""
        loop = self._app.io_loop.asyncio_loop
        for _ in range(_TURNS):
            if self._in_cell:
                return False
            if not loop._ready:
                return True
            loop.call_soon(loop.stop)
            loop.run_forever()
        return False

    def _fork(self, content):
        for stream in (sys.stdout, sys.stderr):
            if hasattr(stream, "flush"):
                stream.flush()
        if not self._surroundings.needs_fresh_thread():
            return self._fork_here(content)
        # In the copy this thread is the main one, and the function that it runs never returns.
        outcome = []
        context = contextvars.copy_context()

        def body():
            try:
                order = context.run(self._fork_here, content)
            except BaseException as error:
                return outcome.append(error)
            if order is not None:
                self._app.live_on(order)
            return None

        thread = threading.Thread(target=body, name="tithon-fork")
        thread.start()
        thread.join()
        for error in outcome:
            raise error
        return None

    def _fork_here(self, content):
        """Fork; None in the kernel. Two generations: the copy is nobody's child whom the user waits for."""
        ends, alive = os.pipe()
        between = _fork()
        if between == 0:
            try:
                if _fork() == 0:
                    os.close(ends)
                    os.close(alive)
                    return self._freeze(content)
            except BaseException as error:
                _say(f"tithon: no checkpoint: {error!r}")
                os._exit(1)
            os._exit(0)
        os.close(alive)
        ended, _, _ = select.select([ends], [], [], _FORK_PATIENCE)
        os.close(ends)
        if not ended:
            os.kill(between, signal.SIGKILL)
        _, status = os.waitpid(between, 0)
        if not ended:
            raise TimeoutError("a library's fork handler did not return")
        if status != 0:
            raise OSError("the copy could not be made")
        return None

    # -- in a copy

    def _freeze(self, content):
        """Wait until somebody wants this state; returns in the copy that is to live."""
        path = content["socket"]
        os.setsid()
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, _EVERY_SIGNAL)
        # A collection would touch every object, and what is touched is no longer shared.
        collecting = gc.isenabled()
        gc.disable()
        score = _oom_score(_OOM_VICTIM)
        if self._oom_score is None:
            self._oom_score = score
        title = _title(content["name"])
        self._infrastructure.let_go()
        self._separate_descriptors()
        if "mark" in content:
            tithon_copy.set_mark(content["mark"])
            if not tithon_copy.enter_group(content.get("group")):
                raise OSError("the control group of the session's kernel cannot be entered")
        with socket.socket(socket.AF_UNIX) as listener:
            _bind(listener, path)
            listener.listen(4)
            listener.settimeout(_UNCLAIMED)
            while True:
                try:
                    connection, _ = listener.accept()
                except socket.timeout:
                    os.unlink(path)
                    os._exit(0)
                if not content.get("brief"):
                    listener.settimeout(None)
                with connection:
                    verb, order = _read_order(connection)
                    if verb is None:
                        continue
                    _reap()
                    if verb == "show":
                        self._show(order, listener, connection)
                    elif self._fork_for(order, listener, connection):
                        break
        os.setsid()
        _own_offsets()
        _title(title)
        if not order.get("expendable"):
            _oom_score(self._oom_score)
        if collecting:
            gc.enable()
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        return order

    def _show(self, order, listener, connection):
        between = _fork()
        if between:
            os.waitpid(between, 0)
            return
        if _fork():
            os._exit(0)
        try:
            listener.close()
            tithon_show.show(connection, self._app.kernel.shell, order["most"])
        finally:
            os._exit(1)

    @staticmethod
    def _fork_for(order, listener, connection):
        """Fork as somebody wants it; True in the copy that is to live."""
        if order.get("guarded"):
            # Two generations: what is thrown away leaves nothing here to be waited for.
            between = _fork()
            if between:
                os.waitpid(between, 0)
                return False
            if _fork():
                os._exit(0)
            try:
                listener.close()
                os.setsid()
                tithon_copy.guard(connection, order)
            except BaseException as error:
                _say(f"tithon: no copy: {error!r}")
                os._exit(1)
            return True
        pid = _fork()
        if pid == 0:
            if "mark" in order:
                try:
                    tithon_copy.set_mark(order["mark"])
                    tithon_copy.enter_group(order.get("group"))
                    listener.close()
                    connection.settimeout(None)
                    wanted = connection.recv(16) == b"go\n"
                except BaseException as error:
                    _say(f"tithon: no copy: {error!r}")
                    wanted = False
                if not wanted:
                    os._exit(1)
            return True
        try:
            connection.sendall(json.dumps({"pid": pid}).encode() + b"\n")
        except OSError:  # nobody waits for it: nobody knows it
            os.kill(pid, signal.SIGKILL)
        return False

    def _separate_descriptors(self):
        """Share nothing with the kernel that it, or whoever it talks to, could notice."""
        dead, gone = socket.socketpair()
        gone.close()
        reader, writer = os.pipe()
        os.close(writer)
        unread, writer = os.pipe()
        os.close(unread)
        ours = {dead.fileno(), reader, writer, 0, 1, 2}
        for fd in open_descriptors():
            try:
                kind = os.readlink(f"/proc/self/fd/{fd}")
                if self._infrastructure.owns(fd, kind, self._surroundings.descriptors):
                    os.close(fd)
                elif fd in ours:
                    continue
                elif kind.startswith(("socket:", "/dev/pt", "/dev/tty")):
                    _replace(fd, dead.fileno())
                elif stat.S_ISFIFO(os.fstat(fd).st_mode):
                    readable = fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY
                    _replace(fd, reader if readable else writer)
            except OSError:  # gone meanwhile, or the listing's own
                pass
        dead.close()
        os.close(reader)
        os.close(writer)
        _own_offsets()


def _bind(listener, path):
    mask = os.umask(0o177)
    try:
        listener.bind(path)
    finally:
        os.umask(mask)


def _read_order(connection):
    """What a checkpoint is to do: a verb, None for anything that is no order, and what belongs to it."""
    data = b""
    try:
        connection.settimeout(10)
        while not data.endswith(b"\n") and len(data) < 65536:
            more = connection.recv(65536)
            if not more:
                return None, None
            data += more
        (verb, order), = json.loads(data).items()
        if verb in ("wake", "copy", "show") and isinstance(order, dict):
            return verb, order
    except (OSError, ValueError, AttributeError, TypeError):
        pass
    return None, None


def _reap():
    """Let go of kernels that were woken here and have ended; until now their exit status could be read."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass


def _say(line):
    try:
        os.write(2, line.encode() + b"\n")
    except OSError:
        pass
