"""What the variables of a frozen kernel are: said by a copy of it that ends with that.

Whatever a value does to say what it is, it does to the copy.
"""

import json
import os
import reprlib
import signal
import socket
import sys
import time

# How long a value may take, in seconds, and all of them; what does not heed that is ended by who asked.
_PATIENCE = 1.0
_PATIENCE_FOR_ALL = 4.0
# Bits of an integer that is shown in digits.
_BITS_MAX = 10_000
# Characters of a value's repr.
_REPR_MAX = 400


class _Late(BaseException):
    """Not caught by what catches every error."""


def show(connection, shell, most):
    """Tell whoever asked, and end."""
    _say(connection, {"pid": os.getpid()})
    os.setsid()
    signal.signal(signal.SIGALRM, _late)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGALRM})
    # Nobody is to hear what a value prints meanwhile.
    sys.stdout = sys.stderr = open(os.devnull, "w")
    hidden = shell.user_ns_hidden
    mine = [
        name
        for name, value in shell.user_ns.items()
        if isinstance(name, str) and not name.startswith("_") and (name not in hidden or hidden[name] is not value)
    ]
    _say(connection, {"of": len(mine)})
    enough = time.monotonic() + _PATIENCE_FOR_ALL
    for name in mine[:most]:
        if time.monotonic() > enough:
            break
        # One by one: what is told is told, whatever the next does.
        _say(connection, {"name": _sayable(name), **_described(shell.user_ns[name])})
    # The rest is up to who asked: this process, and what it started, is ended by its group's number.
    connection.shutdown(socket.SHUT_WR)
    connection.settimeout(None)
    connection.recv(1)
    os._exit(0)


def _described(value):
    signal.setitimer(signal.ITIMER_REAL, _PATIENCE, _PATIENCE)
    try:
        shown = _shortly(value)
    except _Late:
        shown = "<its repr takes too long>"
    except BaseException as error:
        shown = f"<its repr failed: {type(error).__name__}>"
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    return {"type": _sayable(type(value).__name__), "repr": _sayable(shown)}


def _sayable(text):
    """A lone surrogate is no text that could be said in JSON."""
    return str(text).encode("utf-8", "replace").decode()


def _shortly(value):
    """Containers by their first items: the repr of a long one takes its time."""
    if isinstance(value, int) and not isinstance(value, bool) and value.bit_length() > _BITS_MAX:
        return f"<an integer of {value.bit_length()} bits>"
    short = reprlib.Repr()
    short.maxlevel, short.maxstring, short.maxother, short.maxlong = 4, _REPR_MAX, _REPR_MAX, _REPR_MAX
    short.maxlist = short.maxtuple = short.maxset = short.maxfrozenset = short.maxdeque = short.maxarray = 20
    short.maxdict = 20
    # Its own for what has none of these: numpy's and pandas' are short by themselves, on lines of their own.
    short.repr_instance = lambda it, level: _cut(repr(it))
    return _cut(short.repr(value))


def _cut(text):
    return text if len(text) <= _REPR_MAX else text[: _REPR_MAX - 3] + "..."


def _late(signum, frame):
    raise _Late


def _say(connection, words):
    connection.sendall(json.dumps(words).encode() + b"\n")
