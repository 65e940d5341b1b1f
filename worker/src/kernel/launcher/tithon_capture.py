"""The hooks that feed the spool, as subclasses of ipykernel's own classes (6 and 7).

    SpooledIOPubThread  every iopub message, in the thread that produced it
    SpooledOutStream    every write to sys.stdout and sys.stderr at once, and fd 1 and 2
    SpooledSession      execute replies, input requests, shutdown replies
    SpooledKernelApp    puts them in place and says HELLO when all of them are

Each does its work and then what plain ipykernel does, so other Jupyter clients see no difference.
One thing is done less often: `stream` messages are not built while nobody subscribes to iopub.
"""

import atexit
import codecs
import faulthandler
import json
import os
import platform
import sys
import threading
import traceback

import ipykernel
import zmq
from ipykernel import kernelapp, kernelbase
from ipykernel.iostream import IOPubThread, OutStream
from IPython.core.interactiveshell import InteractiveShell
from jupyter_client.session import Session
from tornado import ioloop
from traitlets import default
from traitlets.config import Config
from zmq.eventloop.zmqstream import ZMQStream

import tithon_requests
import tithon_traceback
from tithon_checkpoint import Checkpointer
from tithon_fd import FdFile
from tithon_fork import open_descriptors
from tithon_revive import Infrastructure
from tithon_spool import (
    CONTROL,
    FLAG_FD,
    FLAG_FOR,
    FLAG_STDERR,
    HELLO,
    IOPUB,
    REPLY,
    STDIN_END,
    STDIN_REQ,
)

CRASH_LOG = "crash.log"

# Set while this thread sends messages derived from RAW records, which are not spooled again.
_derived = threading.local()


class SpooledIOPubThread(IOPubThread):
    """Spools each message before it is queued for zmq, and knows whether anyone listens."""

    spool = None  # set by install()
    _children = None  # where forked children send their output

    def __init__(self, *args, **kwargs):
        self._topics = set()
        self._flushes_owed = set()
        self._xpub_stream = None  # stays None where ipykernel has a PUB socket, which cannot tell
        super().__init__(*args, **kwargs)

    def _handle_subscription(self, frames):
        for event in frames:
            if event[:1] == b"\x01":
                self._topics.add(bytes(event[1:]))
            elif event[:1] == b"\x00":
                self._topics.discard(bytes(event[1:]))
        super()._handle_subscription(frames)

    def seems_unheard(self):
        """Whether no subscription was seen so far; for threads that only want to know if waiting is worth it."""
        return self._xpub_stream is not None and not self._topics

    def is_unheard(self):
        """Whether a message sent now would reach nobody; for the IO thread, which owns the socket.

        libzmq drops such a message itself. It learns of subscriptions when it is asked for something, and so
        do we here: one that has arrived is taken up (and welcomed) before the answer.
        """
        if not self.seems_unheard() or self.closed or threading.current_thread() is not self.thread:
            return False
        if self.socket.getsockopt(zmq.EVENTS) & zmq.POLLIN:
            self._xpub_stream.flush(zmq.POLLIN)
        return not self._topics

    def _setup_pipe_in(self):
        """Take what forked children send, beside the kernel's own socket: plain ipykernel opens a TCP port for
        it, to which every user of the machine can connect."""
        endpoint = self.socket.getsockopt(zmq.LAST_ENDPOINT).rstrip(b"\0").decode()
        if not endpoint.startswith("ipc://"):
            super()._setup_pipe_in()
            return
        # Their messages name it, so that nothing else is taken for one.
        self._pipe_uuid = os.urandom(16)
        pipe_in = self.socket.context.socket(zmq.PULL)
        pipe_in.linger = 0
        self._children = endpoint + "f"
        try:
            pipe_in.bind(self._children)
        except zmq.ZMQError as error:
            print(f"tithon: nothing is heard of forked children: {error}", file=sys.__stderr__)
            self._pipe_flag = False
            pipe_in.close()
            return
        self._pipe_in = ZMQStream(pipe_in, self.io_loop)
        self._pipe_in.on_recv(self._handle_pipe_msg)

    def _setup_pipe_out(self):
        if self._children is None:
            return super()._setup_pipe_out()
        context = zmq.Context()  # what the parent had is of no use behind a fork
        pipe_out = context.socket(zmq.PUSH)
        pipe_out.linger = 3000  # milliseconds, as in ipykernel
        pipe_out.connect(self._children)
        return context, pipe_out

    def owe_flush(self, outstream):
        """Note a flush that need not be waited for, but must come before the next message."""
        self._flushes_owed.add(outstream)

    def send_multipart(self, msg, *args, **kwargs):
        if not getattr(_derived, "sending", False):
            request = tithon_requests.starter_of(msg)
            if request is None:
                self.spool.put(IOPUB, msg)
            else:
                self.spool.put(IOPUB, [request.encode(), *msg], FLAG_FOR)
            while self._flushes_owed:
                try:
                    self.schedule(self._flushes_owed.pop()._flush)
                except KeyError:  # another thread took it
                    break
        super().send_multipart(msg, *args, **kwargs)


