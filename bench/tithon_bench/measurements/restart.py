"""The daemon is killed and started again while kernels run."""

import threading
import time

from tithon_bench.client import ConnectionEnded
from tithon_bench.measurements import Measurement, keeps_sessions

_TICKS = "import time\nfor i in range({count}):\n    print(i, flush=True)\n    time.sleep(0.01)"


class Restart(Measurement):
    name = "restart"
    about = "kill -9 of the daemon, and a new one: until all sessions are listed, until all are attached to"
    fits = staticmethod(keeps_sessions)
    lasting = True
    rounds_max = 3

    def prepare(self, peer, scale):
        peer.start()
        peer.names = []
        return peer

    def measure(self, stage, scale, record):
        # Sizes grow within the first round; later rounds find the sessions there, and restart them all.
        for size in scale.sessions:
            while len(stage.names) < size:
                name = f"session-{len(stage.names)}"
                stage.open(name).close()
                stage.names.append(name)
            if len(stage.names) == size:
                self._restart(stage, stage.names, record)

    @staticmethod
    def _restart(stage, names, record):
        stage.kill_daemon()
        begun = time.monotonic()
        stage.start()
        listening = time.monotonic()
        record("listening", (listening - begun) * 1e3, "ms", size=len(names))
        # The Python program lists a session only once somebody has asked for it.
        if stage.lists_all:
            while sum(one.get("kernel_pid") is not None for one in stage.sessions()) < len(names):
                time.sleep(0.001)
            record("all listed", (time.monotonic() - begun) * 1e3, "ms", size=len(names))
        for name in names:
            with stage.connect() as client:
                client.attach(0, **stage.bind(name))
        record("all attached", (time.monotonic() - begun) * 1e3, "ms", size=len(names))


class HistoryAgain(Measurement):
    name = "restart-history"
    about = "everything but the kernel is killed and started again: until a client has a history of cells"
    fits = staticmethod(keeps_sessions)
    lasting = True

    def prepare(self, peer, scale):
        peer.start()
        with peer.open() as client:
            peer.run_all(client, ["print('hello')"] * min(1_000, scale.cells[-1]))
        return peer

    def measure(self, stage, scale, record):
        stage.kill_serving()
        begun = time.monotonic()
        stage.start()
        listening = time.monotonic()
        with stage.connect() as client:
            synced, frames = client.attach(0, **stage.bind())
        if sum(map(len, frames)) < min(1_000, scale.cells[-1]) * 100:
            raise RuntimeError("the history did not come")
        record("from start", (synced - begun) * 1e3, "ms")
        record("from listening", (synced - listening) * 1e3, "ms")


class Pause(Measurement):
    name = "restart-stream"
    about = "the daemon is killed and started again while a client follows a cell that prints every 10 ms"
    fits = staticmethod(keeps_sessions)

    def measure(self, stage, scale, record):
        count = 300
        with stage.open() as client:
            stage.submit([_TICKS.format(count=count)])
            arrivals, broken = [], threading.Event()
            follower = threading.Thread(target=self._follow, args=(stage, client, arrivals, broken))
            follower.start()
            time.sleep(1)
            stage.kill_daemon()
            stage.start()
            follower.join(120)
        if follower.is_alive() or not arrivals:
            raise RuntimeError("the cell did not end")
        gaps = [after - before for before, after in zip(arrivals, arrivals[1:])]
        record("longest pause", max(gaps) * 1e3, "ms")
        record("connections lost", float(broken.is_set()), "connections")

    @staticmethod
    def _follow(serving, client, arrivals, broken):
        """Follows to the end of the cell; one whose connection is lost comes back as soon as it can."""
        seq, opened = -1, []
        while True:
            try:
                frame = client.receive()
            except ConnectionEnded:
                broken.set()
                while True:
                    try:
                        client = serving.connect()
                        client.send("attach", last_seen_seq=seq, **serving.bind())
                        opened.append(client)
                        break
                    except (ConnectionEnded, OSError):
                        time.sleep(0.005)
                continue
            if frame["op"] == "event":
                seq = frame["seq"]
                arrivals.append(time.monotonic())
                if frame["kind"] == "done":
                    break
        for connection in opened:
            connection.close()


MEASUREMENTS = [Restart(), HistoryAgain(), Pause()]
