"""The two programs that serve the client protocol: Tithon and the Python program."""

import hashlib
import json
import os
import shutil
import socket
import subprocess
import tempfile
from pathlib import Path

from tithon_bench.client import Connection, ConnectionEnded
from tithon_bench.peers import states
from tithon_bench.processes import alive, kill, wait_until


# An hour: ten thousand cells of the slowest peer.
_CELL_TIMEOUT = 3600
_EVENT = b'"op": "event"'


def ended(exec_id):
    """What only the event of this execution's end contains."""
    return f'"exec_id": "{exec_id}", "kind": "done"'.encode()


class Serving:
    """A daemon in a home of its own. Closing it ends everything it started."""

    keeps = True  # sessions outlive their clients, so there is something to attach to
    lists_all = False  # a new daemon lists sessions before anybody asks for them
    launch = {}

    def __init__(self, program):
        self.program = str(program)
        # Short: a socket's path has 108 bytes.
        self.home = Path(tempfile.mkdtemp(prefix="tb-"))
        self.workdir = self.home / "work"
        self.workdir.mkdir()
        self.environment = dict(os.environ, TITHON_HOME=str(self.home))
        self._daemon = None
        self._seen = set()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    # -- the daemon

    def start(self):
        """Start the daemon and wait until it takes connections."""
        with open(self.home / "bench.log", "ab") as log:
            self._daemon = subprocess.Popen(
                self.command("daemon"),
                env=self.environment,
                cwd=self.workdir,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        wait_until(self._answers, f"{self.program} to listen")
        return self

    def _answers(self):
        if self._daemon.poll() is not None:
            raise ConnectionEnded(f"the daemon ended with {self._daemon.returncode}: {self.last_words()}")
        with socket.socket(socket.AF_UNIX) as probe:
            try:
                probe.connect(str(self.home / "daemon.sock"))
            except OSError:
                return False
        return True

    def last_words(self):
        """The end of what the daemon said."""
        try:
            return (self.home / "bench.log").read_text(errors="replace")[-2000:]
        except OSError:
            return ""

    def kill_daemon(self):
        """SIGKILL the process with the public socket."""
        kill(self._daemon.pid)
        self._daemon.wait()

    def kill_serving(self, session="default"):
        """SIGKILL everything between clients and this session's kernel."""
        self.kill_daemon()

    def close(self):
        pids = set()
        try:
            if self._daemon is None or self._daemon.poll() is not None:
                self.start()
            pids |= self._living()
            with self.connect() as connection:
                connection.send("shutdown", kill_kernels=True)
                connection.expect("shutting_down")
            self._daemon.wait(120)
        except (ConnectionEnded, OSError, TimeoutError, subprocess.TimeoutExpired):
            pass
        finally:
            for pid in pids | self._living() | {self._daemon.pid if self._daemon else None} - {None}:
                if self._is_mine(pid):
                    kill(pid)
            if self._daemon:
                self._daemon.wait()
            shutil.rmtree(self.home, ignore_errors=True)

    def _living(self):
        """Kernels and workers, whose ids are in the sessions' files."""
        pids = set()
        for path in (self.home / "sessions").rglob("kernel.pid"):
            pids.add(int(path.read_text()))
        for path in (self.home / "sessions").rglob("worker.json"):
            pids.add(json.loads(path.read_text())["pid"])
        return {pid for pid in pids if alive(pid)}

    def _is_mine(self, pid):
        try:
            return str(self.home).encode() in Path(f"/proc/{pid}/environ").read_bytes()
        except OSError:
            return False

    # -- clients

    def command(self, *words):
        return [self.program, *map(str, words)]

    def connect(self):
        return Connection(self.home / "daemon.sock")

    def open(self, session="default"):
        """A connection that listens to a session whose kernel has run a cell."""
        connection = self.connect()
        connection.attach(-1, **self.bind(session))
        self.run(connection, "pass", session)
        return connection

    def bind(self, session="default"):
        """The fields with which an operation says what it is about."""
        return {"session": session, "workdir": str(self.workdir), **self.launch}

    def run(self, connection, code, session="default"):
        """Run a cell to its end on a connection that listens; when that was, and every frame that came."""
        return self.follow(connection, self.submit([code], session), session)

    def run_all(self, connection, codes, session="default"):
        """The same for many cells at once."""
        return self.follow(connection, self.submit(codes, session), session)

    def submit(self, codes, session="default"):
        """Submit cells; the id of the last, once they are acknowledged.

        On a connection of its own: one that listens may hear of the end before the acknowledgement.
        """
        with self.connect() as connection:
            connection.send("execute_batch", cells=[{"code": code} for code in codes], **self.bind(session))
            return connection.expect("execute_ack")["exec_ids"][-1]

    def follow(self, connection, exec_id, session="default"):
        """Listen to the end of a cell as an editor does: one that is dropped comes back with its last seq.

        Returns when the end was there, every frame, and how often it was dropped.
        """
        frames, dropped, again = [], 0, None
        while True:
            try:
                seen, came = (again or connection).until(ended(exec_id), _CELL_TIMEOUT)
            except ConnectionEnded as error:
                frames += error.frames
                dropped += 1
                last = next((json.loads(frame)["seq"] for frame in reversed(frames) if _EVENT in frame), 0)
                if again:
                    again.close()
                again = self.connect()
                again.send("attach", last_seen_seq=last, **self.bind(session))
            else:
                if again:
                    again.close()
                return seen, frames + came, dropped

    def status(self, session="default"):
        with self.connect() as connection:
            connection.send("status", **self.bind(session))
            return connection.expect("status_reply")

    def sessions(self):
        """The status of every session there is."""
        with self.connect() as connection:
            connection.send("status")
            return connection.expect("status_reply")["sessions"]

    # -- what it left on disk

    def directory(self, session="default"):
        if session == "default":
            return self.home / "sessions" / "default"
        # PROTOCOL §3: a name that is no file, with a working directory.
        return self.home / "sessions" / hashlib.sha256(session.encode()).hexdigest()[:16]

    def journal(self, session="default"):
        return self.directory(session) / "journal.db"


class Tithon(Serving):
    """This repository's program."""

    lists_all = True

    def __init__(self, program, kernel_python):
        super().__init__(program)
        self.launch = {"launch": {"python": str(kernel_python)}}
        self._python = kernel_python

    def roles(self, session="default"):
        status = self.status(session)
        return {
            "supervisor": self._daemon.pid,
            "worker": status["worker_pid"],
            "kernel": status["kernel_pid"],
        }

    def kill_serving(self, session="default"):
        worker = self.status(session)["worker_pid"]
        self.kill_daemon()
        kill(worker)

    def run_command(self, code, session="default"):
        return self.command("run", "--python", self._python, "--session", session, "-c", code)

    def states(self):
        return states.of_tithon(self.program)


class PythonTithon(Serving):
    """The Python program."""

    def roles(self, session="default"):
        return {"daemon": self._daemon.pid, "kernel": self.status(session)["kernel_pid"]}

    def run_command(self, code, session="default"):
        return self.command("run", "--session", session, "-c", code)
