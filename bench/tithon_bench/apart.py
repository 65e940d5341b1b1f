"""Parts of the bench that run in processes of their own, so that they neither wait for it nor delay it."""

import sys


def command(module, function, *arguments):
    """The command line of a process that calls a function of ours; it finds its arguments in `sys.argv`."""
    code = f"import sys; sys.path[:0] = {sys.path!r}; from {module} import {function}; {function}()"
    return [sys.executable, "-B", "-c", code, *map(str, arguments)]
