"""Whether this process can be forked into a copy that works.

A fork has one thread. Whatever waits for another one afterwards waits for ever, so what is not known to
come through is refused, by name, rather than tried.
"""

import asyncio
import os
import sys
import threading

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
# Mapped libraries that put their threads up again in a copy, or do so for a thread that is new there.
_POOLS = ("openblas", "libgomp", "libomp", "libiomp", "mkl_", "libarrow", "numexpr", "blosc")
# Those that keep their team in the forking thread's own storage.
_TEAMS = ("libgomp", "libomp", "libiomp")
_HARMLESS = ("jemalloc_bg_thd",)
# Threads that come up again in a copy: IPython's own by `tithon_revive`, pyzmq's by pyzmq.
_RENEWED = ("HistorySavingThread", "GarbageCollectorThread")
# ipykernel's zmq contexts: one for its channels, one for its heartbeat.
_CONTEXTS = 2
_THREADS_OF_A_CONTEXT = 2
_ZMQ = "ZMQbg/"


class Surroundings:
    """Threads and descriptors of the kernel itself: what there is before any code of the user runs.

    In a copy that was woken the user's descriptors are there before it, and none of the user's threads is.
    `contexts` counts the zmq contexts that are not the user's.
    """

    def __init__(self, descriptors_before=(), contexts=_CONTEXTS):
        self._contexts = contexts
        self._threads = {id(thread): thread for thread in threading.enumerate()}
        self._tasks = set(_tasks())
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
        others = [thread.name for thread in python if self._is_foreign(thread)]
        if others:
            return f"threads: {', '.join(sorted(others)[:5])}"
        # Counted, not remembered: the heartbeat's context starts its threads whenever its own gets to it.
        contexts = self._contexts + any(type(thread).__name__ == "GarbageCollectorThread" for thread in python)
        tasks = _tasks().values()
        if sum(name.startswith(_ZMQ) for name in tasks) > _THREADS_OF_A_CONTEXT * contexts:
            return "zmq sockets of the session's own"
        for name in self.native(python):
            if name in _HARMLESS or name.startswith(_ZMQ):
                continue
            if name.startswith("pt_autograd"):
                return "torch (its autograd threads do not survive a fork)"
            if name.startswith(("tokio", "rayon", "polars", "cuda", "grpc")) or not _maps_any(_POOLS):
                return f"threads of a native library ({name})"
        return None

    def _is_foreign(self, thread):
        if id(thread) in self._threads and self._threads[id(thread)] is thread:
            return False
        return type(thread).__name__ not in _RENEWED

    def native(self, python=None):
        """The names of threads that native libraries have started since, zmq's included."""
        known = {thread.native_id for thread in python or threading.enumerate()}
        return [
            name for task, name in _tasks().items() if task not in known and task not in self._tasks
        ]

    def needs_fresh_thread(self):
        """Whether a native library may have put something into this thread that a copy must not find.

        A thread that was just created has nothing of the kind, and CPython makes it the copy's main thread.
        """
        return any(not name.startswith(_ZMQ) for name in self.native()) and _maps_any(_TEAMS)


def _default_loop_class():
    return getattr(asyncio, "_UnixSelectorEventLoop", None) or asyncio.SelectorEventLoop


def _tasks():
    tasks = {}
    for task in os.listdir("/proc/self/task") if _LINUX else ():
        try:
            with open(f"/proc/self/task/{task}/comm") as comm:
                tasks[int(task)] = comm.read().strip()
        except OSError:  # it has ended
            pass
    return tasks


def _descriptors():
    for fd in os.listdir("/proc/self/fd") if _LINUX else ():
        try:
            yield int(fd), os.readlink(f"/proc/self/fd/{fd}")
        except OSError:  # the one that lists them
            pass


def _maps_any(names):
    with open("/proc/self/maps", errors="replace") as maps:
        return any(name in line for line in maps for name in names)
