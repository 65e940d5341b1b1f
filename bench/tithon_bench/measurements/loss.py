"""What is lost when whatever stands between kernel and client is killed in the middle of a flood."""

import random
import time

from tithon_bench import journal
from tithon_bench.measurements import Measurement
from tithon_bench.measurements.floods import lines_lost
from tithon_bench.processes import wait_until

# Long enough for every kill to find it running, whoever prints it.
_CELL = "import time\nfor i in range({lines}):\n    print(i, flush=True)\n    if not i % 200: time.sleep(0.02)"


class Killed(Measurement):
    name = "kill-serving"
    about = "kill -9 of everything between clients and kernel, at random moments of a flood; of Jupyter, of its client"

    def measure(self, stage, scale, record):
        (self._serving if stage.keeps else self._bare)(stage, scale, record)

    def _serving(self, serving, scale, record):
        serving.open().close()
        exec_id = serving.submit([_CELL.format(lines=scale.lines)])
        kills = 0
        while kills < scale.kills and self._runs(serving, exec_id):
            time.sleep(random.uniform(0.05, 0.3))
            serving.kill_serving()
            serving.start()
            kills += 1
        wait_until(lambda: not self._runs(serving, exec_id), "the cell to end", 600, 0.05)
        wanted = [str(i) for i in range(scale.lines)]
        record("lines lost or doubled", lines_lost(journal.text_of(serving.journal(), exec_id), wanted), "lines")
        record("ended badly", float(self._state(serving, exec_id) != "done"), "cells")
        record("kills", kills, "kills")

    def _runs(self, serving, exec_id):
        return self._state(serving, exec_id) in ("queued", "running")

    @staticmethod
    def _state(serving, exec_id):
        # The Python program takes a session up again when a client asks for it.
        with serving.connect() as client:
            client.send("attach", last_seen_seq=0, **serving.bind())
            executions = client.expect("snapshot")["executions"]
        return next(one["status"] for one in executions if one["exec_id"] == exec_id)

    def _bare(self, bare, scale, record):
        """A subscriber that dies and comes back at once: what was published meanwhile is gone."""
        bare.execute("pass")
        wanted = [str(i) for i in range(scale.lines)]
        text = bare.flood_with_kills(_CELL.format(lines=scale.lines), scale.kills)
        record("lines lost or doubled", lines_lost(text, wanted), "lines")
        record("kills", scale.kills, "kills")


MEASUREMENTS = [Killed()]
