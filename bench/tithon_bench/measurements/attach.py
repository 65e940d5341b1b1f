"""A client that comes back: how long until it has everything, and how many bytes that takes."""

import statistics
import time

from tithon_bench.measurements import Measurement, keeps_sessions

_REPEATS = 10
_CELL_ROWS = 100


def attach_often(serving, last_seen_seq=0, session="default", repeats=_REPEATS):
    """Median seconds from sending `attach` on a new connection to `sync`, and what came."""
    times, frames = [], []
    for _ in range(repeats):
        with serving.connect() as client:
            begun = time.monotonic()
            synced, frames = client.attach(last_seen_seq, **serving.bind(session))
            times.append(synced - begun)
    return statistics.median(times), frames


class Returning(Measurement):
    """Something was run; clients attach to it."""

    lasting = True
    fits = staticmethod(keeps_sessions)


class AfterUpdates(Returning):
    name = "attach-updates"
    about = "attach to a cell that updated its progress bar"

    def prepare(self, peer, scale):
        peer.start()
        with peer.open() as client:
            peer.run(
                client,
                f"for i in range({scale.lines}): print(f'\\r{{i}} of {scale.lines}', end='', flush=True)",
            )
        return peer

    def measure(self, stage, scale, record):
        seconds, frames = attach_often(stage)
        record("attach", seconds * 1e3, "ms")
        record("bytes", sum(map(len, frames)), "B")


class AfterRows(Returning):
    name = "resume-rows"
    about = "resume by seq over rows of a journal"

    def prepare(self, peer, scale):
        peer.start()
        for rows in scale.rows:
            with peer.open(f"rows-{rows}") as client:
                # In turn, or consecutive writes would become one row. In small cells, or the Python program,
                # which is read over zmq, would lose most of them and have less to resume over.
                cell = f"for i in range({_CELL_ROWS}): print(i, flush=True, file=(sys.stdout, sys.stderr)[i & 1])"
                peer.run(client, "import sys", f"rows-{rows}")
                peer.run_all(client, [cell] * (rows // _CELL_ROWS), f"rows-{rows}")
        return peer

    def measure(self, stage, scale, record):
        for rows in scale.rows:
            seconds, frames = attach_often(stage, 1, f"rows-{rows}", repeats=3)
            if len(frames) < rows:
                raise RuntimeError(f"{len(frames)} frames of at least {rows} rows came: output was lost")
            record("resume", seconds, "s", size=rows)


class AfterCells(Returning):
    name = "attach-cells"
    about = "attach to a session of finished cells"

    def prepare(self, peer, scale):
        peer.start()
        for cells in scale.cells:
            with peer.open(f"cells-{cells}") as client:
                peer.run_all(client, ["print('hello')"] * cells, f"cells-{cells}")
        return peer

    def measure(self, stage, scale, record):
        for cells in scale.cells:
            seconds, frames = attach_often(stage, 0, f"cells-{cells}")
            record("attach", seconds * 1e3, "ms", size=cells)
            record("bytes", sum(map(len, frames)), "B", size=cells)


class AfterHistory(Returning):
    name = "attach-history"
    about = "attach to a session whose one cell printed so many MiB, and again after a restart"
    rounds_max = 3

    def prepare(self, peer, scale):
        peer.start()
        for size in scale.history_mib:
            with peer.open(f"history-{size}") as client:
                # Not flushed: the kernel's own large messages, so that nobody loses any.
                peer.run(client, f"for _ in range({size} * 1024): print('x' * 1023)", f"history-{size}")
        return peer

    def measure(self, stage, scale, record):
        for size in scale.history_mib:
            session = f"history-{size}"
            seconds, frames = attach_often(stage, 0, session, repeats=3)
            record("attach", seconds * 1e3, "ms", size=size)
            record("bytes", sum(map(len, frames)), "B", size=size)
            stage.kill_serving(session)
            stage.start()
            seconds, _ = attach_often(stage, 0, session, repeats=1)
            record("first attach after a restart", seconds * 1e3, "ms", size=size)


MEASUREMENTS = [AfterUpdates(), AfterRows(), AfterCells(), AfterHistory()]