class SpooledOutStream(OutStream):
    """sys.stdout or sys.stderr: text is in the spool when `write` returns."""

    spool = None  # set by install()
    made = []  # every stream there is, replaced as sys.stdout or not
    _fd_file = None

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.made.append(self)

    @property
    def _flags(self):
        return FLAG_STDERR if self.name == "stderr" else 0

    def write(self, string):
        if isinstance(string, str) and string and self.pub_thread is not None:
            self.spool.text(self._flags, tithon_requests.starter(self), string)
        return super().write(string)

    def flush(self):
        self._drain_fd()
        thread = self.pub_thread
        if self.spool.active and self.echo is None and thread is not None and thread.seems_unheard():
            # Nobody to wait for. The timer that `write` set, or the next message, delivers to those who come.
            thread.owe_flush(self)
            return
        super().flush()

    def _flush(self):
        if self.spool.active and self.echo is None and not self._hooks and self.pub_thread.is_unheard():
            self._flush_pending = False
            self._subprocess_flush_pending = False
            self._rotate_buffers()
            return
        _derived.sending = self.spool.active
        try:
            super()._flush()
        finally:
            _derived.sending = False

    def forget_in_child(self):
        """Drop, in a forked child, what the parent has written and will publish itself: else both do."""
        # Another thread of the parent may have held it: nobody is left to release it.
        self._buffer_lock = threading.RLock()
        for discard in ("_rotate_buffers", "_flush_buffer"):  # ipykernel 7 and later 6, earlier 6
            if hasattr(self, discard):
                getattr(self, discard)()
                return

    # -- in a copy of the kernel

    def let_go(self):
        """Give up the file in place of the descriptor: its space would stay taken."""
        if self._fd_file is not None:
            os.dup2(self._original_stdstream_copy, self._original_stdstream_fd)
            self._fd_file.close()

    def revive(self, pub_thread):
        """Publish through another thread, in a process of its own."""
        self.pub_thread = pub_thread
        self._io_loop = pub_thread.io_loop
        self._master_pid = os.getpid()
        self._flush_pending = False
        self._subprocess_flush_pending = False
        self.forget_in_child()
        if self._fd_file is not None:
            fileno = self._original_stdstream_fd
            self._take_over(fileno, FdFile(self._fd_path(fileno)))

    # -- fd 1 and 2

    def _fd_path(self, fileno):
        return os.path.join(self.spool.directory, f"fd{fileno}.log")

    def _setup_stream_redirects(self, name):
        fileno = getattr(sys, name).fileno()
        try:
            fd_file = FdFile(self._fd_path(fileno))
        except OSError:
            self.spool.abandon()
            super()._setup_stream_redirects(name)
            return
        self._original_stdstream_fd = fileno
        self._original_stdstream_copy = os.dup(fileno)
        self._take_over(fileno, fd_file)

    def _take_over(self, fileno, fd_file):
        self._fd_decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._fd_lock = threading.RLock()
        self._exc = None
        fd_file.replace(fileno)
        self._fd_file = fd_file
        self.watch_fd_thread = threading.Thread(target=self._watch_fd_file, daemon=True, name=f"tithon-{self.name}")
        self.watch_fd_thread.start()

    def _watch_fd_file(self):
        while self._should_watch:
            self._drain_fd()
            self._fd_file.wait()

    def _drain_fd(self):
        """Take over what was written to the descriptor: at each flush, so that it lands in the cell that wrote it."""
        if self._fd_file is None or not self.spool.active:
            return
        self._fd_file.flush_c_stdio()
        with self._fd_lock:
            for data, end in self._fd_file.take():
                parent = getattr(self, "_parent_header_global", None) or self.parent_header
                self.spool.raw(
                    self._flags | FLAG_FD, parent.get("msg_id", ""), end.to_bytes(8, "little") + data
                )
                text = self._fd_decoder.decode(data)
                if text and self.pub_thread is not None:
                    super().write(text)


class SpooledSession(Session):
    """Spools what is sent on shell, stdin and control that a worker must not miss."""

    spool = None  # set by install()
    _KINDS = {"execute_reply": REPLY, "input_request": STDIN_REQ, "shutdown_reply": CONTROL}

    def serialize(self, msg, ident=None):
        frames = super().serialize(msg, ident)
        kind = self._KINDS.get(msg["header"]["msg_type"])
        if kind is not None:
            self.spool.put(kind, frames)
        return frames


