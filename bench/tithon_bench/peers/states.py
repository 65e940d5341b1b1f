"""The two servers of states: `tithon states serve` and snapshot-kernel, in one environment, on a TCP port each."""

import http.client
import json
import os
import shutil
import socket
import subprocess
import tempfile
from pathlib import Path
from urllib.parse import quote

from tithon_bench import environments
from tithon_bench.processes import wait_until

_TOKEN = "bench"
_PATIENCE = 600


class Served:
    """A running server. Leaving it ends it and everything it started."""

    def __init__(self, command, environment):
        self._home = Path(tempfile.mkdtemp(prefix="tb-"))
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self._port = free.getsockname()[1]
        with open(self._home / "bench.log", "wb") as log:
            self._server = subprocess.Popen(
                [*map(str, command), "--bind", f"127.0.0.1:{self._port}", "--token", _TOKEN],
                env=dict(os.environ, TITHON_HOME=str(self._home), **environment),
                cwd=self._home,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self.connection = None

    def __enter__(self):
        def listens():
            if self._server.poll() is not None:
                raise RuntimeError((self._home / "bench.log").read_text(errors="replace")[-2000:])
            try:
                return self.call("GET", "/states")
            except OSError:
                return None

        wait_until(listens, "the server of states to listen")
        return self

    def __exit__(self, *_):
        self._server.terminate()
        try:
            self._server.wait(30)
        except subprocess.TimeoutExpired:
            self._server.kill()
            self._server.wait()
        shutil.rmtree(self._home, ignore_errors=True)

    def client(self):
        return http.client.HTTPConnection("127.0.0.1", self._port, timeout=_PATIENCE)

    def call(self, method, path, body=None, connection=None):
        """One request on the connection that is kept, or another; its answer."""
        if connection is None:
            connection = self.connection = self.connection or self.client()
        content = None if body is None else json.dumps(body)
        try:
            connection.request(method, f"{path}?token={_TOKEN}", content, {"Content-Type": "application/json"})
            return json.loads(connection.getresponse().read())
        except (OSError, http.client.HTTPException) as error:
            self.connection = None
            raise ConnectionError(f"{method} {path}: {error}") from error

    def execute(self, code, state="initial", name=None, exec_id="bench", connection=None):
        body = {"code": code, "exec_id": exec_id, "state_name": state}
        if name is not None:
            body["new_state_name"] = name
        return self.call("POST", "/execute", body, connection)

    def make(self, code, state, name):
        """Execute what succeeds."""
        told = self.execute(code, state, name)
        if told["error"]:
            raise RuntimeError(f"{code}: {told['error']}")

    def delete(self, name):
        self.call("DELETE", f"/states/{quote(name, safe='')}")

    def proportional_bytes(self):
        """What the server and all that descends from it hold; a page that several share counts once."""
        total, waiting = 0, [self._server.pid]
        while waiting:
            pid = waiting.pop()
            try:
                waiting += map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())
                for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
                    if line.startswith("Pss:"):
                        total += int(line.split()[1]) * 1024
            except OSError:  # it has ended
                pass
        return total


class SnapshotKernel:
    """snapshot-kernel 0.2.1."""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def states(self):
        return Served([environments.environment(environments.STATES), "-m", "snapshot_kernel.main"], {})


def of_tithon(program):
    python = environments.environment(environments.STATES)
    return Served([program, "states", "serve", "--python", python, "--memory-max", "infinity"], {})
