"""What of a kernel ends in a copy of it, and how a copy that is woken gets it back.

Sockets, threads and the history's connection are made anew by ipykernel's own methods, and put into the
objects that the user's code may hold: the same kernel, shell, streams and event loop live on.
"""

import asyncio
import atexit
import faulthandler
import json
import logging
import os
import selectors
import socket
import uuid

import zmq
from ipykernel.kernelbase import Kernel
from tithon_fork import replace
from tornado import ioloop

# What ipykernel's application passes to its kernel that is not a connection.
_NOT_CONNECTIONS = {"parent", "session", "log", "profile_dir", "user_ns"}


class Infrastructure:
    """The connections and threads of one kernel application, in its copies."""

    def __init__(self, app, streams, spool, crash_log):
        self._app = app
        self._streams = streams
        self._spool = spool
        self._crash_log = crash_log
        # Inherited objects whose finalizers must never run here: they would wait for threads that are not there.
        self._kept = []
        self._closed = set()
        self._plain = None  # the handler of requests to run code, where a copy's took its place
        self._keeps_history = None  # whether the kernel that this was a copy of wrote down what it ran

    def owns(self, fd, kind, at_start):
        """Whether a descriptor is one of the kernel's own, which a copy closes."""
        ours = at_start.get(fd) == kind or (kind.startswith("socket:") and self._is_endpoint(fd))
        if ours:
            self._closed.add(fd)
        return ours

    def _is_endpoint(self, fd):
        """Whether a socket is bound or connected to one of the kernel's endpoints: zmq makes these at any time."""
        app = self._app
        with socket.socket(fileno=os.dup(fd)) as found:
            for name in (found.getsockname, found.getpeername):
                try:
                    address = name()
                except OSError:
                    continue
                if isinstance(address, bytes):
                    address = os.fsdecode(address)
                if isinstance(address, str) and app.transport == "ipc" and address.startswith(f"{app.ip}-"):
                    return True
        return False

    def let_go(self):
        """In a copy that is about to freeze: give up what would hold on to the kernel's files."""
        self._spool.let_go()
        for stream in self._streams:
            stream.let_go()

    def revive(self, order):
        """In a copy that was woken: be a kernel, the session's own or another."""
        app, kernel = self._app, self._app.kernel
        if "connection" in order:
            self._move(order)
        self._keep_inherited()
        self._revive_loop(app.io_loop)
        # Other clients know messages by session and number: this is another line of them.
        app.session.session = str(uuid.uuid4())
        app.session.pid = os.getpid()
        app.session.digest_history = set()
        self._spool.begin_again(order.get("spool_base", 0))
        faulthandler.enable(file=_truncated(self._crash_log))

        tornado_handlers = list(logging.getLogger("tornado").handlers)
        atexit.unregister(app.close)
        app.context = None
        app.heartbeat = None
        zmq.Context._instance = None
        app.init_sockets()
        app.init_heartbeat()
        logging.getLogger("tornado").handlers[:] = tornado_handlers
        for stream in self._streams:
            stream.revive(app.iopub_thread)
        kernel._main_asyncio_lock = asyncio.Lock()
        self._connect_kernel(app, kernel)
        app.displayhook.pub_socket = app.iopub_socket
        kernel.shell.displayhook.pub_socket = app.iopub_socket
        kernel.shell.display_pub.pub_socket = app.iopub_socket
        self._revive_debugger(kernel)
        self._revive_history(kernel.shell, writes=not order.get("expendable"))
        self._heed_once(kernel, order.get("expendable"))
        app.greet()
        kernel.start()

    def _move(self, order):
        """Be reached, and write the spool, elsewhere than the kernel that this is a copy of."""
        app = self._app
        with open(order["connection"]) as file:
            connection = json.load(file)
        app.connection_file = order["connection"]
        app.transport = connection["transport"]
        app.ip = connection["ip"]
        for port in ("shell_port", "iopub_port", "stdin_port", "control_port", "hb_port"):
            setattr(app, port, connection[port])
        app.session.key = connection["key"].encode()
        log = os.open(order["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        for stream in self._streams:
            words = getattr(stream, "_original_stdstream_copy", None)
            if words is not None:
                replace(words, log)
        os.close(log)
        self._spool.directory = order["spool"]
        self._crash_log = os.path.join(order["spool"], os.path.basename(self._crash_log))

    def _keep_inherited(self):
        app, kernel = self._app, self._app.kernel
        for owner in (app, kernel):
            for name in owner.trait_names():
                self._kept.append(getattr(owner, name, None))
        names = ("context", "heartbeat", "control_thread", "shell_channel_thread", "iopub_thread", "shell_socket",
                 "control_socket", "stdin_socket", "iopub_socket", "debugpy_socket", "debug_shell_socket")
        self._kept.extend(getattr(app, name, None) for name in names)
        self._kept.append(zmq.Context._instance)
        self._kept.append(getattr(app.iopub_thread, "socket", None))
        self._kept.append(vars(app.iopub_thread).copy())

    def _revive_loop(self, io_loop):
        """Give the main event loop a selector of its own. Tasks and timers of the user go on in it."""
        loop = io_loop.asyncio_loop
        selector = selectors.DefaultSelector()
        mine = {loop._ssock.fileno(), loop._csock.fileno()}
        for key in list(loop._selector.get_map().values()):
            if key.fd in self._closed or key.fd in mine:
                continue
            try:
                selector.register(key.fileobj, key.events, key.data)
            except (OSError, ValueError):
                pass
        self._kept.extend((loop._selector, loop._ssock, loop._csock))
        loop._selector = selector
        loop._internal_fds -= 1
        loop._make_self_pipe()
        for fd in self._closed:
            io_loop.handlers.pop(fd, None)
            io_loop.readers.discard(fd)
            io_loop.writers.discard(fd)
        # This thread may be another than the one that the loop was made for.
        asyncio.set_event_loop(loop)
        ioloop.IOLoop._ioloop_for_asyncio[loop] = io_loop

    @staticmethod
    def _connect_kernel(app, kernel):
        """Let the application connect its kernel as it always does, only that it is there already."""

        class Revived(Kernel):
            @classmethod
            def instance(cls, **connections):
                for name, value in connections.items():
                    if name not in _NOT_CONNECTIONS:
                        setattr(kernel, name, value)
                return kernel

        kernel_class = app.kernel_class
        app.kernel_class = Revived
        try:
            app.init_kernel()
        finally:
            app.kernel_class = kernel_class

    @staticmethod
    def _revive_debugger(kernel):
        debugger = getattr(kernel, "debugger", None)
        if debugger is None:
            return
        client = debugger.debugpy_client
        debugger.debugpy_client = type(client)(debugger.log, kernel.debugpy_stream, debugger._handle_event)
        debugger.shell_socket = kernel.debug_shell_socket

    def _heed_once(self, kernel, is_copy):
        """Run what is asked for again once only: a worker that died may have asked, or not, and the next asks again."""
        if self._plain is None:
            self._plain = kernel.shell_handlers["execute_request"]
        kernel.shell_handlers["execute_request"] = self._plain
        if not is_copy:
            return
        heeded = set()

        def execute_request(stream, ident, parent):
            msg_id = parent["header"]["msg_id"]
            if msg_id in heeded:
                return None
            heeded.add(msg_id)
            return self._plain(stream, ident, parent)

        kernel.shell_handlers["execute_request"] = execute_request

    def _revive_history(self, shell, writes):
        """A connection to the history of this process's own, and its thread; In and Out stay.

        What is to leave no trace gets none."""
        before = getattr(shell, "history_manager", None)
        if before is None:
            return
        if self._keeps_history is None:
            self._keeps_history = before.enabled
        if not self._keeps_history:
            return
        self._kept.extend((before, getattr(before, "db", None), getattr(before, "save_thread", None)))
        if before in shell.configurables:
            shell.configurables.remove(before)
        if writes:
            shell.init_history()
        else:
            shell.history_manager = type(before)(shell=shell, parent=shell, enabled=False)
            shell.configurables.append(shell.history_manager)
        for name in ("input_hist_parsed", "input_hist_raw", "dir_hist", "output_hist", "output_hist_reprs"):
            setattr(shell.history_manager, name, getattr(before, name))
        before.save_thread = None
        before.enabled = False


def _truncated(path):
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
