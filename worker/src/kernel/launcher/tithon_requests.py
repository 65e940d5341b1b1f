"""For which request code runs: the one that started it, or started the thread or task it runs in.

ipykernel knows that of asyncio tasks, mostly. What a thread prints or shows it gives to the request that came
last: to whatever cell runs meanwhile. Other Jupyter clients go on seeing it so; the answer from here goes to
the spool alone.

    a thread             the request that started it, through any number of threads
    ThreadPoolExecutor   the request that submitted the work, not the one that made the pool
    a task, a callback   the request that created it
    a service of all     as ipykernel has it: see `_SERVES_ALL`
"""

import contextvars
import threading
from concurrent.futures import thread as pools

from jupyter_client.session import DELIM, extract_header

# Modules whose threads serve the whole process, whoever happened to be first to need them: tqdm's redraws the
# bars of every cell.
_SERVES_ALL = ("tqdm._monitor",)

# The msg_id of the request; "" in a thread that serves all.
_request = contextvars.ContextVar("tithon_request")
# Of the request that came last, which is what ipykernel falls back to.
_latest = ""


def of_this_code():
    """The msg_id of the request this code runs for, None if that is not known."""
    try:
        return _request.get()
    except LookupError:
        # Looked up without `current_thread()`, which would register threads that Python did not start.
        thread = threading._active.get(threading.get_ident())
        request = getattr(thread, "_tithon_request", None)
        if request is not None:
            _request.set(request)
        return request


def starter(stream):
    """The msg_id of the request that a write to an OutStream is for. Every print asks."""
    said = stream.parent_header.get("msg_id", "")
    request = of_this_code()
    if request is None:
        return said
    if not request:
        return _latest
    return request if said == _latest or not _was_told(stream) else said


def _was_told(stream):
    """Whether a stream's parent was set for this code, by ipykernel or by somebody else, and is no guess of it."""
    told = getattr(stream, "_parent_header", None)
    return not isinstance(told, contextvars.ContextVar) or told.get(None) is not None


def starter_of(frames):
    """For whom a message is, if that is not the request it names."""
    request = of_this_code()
    if not request or request == _latest:
        return None
    try:
        parent = frames[frames.index(DELIM) + 3]
    except (ValueError, IndexError):
        return None
    return request if _latest.encode() in parent else None


def install(kernel_class):
    """Follow requests into the threads and pools they start."""
    kernel_class.set_parent = _noticing(kernel_class.set_parent)
    threading.Thread.start = _marking(threading.Thread.start)
    work_item = getattr(pools, "_WorkItem", None)
    if work_item is not None:
        pools._WorkItem = _carrying(work_item)


def _noticing(plain):
    def set_parent(self, ident, parent, channel="shell"):
        if channel == "shell":
            global _latest
            _latest = extract_header(parent).get("msg_id", "")
            _request.set(_latest)
        return plain(self, ident, parent, channel)

    return set_parent


def _marking(plain):
    def start(self):
        request = of_this_code()
        if request is not None:
            serves_all = type(self).__module__ in _SERVES_ALL
            # Past a `__setattr__` of the user's class.
            object.__setattr__(self, "_tithon_request", "" if serves_all else request)
        return plain(self)

    start.__doc__ = plain.__doc__
    return start


def _carrying(plain):
    """Work that takes its request along. Below the frame that catches its errors, so that no traceback shows it."""

    class WorkItem(plain):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            self._tithon_request = of_this_code()

        def run(self, *args, **kwargs):
            if self._tithon_request is None:
                return super().run(*args, **kwargs)
            before = _request.set(self._tithon_request)
            try:
                return super().run(*args, **kwargs)
            finally:
                _request.reset(before)

    return WorkItem
