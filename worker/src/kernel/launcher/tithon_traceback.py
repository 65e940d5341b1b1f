"""Tracebacks without the launcher's own frames: who interrupts a print wants to see their own code.

IPython's `__tracebackhide__` would not do: it leaves a line for what is hidden, and never hides the last frame.
"""

import os
import types

_OURS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "")


def install(shell_class):
    """Leave our frames out of what a shell shows; one that shows errors in another way shows them all."""
    plain = getattr(shell_class, "_get_exc_info", None)
    if plain is not None:
        shell_class._get_exc_info = _without_ours(plain)


def _without_ours(plain):
    def _get_exc_info(self, exc_tuple=None):
        kind, error, frames = plain(self, exc_tuple)
        return kind, error, _others(frames) or frames

    return _get_exc_info


def _others(frames):
    """The traceback without the frames of files beside this one; None if there is no other."""
    kept = []
    while frames is not None:
        if not frames.tb_frame.f_code.co_filename.startswith(_OURS):
            kept.append(frames)
        frames = frames.tb_next
    rest = None
    for entry in reversed(kept):
        rest = types.TracebackType(rest, entry.tb_frame, entry.tb_lasti, entry.tb_lineno)
    return rest
