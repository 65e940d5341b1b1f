"""Starts ipykernel with Tithon's spool: `python <here>/ipykernel_launcher.py -f <connection file>`.

Behaves as `python -m ipykernel_launcher` does, for the kernel's user and for every Jupyter client. The
name is the same too, because people and programs look for it in a kernel's command line.

    TITHON_SPOOL    directory of the spool; without it, or if anything about it fails, the kernel is a
                    plain one and its spool, if there is one, says no HELLO
    TITHON_SITE     a site-packages directory to lend to an interpreter that has no ipykernel
    TITHON_SPOOL_*  bounds, see `tithon_spool.Bounds`

These are gone from the environment before any code of the user runs.
"""

import importlib.util
import os
import sys

HERE = os.path.dirname(os.path.realpath(__file__))


def borrow_ipykernel(site):
    """Append the lent directory, never prepend: whatever the user has installed wins."""
    if site and importlib.util.find_spec("ipykernel") is None:
        sys.path.append(site)


def look_like_module():
    """Give sys.argv[0] the value it has under `-m`."""
    spec = importlib.util.find_spec("ipykernel_launcher")
    if spec is not None and spec.origin:
        sys.argv[0] = spec.origin


def spooled_app(directory):
    """The kernel application with its hooks; None if they do not fit this ipykernel."""
    from tithon_spool import Bounds, Spool

    bounds = Bounds.take_from(os.environ)
    if not directory:
        return None
    import tithon_capture

    return tithon_capture.install(Spool(directory, bounds))


def main():
    # The script's directory stands where `-m` has the current one, which plain ipykernel removes as well.
    if sys.path and os.path.realpath(sys.path[0]) in (HERE, os.getcwd()):
        del sys.path[0]
    directory = os.environ.pop("TITHON_SPOOL", None)
    borrow_ipykernel(os.environ.pop("TITHON_SITE", None))
    look_like_module()

    app = None
    sys.path.append(HERE)
    try:
        app = spooled_app(directory)
    except Exception as error:  # a kernel without a spool is better than no kernel
        print(f"tithon: no spool, starting a plain kernel: {error!r}", file=sys.stderr)
    finally:
        sys.path.remove(HERE)
    if app is None:
        from ipykernel.kernelapp import IPKernelApp as app
    app.launch_instance()


if __name__ == "__main__":
    main()
