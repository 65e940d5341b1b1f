"""What one small cell costs: on a connection that is open, and as a process that comes and goes."""

import statistics
import subprocess
import time

from tithon_bench.client import DONE
from tithon_bench.measurements import Measurement


class RoundTrip(Measurement):
    name = "round-trip"
    about = "an empty cell, from `execute` to its end, on an open connection"
    lasting = True

    def prepare(self, peer, scale):
        peer.start()
        if peer.keeps:
            peer.connection = peer.open()
        return peer

    def measure(self, stage, scale, record):
        times = []
        for _ in range(scale.round_trips):
            begun = time.monotonic()
            if stage.keeps:
                stage.connection.send("execute", code="pass")
                stage.connection.until(DONE)
            else:
                stage.execute("pass")
            times.append(time.monotonic() - begun)
        record("median", statistics.median(times) * 1e3, "ms")
        record("95th percentile", sorted(times)[int(len(times) * 0.95)] * 1e3, "ms")


class WholeProcess(Measurement):
    name = "run-command"
    about = "`tithon run -c pass`, the whole process; of Jupyter, a script that connects, runs and leaves"
    lasting = True

    def prepare(self, peer, scale):
        peer.start()
        if peer.keeps:
            peer.open().close()
        return peer

    def measure(self, stage, scale, record):
        command = stage.run_command("pass")
        times = [timed(command, stage) for _ in range(scale.processes)]
        record("median", statistics.median(times) * 1e3, "ms")


def timed(command, stage):
    """Wall time of a process that must end well."""
    begun = time.monotonic()
    ended = subprocess.run(
        command,
        cwd=stage.workdir,
        env=getattr(stage, "environment", None),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        close_fds=False,
    )
    took = time.monotonic() - begun
    if ended.returncode != 0:
        raise RuntimeError(f"{command[0]} ended with {ended.returncode}: {ended.stderr.decode(errors='replace')}")
    return took


MEASUREMENTS = [RoundTrip(), WholeProcess()]
