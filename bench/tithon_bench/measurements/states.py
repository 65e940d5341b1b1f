"""States: running code in one, beside snapshot-kernel; and what a checkpoint after each cell costs a session."""

import threading
import time

from tithon_bench.measurements import Measurement
from tithon_bench.processes import wait_until

_REPEATS = 5


class _Served(Measurement):
    """A server of its own for each round, which ends with it."""

    @staticmethod
    def fits(name):
        return name in ("tithon", "snapshot-kernel")

    def prepare(self, peer, scale):
        return peer.states()

    def measure(self, stage, scale, record):
        with stage as served:
            self.measure_served(served, scale, record)


class Executing(_Served):
    """Code that changes one element of something large."""

    def __init__(self, name, about, make, change, size):
        self.name = f"states-{name}"
        self.about = about
        self._make, self._change, self._size = make, change, size

    def measure_served(self, served, scale, record):
        served.make(self._make.format(size=getattr(scale, self._size)), "initial", "large")
        before = served.proportional_bytes()
        times = []
        for at in range(_REPEATS):
            begun = time.perf_counter()
            served.make(self._change, "large", f"changed-{at}")
            times.append(time.perf_counter() - begun)
        record("execute", sorted(times)[_REPEATS // 2] * 1e3, "ms")
        record("memory of a state", (served.proportional_bytes() - before) / _REPEATS / 2**20, "MiB")


class Chain(_Served):
    name = "states-chain"
    about = "states made one from another, all of them kept"

    def measure_served(self, served, scale, record):
        served.make("n = 0", "initial", "0")
        before = served.proportional_bytes()
        begun = time.perf_counter()
        for at in range(scale.states):
            served.make("n += 1", str(at), str(at + 1))
        record("execute", (time.perf_counter() - begun) / scale.states * 1e3, "ms")
        record("memory of a state", (served.proportional_bytes() - before) / scale.states / 2**20, "MiB")


class Refusing(_Served):
    name = "states-refusal"
    about = "running in a state that polars keeps from being forked, which is refused, and in one without it"

    @staticmethod
    def fits(name):
        return name == "tithon"

    def measure_served(self, served, scale, record):
        served.make("import polars; x = polars.DataFrame({'a': [1, 1, 2]}).group_by('a').len()", "initial", "unsafe")
        served.make("x = [1, 1, 2]", "initial", "safe")
        for what, state, error in (("refusal", "unsafe", "ForkUnsafe"), ("success", "safe", None)):
            times = []
            for _ in range(_REPEATS):
                begun = time.perf_counter()
                told = served.execute("len(x)", state, "made")
                times.append(time.perf_counter() - begun)
                if (told["error"] or {}).get("ename") != error:
                    raise RuntimeError(f"{what}: {told['error']}")
            record(what, sorted(times)[_REPEATS // 2] * 1e3, "ms")


class Interrupting(_Served):
    name = "states-interrupt"
    about = "from asking to the answer of an execution that does not end by itself, waiting at most 10 s"

    _CODES = {
        "loop": "while True: pass",
        "sleep": "import time; time.sleep(10)",
        "blocking read": "import os, select; r, w = os.pipe(); select.select([r], [], [], 10)",
    }

    def measure_served(self, served, scale, record):
        for what, code in self._CODES.items():
            ended = []

            def run(code=code):
                served.execute(code, exec_id="endless", connection=served.client())
                ended.append(time.perf_counter())

            running = threading.Thread(target=run)
            running.start()
            begun = time.perf_counter()
            wait_until(lambda: served.call("POST", "/interrupt", {"exec_id": "endless"})["interrupted"], "an execution")
            running.join()
            record(f"interrupt, {what}", ended[0] - begun, "s")


class Checkpoints(Measurement):
    name = "checkpoints"
    about = "the cells of a small notebook of numbers, with and without a checkpoint after each"

    _CELLS = (
        "import random, statistics; random.seed(1)",
        "values = [random.random() for _ in range({rows})]",
        "table = [{{'a': value, 'b': str(value)}} for value in values]",
        "print(statistics.fmean(values))",
        "groups = {{}}\nfor row in table: groups.setdefault(row['b'][2], []).append(row)",
        "sorted((len(rows), key) for key, rows in groups.items())",
        "table = sorted(table, key=lambda row: row['a'])",
        "squares = [value * value for value in values]",
        "for row in table: row['c'] = row['a'] * 2",
        "print(len(table), sum(squares))",
    )

    @staticmethod
    def fits(name):
        return name == "tithon"

    def measure(self, stage, scale, record):
        spent = {}
        for keep in (0, len(self._CELLS)):
            session = f"keeping-{keep}"
            connection = stage.open(session)
            connection.send("checkpoints", session=session, keep=keep)
            begun = time.perf_counter()
            for cell in self._CELLS:
                stage.run(connection, cell.format(rows=scale.table_rows), session)
            spent[keep] = time.perf_counter() - begun
            connection.close()
        without, kept = spent.values()
        record("notebook without", without, "s")
        record("notebook with", kept, "s")
        record("overhead", (kept / without - 1) * 100, "%")


MEASUREMENTS = [
    Executing(
        "array",
        "an element of a numpy array of 8-byte numbers",
        "import numpy; x = numpy.ones({size})",
        "x[0] = 2",
        "array_numbers",
    ),
    Executing(
        "table",
        "a value of a DataFrame of 8 columns",
        "import numpy, pandas; x = pandas.DataFrame(numpy.ones(({size}, 8)))",
        "x.iloc[0, 0] = 2",
        "table_rows",
    ),
    Executing("dicts", "one of many small dicts", "x = [{{'a': i}} for i in range({size})]", "x[0]['a'] = 2", "dicts"),
    Chain(),
    Refusing(),
    Interrupting(),
    Checkpoints(),
]
