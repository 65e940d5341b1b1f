"""How long until the first cell has run: with nothing there, and with a daemon that has other sessions."""

import time

from tithon_bench.measurements import Measurement
from tithon_bench.measurements.round_trip import timed


class Cold(Measurement):
    name = "cold-start"
    about = "from nothing to the end of a first cell: daemon, kernel, cell"

    def prepare(self, peer, scale):
        return peer

    def measure(self, stage, scale, record):
        begun = time.monotonic()
        stage.start()
        if stage.keeps:
            stage.open().close()
        else:
            stage.execute("pass")
        record("time", time.monotonic() - begun, "s")


class Warm(Measurement):
    name = "warm-start"
    about = "a new session beside others, to the end of its first cell; of Jupyter, another kernel"

    def prepare(self, peer, scale):
        peer.start()
        if peer.keeps:
            peer.open().close()
        else:
            peer.close()
            peer.__init__(peer._python)
        return peer

    def measure(self, stage, scale, record):
        if stage.keeps:
            record("time", timed(stage.run_command("pass", "another"), stage), "s")
            return
        begun = time.monotonic()
        stage.start()
        stage.execute("pass")
        record("time", time.monotonic() - begun, "s")


MEASUREMENTS = [Cold(), Warm()]
