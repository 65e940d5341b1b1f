"""What a session costs while nobody uses it."""

import time

from tithon_bench.measurements import Measurement, keeps_sessions
from tithon_bench.processes import cpu_seconds, private_bytes, proportional_bytes

_SETTLE = 2.0
# Ours give memory back when nothing has happened for ten seconds; being asked for a status is something.
_REST = 12.0


class Idle(Measurement):
    name = "idle"
    about = "memory and CPU of the serving processes with sessions that have run a cell and rest"
    fits = staticmethod(keeps_sessions)
    rounds_max = 2

    def measure(self, stage, scale, record):
        names = [f"idle-{i}" for i in range(scale.idle_workers)]
        stage.open(names[0]).close()
        first = stage.roles(names[0])
        time.sleep(_REST)
        for role, pid in first.items():
            record(f"private memory {role}, 1 session", private_bytes(pid) / 2**20, "MiB")
        for name in names[1:]:
            stage.open(name).close()
        roles = [stage.roles(name) for name in names]
        serving = {pid for each in roles for role, pid in each.items() if role != "kernel"}
        time.sleep(_REST)
        before = {pid: cpu_seconds(pid) for pid in serving}
        time.sleep(_SETTLE)
        burnt = sum(cpu_seconds(pid) - before[pid] for pid in serving)
        record("CPU at rest, all sessions", burnt / _SETTLE * 1e3, "ms/s", size=len(names))
        total = sum(proportional_bytes(pid) for pid in serving)
        record("memory per session, all serving processes", total / len(names) / 2**20, "MiB")
        if "worker" in first:
            workers = [each["worker"] for each in roles]
            shares = sum(map(proportional_bytes, workers)) / len(workers)
            record("memory per worker, its share", shares / 2**20, "MiB")
            supervisor = private_bytes(first["supervisor"])
            record("private memory supervisor, all sessions", supervisor / 2**20, "MiB")


MEASUREMENTS = [Idle()]
