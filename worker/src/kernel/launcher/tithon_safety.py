"""Whether this process can be forked into a copy that works.

A fork has one thread. Whatever waits for another one afterwards waits for ever, so what is not known to
come through is refused, by name, rather than tried.
"""

import asyncio
import os
import sys
import threading
import time
import weakref

import tithon_native

# Elsewhere nobody tells what a process has open or which threads are native, so nothing is forked.
_LINUX = sys.platform == "linux"
# Libraries whose threads, once they run, are gone in a copy without the library knowing.
_NEVER = {
    "polars": "polars (its thread pool does not survive a fork)",
    "tensorflow": "tensorflow (its thread pools do not survive a fork)",
    "jaxlib": "jax (its thread pools do not survive a fork)",
    "duckdb": "duckdb (its thread pool does not survive a fork)",
    "ray": "ray (its connections belong to one process)",
    "grpc._cython.cygrpc": "grpc (its threads do not survive a fork)",
    "jpype": "jpype (a Java machine cannot be forked)",
}
_HARMLESS = ("jemalloc_bg_thd",)
_TORCH = ("pt_autograd", "PTThreadPool")
# What those that are known not to come through call their threads.
_NAMED = ("tokio", "rayon", "polars", "cuda", "grpc")
# Threads that come up again in a copy, IPython's own by `tithon_revive`, pyzmq's by pyzmq; or are not missed there:
# tqdm's, which only looks every ten seconds for bars that are seldom drawn.
_RENEWED = ("HistorySavingThread", "GarbageCollectorThread", "TMonitor")
# ipykernel's zmq contexts: one for its channels, one for its heartbeat.
_CONTEXTS = 2
_THREADS_OF_A_CONTEXT = 2
_ZMQ = "ZMQbg/"
# In seconds.
_MOMENT = 0.1


class Surroundings:
    """Threads and descriptors of the kernel itself: what there is before any code of the user runs.

    In a copy that was woken the user's descriptors are there before it, and none of the user's threads is.
    `contexts` counts the zmq contexts that are not the user's.
    """

    def __init__(self, descriptors_before=(), contexts=_CONTEXTS):
        self._contexts = contexts
        self._threads = {id(thread): thread for thread in threading.enumerate()}
        self._tasks = set(tithon_native.tasks())
        self._waited = weakref.WeakSet()
        self._verdicts = tithon_native.Verdicts()
        self.descriptors = {
            fd: kind
            for fd, kind in _descriptors()
            if kind.startswith(("socket:", "anon_inode:")) and fd not in descriptors_before
        }

    def obstacle(self, kernel, loop):
        """Why the process cannot be forked now, in words to follow "no checkpoint: "; None if it can."""
        if type(loop) is not _default_loop_class():
            return f"the event loop is a {type(loop).__module__}.{type(loop).__name__}"
        if getattr(kernel, "eventloop", None) is not None:
            return "a GUI event loop runs (%gui)"
        debugger = getattr(kernel, "debugger", None)
        if debugger is not None and getattr(debugger, "is_started", False):
            return "the debugger is attached"
        if getattr(kernel.shell, "exit_now", False):
            return "the code has told the kernel to exit"
        return self.obstacle_in_process()

    def obstacle_in_process(self):
        """The same of a process that is no kernel."""
        if not _LINUX:
            return "checkpoints need Linux (replay instead)"
        for module, words in _NEVER.items():
            if module in sys.modules:
                return words
        if getattr(sys.modules.get("numba.np.ufunc.parallel"), "_is_initialized", False):
            return "numba (its parallel threads do not survive a fork)"
        if any(kind.startswith("/dev/nvidia") for _, kind in _descriptors()):
            return "CUDA (a device's context cannot be forked)"
        return self._threads_of_others()

    def _threads_of_others(self):
        python = threading.enumerate()
        others = self._lasting([thread for thread in python if self._is_foreign(thread)])
        if others:
            return f"threads: {', '.join(sorted(others)[:5])}"
        # Counted, not remembered: the heartbeat's context starts its threads whenever its own gets to it.
        contexts = self._contexts + any(type(thread).__name__ == "GarbageCollectorThread" for thread in python)
        if sum(name.startswith(_ZMQ) for name in tithon_native.tasks().values()) > _THREADS_OF_A_CONTEXT * contexts:
            return "zmq sockets of the session's own"
        patience = time.monotonic() + _MOMENT
        words = self._native_obstacle(python)
        while words == tithon_native.UNKNOWN and time.monotonic() < patience:
            # One that Python has done with is still there for a moment, one that begins is there before.
            time.sleep(0.002)
            words = self._native_obstacle(threading.enumerate())
        return words

    def _native_obstacle(self, python):
        native = {task: name for task, name in self._native(python).items() if name not in _HARMLESS}
        if any(name.startswith(_TORCH) for name in native.values()):
            return "torch (its threads do not survive a fork)"
        for task, words in self._verdicts.strangers(native).items():
            name = native[task]
            if words:
                return words
            # It is a known pool's if there is one and it has no name of its own.
            if name.startswith(_NAMED) or not tithon_native.has_pools():
                return f"threads of a native library ({name})"
        return None

    def _is_foreign(self, thread):
        if id(thread) in self._threads and self._threads[id(thread)] is thread:
            return False
        return type(thread).__name__ not in _RENEWED

    def _lasting(self, threads):
        """The names of those that do not end in a moment, as a pool's do that was closed. Each is waited for once."""
        new = [thread for thread in threads if thread not in self._waited]
        patience = time.monotonic() + _MOMENT
        while any(thread.is_alive() for thread in new) and time.monotonic() < patience:
            time.sleep(0.002)
        self._waited.update(new)
        return [thread.name for thread in threads if thread.is_alive()]

    def _native(self, python=None):
        """The threads, and their names, that native libraries have started since, but for zmq's."""
        known = {thread.native_id for thread in python or threading.enumerate()}
        return {
            task: name
            for task, name in tithon_native.tasks().items()
            if task not in known and task not in self._tasks and not name.startswith(_ZMQ)
        }

    def needs_fresh_thread(self):
        """Whether a native library may have put something into this thread that a copy must not find.

        A thread that was just created has nothing of the kind, and CPython makes it the copy's main thread.
        """
        return bool(self._native()) and tithon_native.has_teams()


def _default_loop_class():
    return getattr(asyncio, "_UnixSelectorEventLoop", None) or asyncio.SelectorEventLoop


def _descriptors():
    for fd in os.listdir("/proc/self/fd") if _LINUX else ():
        try:
            yield int(fd), os.readlink(f"/proc/self/fd/{fd}")
        except OSError:  # the one that lists them
            pass
