"""Many clients on one flood, a quarter of them stopped: nobody else may notice."""

import json
import selectors
import subprocess
import sys
import time

from tithon_bench import apart, client
from tithon_bench.measurements import Measurement, keeps_sessions
from tithon_bench.peers.serving import ended
from tithon_bench.processes import Usage


_CELL = """
import sys
for i in range({lines}): print(i, 'x' * 200, flush=True, file=(sys.stdout, sys.stderr)[i & 1])
"""


class Subscribers(Measurement):
    name = "subscribers"
    about = "clients on one flood, a quarter of them accepting nothing; kernel's last line to the last reader's"
    fits = staticmethod(keeps_sessions)
    rounds_max = 3

    def measure(self, stage, scale, record):
        for size in scale.subscribers:
            self._flood(stage, size, scale.subscriber_lines, record)

    def _flood(self, serving, size, lines, record):
        session = f"subscribers-{size}"
        serving.open(session).close()
        stopped = [self._attached(serving, session) for _ in range(size // 4)]
        readers = Readers(serving, session, size - len(stopped))
        usage = Usage(serving.roles(session))
        begun = time.monotonic()
        exec_id = serving.submit([_CELL.format(lines=lines)], session)
        last, events, dropped = readers.until_end(exec_id)
        cpu, peak = usage.cpu(), usage.peak()
        record("last reader", last - begun, "s", size=size)
        record("readers dropped", dropped, "clients", size=size)
        record("events missing", max(0, (size - len(stopped)) * lines - events), "events", size=size)
        record("cpu serving", sum(cpu[role] for role in cpu if role != "kernel"), "s", size=size)
        record("peak memory serving", sum(peak[role] for role in peak if role != "kernel") / 2**20, "MiB", size=size)
        for connection in stopped:
            connection.close()

    @staticmethod
    def _attached(serving, session):
        connection = serving.connect()
        connection.attach(-1, **serving.bind(session))
        return connection


class Readers:
    """Clients that read, in a process of their own."""

    def __init__(self, serving, session, count):
        binding = json.dumps(serving.bind(session))
        command = apart.command(__name__, "read_all", serving.home / "daemon.sock", binding, count)
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        if self._process.stdout.readline() != "attached\n":
            raise RuntimeError("the readers could not attach")

    def until_end(self, exec_id):
        """When the last of them had the end, how many output events all had, and how many were dropped."""
        said, _ = self._process.communicate(exec_id + "\n", timeout=1800)
        if self._process.returncode != 0:
            raise RuntimeError("the readers failed")
        last, events, dropped = said.split()
        return float(last), int(events), int(dropped)


def read_all():
    """Body of the readers' process: `SOCKET BINDING COUNT`, then the execution's id on stdin."""
    path, binding, count = sys.argv[1], json.loads(sys.argv[2]), int(sys.argv[3])
    waiting = selectors.DefaultSelector()
    for _ in range(count):
        connection = client.Connection(path)
        connection.attach(-1, **binding)
        waiting.register(connection.socket, selectors.EVENT_READ, Reader(connection))
    print("attached", flush=True)
    marker = ended(sys.stdin.readline().strip())
    reading, events, dropped = count, 0, 0
    while reading:
        for key, _ in waiting.select():
            reader = key.data
            if reader.read(marker):
                continue
            waiting.unregister(key.fileobj)
            reading -= 1
            events += reader.events
            dropped += reader.dropped
    print(time.monotonic(), events, dropped, flush=True)


class Reader:
    """Counts what comes without looking at frames: it is to be as fast as reading can be."""

    def __init__(self, connection):
        self._connection = connection
        self._tail = b""
        self.events = 0
        self.dropped = False

    def read(self, marker):
        """Take what is there; false at the end."""
        chunk = self._connection.socket.recv(1 << 18)
        self.dropped = not chunk
        self._connection.answer_pings_in(chunk)
        text = self._tail + chunk
        end = not chunk or marker in text
        # What a chunk's end may have cut is looked at again with the next, and counted then.
        self._tail = b"" if end else text[1 - len(marker) :]
        self.events += text.count(_OUTPUT) - self._tail.count(_OUTPUT)
        return not end


_OUTPUT = b'"kind": "output"'

MEASUREMENTS = [Subscribers()]
