"""Runs code in the copy of a state, and says what came of it as a notebook would.

An order is {"run": [code, ...], "number": cells that ran before, "aliases": [name, ...]}; with aliases a descriptor
follows for each, behind which another state's values are had. The answer:

    {"outputs": [...], "error": null or {"ename", "evalue", "traceback"}, "accessed_symbols": [...],
     "modified_symbols": [...], "deleted_symbols": [...], "fork_unsafe": why the copy cannot be forked, or null}

What code prints goes to the standard descriptors as they are and is not part of it. Of several codes only the
last one's outputs are told; one that fails is the last.
"""

import ast
import asyncio
import builtins
import ctypes
import inspect
import io
import linecache
import os
import signal
import sys
import traceback

import tithon_display
import tithon_namespace
import tithon_questions

_INTERRUPT = {signal.SIGINT}
# Most entries of a traceback from its beginning, and from its end.
_LINES_HALF = 50
_AWAIT = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT


class Cell:
    """The names of this state and how code runs with them."""

    def __init__(self):
        self.namespace = tithon_namespace.fresh()
        self._outputs = tithon_display.Outputs()
        builtins.display = self._outputs.display
        tithon_display.patch_imports(self._outputs)
        sys.stdin = open(os.devnull)

    def perform(self, order, channel, surroundings):
        """Do what is ordered and answer; true if this process is a state now."""
        if "run" in order:
            return self._run(order, channel, surroundings)
        return tithon_questions.answer(order, self.namespace, channel, surroundings)

    def _run(self, order, channel, surroundings):
        aliases = [tithon_questions.OtherState(channel.descriptor()) for _ in order["aliases"]]
        for name, alias in zip(order["aliases"], aliases):
            self.namespace[name] = alias.proxy()
        error = None
        symbols = {"accessed_symbols": [], "modified_symbols": [], "deleted_symbols": []}
        # It is blocked in a state, so one that comes before the code begins waits for that, and is not lost.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        streams = _Streams()
        for place, code in enumerate(order["run"], 1):
            self._outputs.begin()
            streams.begin(is_last=place == len(order["run"]))
            error, symbols = self._run_one(code, f"<cell {order['number'] + place}>")
            streams.flush()
            if error:
                break
        streams.end()
        obstacle = None if error or aliases else surroundings.obstacle_in_process()
        channel.send({"outputs": self._outputs.taken(), "error": error, **symbols, "fork_unsafe": obstacle})
        return error is None and not aliases

    def _run_one(self, code, name):
        tree, watch = None, None
        try:
            tree = ast.parse(code, name)
            watch = tithon_namespace.Watch(self.namespace, tree)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _INTERRUPT)
            try:
                self._execute(code, tree, name)
            finally:
                signal.pthread_sigmask(signal.SIG_BLOCK, _INTERRUPT)
            return None, watch.ended(self.namespace)
        except BaseException as error:
            signal.pthread_sigmask(signal.SIG_BLOCK, _INTERRUPT)
            told = _told(error, name)
            symbols = (watch or tithon_namespace.Watch(self.namespace, tree)).ended(self.namespace)
            return told, symbols

    def _execute(self, code, tree, name):
        lines = code.splitlines(keepends=True)
        linecache.cache[name] = (len(code), None, lines, name)
        last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
        result = None
        if last is None:
            self._evaluate(tree, name, "exec")
        else:
            # Both are compiled first: code that is wrong anywhere does nothing.
            before = self._compiled(tree, name, "exec")
            expression = self._compiled(ast.Expression(last.value), name, "eval")
            self._evaluated(before)
            result = self._evaluated(expression)
        self._outputs.figures()
        if result is not None:
            self._outputs.result(result)

    def _evaluate(self, tree, name, mode):
        return self._evaluated(self._compiled(tree, name, mode))

    @staticmethod
    def _compiled(tree, name, mode):
        return compile(tree, name, mode, flags=_AWAIT, dont_inherit=True)

    def _evaluated(self, code):
        value = eval(code, self.namespace)
        if code.co_flags & inspect.CO_COROUTINE:
            return asyncio.run(value)
        return value


class _Streams:
    """Standard output and error: of the last cell what the server reads, of those before it nothing."""

    def __init__(self):
        self._read = os.dup(1), os.dup(2)
        self._null = os.open(os.devnull, os.O_RDWR)

    def begin(self, is_last):
        for name, fd, read in zip(("stdout", "stderr"), (1, 2), self._read):
            os.dup2(read if is_last else self._null, fd)
            file = io.BufferedWriter(io.FileIO(fd, "w", closefd=False))
            stream = io.TextIOWrapper(file, encoding="utf-8", errors="backslashreplace", line_buffering=True)
            setattr(sys, name, stream)
            setattr(sys, f"__{name}__", stream)

    @staticmethod
    def flush():
        for stream in (sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__):
            try:
                stream.flush()
            except Exception:  # the user's own, or closed
                pass
        ctypes.CDLL(None).fflush(None)

    def end(self):
        """A state prints nothing."""
        os.dup2(self._null, 1)
        os.dup2(self._null, 2)
        for fd in (*self._read, self._null):
            os.close(fd)


def _told(error, name):
    """An exception as an answer's `error`, without the frames that are ours."""
    if isinstance(error, KeyboardInterrupt):
        return {"ename": "KeyboardInterrupt", "evalue": "", "traceback": ["KeyboardInterrupt"]}
    frames = error.__traceback__
    while frames is not None and frames.tb_frame.f_code.co_filename != name:
        frames = frames.tb_next
    try:
        lines = traceback.format_exception(type(error), error, frames)
    except Exception:
        lines = [f"{type(error).__name__}\n"]
    try:
        words = str(error)
    except Exception:
        words = "<str() of it failed>"
    lines = [tithon_display.cut(line) for line in lines[:_LINES_HALF] + lines[_LINES_HALF:][-_LINES_HALF:]]
    return {"ename": type(error).__name__, "evalue": tithon_display.cut(words), "traceback": lines}
