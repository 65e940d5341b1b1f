"""A session's journal seen from outside: when a cell's end is in it, what it holds, and its size on disk."""

import json
import sqlite3
import subprocess
import sys
import time

from tithon_bench import apart

_PAUSE = 0.002


class Watch:
    """A process that looks into a journal until a cell has ended there. The same for all who keep one.

    It is a process of its own, so that it neither waits for the client nor delays it.
    """

    def __init__(self, path, exec_id):
        command = apart.command(__name__, "watch", path, exec_id)
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        if self._process.stdout.readline() != "ready\n":
            raise RuntimeError("the journal cannot be watched")

    def seen(self):
        """When the end was there (`time.monotonic`)."""
        said = self._process.stdout.read()
        if self._process.wait() != 0:
            raise RuntimeError("the journal could not be watched")
        return float(said)


def watch():
    """Body of the watching process: `PATH EXEC_ID`."""
    connection = _open(sys.argv[1])
    print("ready", flush=True)
    while True:
        row = connection.execute("SELECT status FROM executions WHERE exec_id = ?", sys.argv[2:]).fetchone()
        if row and row[0] not in ("queued", "running"):
            print(time.monotonic(), flush=True)
            return
        time.sleep(_PAUSE)


def _open(path):
    return sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=30)


def text_of(path, exec_id, name="stdout"):
    """Everything an execution wrote to a stream, as the journal has it."""
    connection = _open(path)
    rows = connection.execute(
        "SELECT content_json FROM messages WHERE exec_id = ? AND msg_type = 'stream' ORDER BY msg_seq", (exec_id,)
    )
    contents = (json.loads(content) for (content,) in rows)
    text = "".join(content["text"] for content in contents if content["name"] == name)
    connection.close()
    return text


def rows_of(path, exec_id):
    """How many rows the journal has of an execution."""
    connection = _open(path)
    (count,) = connection.execute("SELECT count(*) FROM messages WHERE exec_id = ?", (exec_id,)).fetchone()
    connection.close()
    return count


def bytes_of_messages(path):
    """Size of the table of messages and its indexes, or None where this Python's SQLite cannot say."""
    connection = _open(path)
    try:
        (size,) = connection.execute(
            "SELECT sum(pgsize) FROM dbstat WHERE name IN (SELECT name FROM sqlite_schema WHERE tbl_name = 'messages')"
        ).fetchone()
        return size
    except sqlite3.OperationalError:
        return None
    finally:
        connection.close()


def bytes_on_disk(path):
    """Size of a journal with everything in the database file itself."""
    connection = sqlite3.connect(str(path), timeout=30)
    busy, _, _ = connection.execute("PRAGMA wal_checkpoint(FULL)").fetchone()
    (pages,) = connection.execute("PRAGMA page_count").fetchone()
    (free,) = connection.execute("PRAGMA freelist_count").fetchone()
    (page_size,) = connection.execute("PRAGMA page_size").fetchone()
    connection.close()
    if busy:
        raise RuntimeError(f"{path} is busy")
    return (pages - free) * page_size