class SpooledKernelApp(kernelapp.IPKernelApp):
    """ipykernel's application with the classes above in it."""

    spool = None  # set by install()

    def _session_default(self):
        return SpooledSession(parent=self)

    @default("outstream_class")
    def _outstream_class(self):
        return f"{__name__}.{SpooledOutStream.__name__}"

    def initialize(self, argv=None):
        if _shell_has_tips():
            # Choosing a tip for the banner draws from the user's `random`, at every kernel_info_request.
            self.update_config(Config({"InteractiveShell": {"enable_tip": False}}))
        super().initialize(argv)

    def start(self):
        if self.spool.active and isinstance(self.session, SpooledSession):
            self.greet()
            self._prepare_checkpoints()
        else:
            self.spool.abandon()
        super().start()
        order = self._serve_checkpoints()
        if order is not None:
            self.live_on(order)

    def greet(self):
        """Say in the spool that it records everything from here on."""
        hello = {
            "pid": os.getpid(),
            "python": platform.python_version(),
            "ipykernel": ipykernel.__version__,
        }
        self.spool.put(HELLO, [json.dumps(hello).encode()])

    # -- checkpoints

    _checkpointer = None

    def _prepare_checkpoints(self):
        """Be ready to be asked for checkpoints."""
        crash_log = os.path.join(self.spool.directory, CRASH_LOG)
        self._infrastructure = Infrastructure(self, SpooledOutStream.made, self.spool, crash_log)
        self._checkpointer = Checkpointer(self, self._infrastructure)
        # In the first turn of the event loop, before any message is read: all of the kernel is in place then.
        ioloop.IOLoop.current().add_callback(self._checkpointer.look_around)

    def _serve_checkpoints(self):
        """Make the checkpoints that the event loop was stopped for, until it stops for good.

        Returns None then, and in a copy that was woken what it was woken with.
        """
        while self._checkpointer is not None and self._checkpointer.is_wanted():
            order = self._checkpointer.serve()
            if order is not None:
                return order
            if getattr(self.kernel, "_shutdown_message", None) is not None:
                break  # asked to end in the same moment
            self._run_loop()
        return None

    def live_on(self, order):
        """In a copy that was woken: be the session's kernel, to its end."""
        code = 1
        try:
            while order is not None:
                descriptors = set(open_descriptors())
                self._infrastructure.revive(order)
                self._checkpointer.look_around(descriptors)
                self._run_loop()
                order = self._serve_checkpoints()
            code = 0
            # Not through the interpreter's own end: it would finalize what belongs to the kernel this is a copy of.
            threading._shutdown()
            atexit._run_exitfuncs()
        except BaseException:
            traceback.print_exc(file=sys.__stderr__)
        os._exit(code)

    def _run_loop(self):
        try:
            self.io_loop.start()
        except KeyboardInterrupt:
            pass


def install(spool):
    """Put the hooks in place; returns the application class to launch."""
    for hooked in (SpooledIOPubThread, SpooledOutStream, SpooledSession, SpooledKernelApp):
        hooked.spool = spool
    kernelapp.IOPubThread = SpooledIOPubThread
    tithon_requests.install(kernelbase.Kernel)
    tithon_traceback.install(InteractiveShell)
    kernelbase.Kernel._input_request = _spooled_input_request(spool, kernelbase.Kernel._input_request)
    _write_crashes_to(os.path.join(spool.directory, CRASH_LOG))
    os.register_at_fork(after_in_child=_forget_streams_in_child)
    # Registered first, so run last: after the sockets are closed and everything else has had its say.
    atexit.register(_close, spool)
    return SpooledKernelApp


def _forget_streams_in_child():
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, SpooledOutStream):
            stream.forget_in_child()


def _close(spool):
    if not spool.active:  # a forked child that ends
        return
    for stream in (sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__):
        if isinstance(stream, SpooledOutStream):
            stream._drain_fd()
    spool.close()


def _spooled_input_request(spool, plain):
    """Wraps a kernel's prompt, so that the spool tells when it is over."""

    def _input_request(self, *args, **kwargs):
        outcome = b"abandoned"
        try:
            answer = plain(self, *args, **kwargs)
            outcome = b"answered"
            return answer
        except EOFError:  # Ctrl-D is an answer
            outcome = b"answered"
            raise
        finally:
            spool.put(STDIN_END, [outcome])

    return _input_request


def _write_crashes_to(path):
    """Let a fatal signal leave its Python stack in a file of its own."""
    log = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
    faulthandler.enable(file=log)
    # A child's crash is not the kernel's: it belongs into the output of the cell that forked.
    os.register_at_fork(after_in_child=lambda: faulthandler.enable(file=sys.__stderr__))


def _shell_has_tips():
    return "enable_tip" in InteractiveShell.class_trait_names()
