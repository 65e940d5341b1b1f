"""A cell that says a lot: how long until it is done, journaled and seen, and what that costs everyone."""

import json
import time

from tithon_bench import journal
from tithon_bench.measurements import Measurement
from tithon_bench.peers.serving import ended
from tithon_bench.processes import Usage

_PNG = """
import base64, os, struct, zlib
def _chunk(kind, body):
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
def _png(side=64):
    rows = b"".join(b"\\0" + os.urandom(3 * side) for _ in range(side))
    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    chunks = _chunk(b"IHDR", header) + _chunk(b"IDAT", zlib.compress(rows, 0)) + _chunk(b"IEND", b"")
    return b"\\x89PNG\\r\\n\\x1a\\n" + chunks
"""


class Flood(Measurement):
    """One kind of flood. `count` messages, made by `code`; `setup` runs before, as a cell of its own."""

    def __init__(self, name, about, count, code, setup="pass", listening=True, check=None):
        self.name = name
        self.about = about
        self.count = count
        self.code = code
        self.setup = setup
        self.listening = listening
        self.check = check  # what stdout must then hold, given the count

    def measure(self, stage, scale, record):
        count = getattr(scale, self.count)
        code = self.code.format(count=count)
        if stage.keeps:
            self._serving(stage, count, code, record)
        else:
            self._bare(stage, count, code, record)

    def _serving(self, serving, count, code, record):
        with serving.open() as client:
            serving.run(client, self.setup)
            client.close()
        with serving.connect() as client:
            client.attach(-1 if self.listening else 0, **serving.bind())
            roles = serving.roles()
            before = journal.bytes_on_disk(serving.journal())
            usage = Usage(roles)
            if not self.listening:
                client.close()
            begun, begun_at = time.monotonic(), time.time()
            exec_id = serving.submit([code])
            watch = journal.Watch(serving.journal(), exec_id)
            if self.listening:
                seen, frames, dropped = serving.follow(client, exec_id)
                record("seen", seen - begun, "s")
                record("dropped", dropped, "times")
            else:
                frames = None
            journaled = watch.seen()
            cpu, peak = usage.cpu(), usage.peak()
        record("journaled", journaled - begun, "s")
        if frames is not None:
            done = next(json.loads(frame) for frame in reversed(frames) if ended(exec_id) in frame)
            record("done", done["payload"]["ts"] - begun_at, "s")
            record("frames", len(frames), "frames")
        rows = journal.rows_of(serving.journal(), exec_id)
        record("rows", rows, "rows")
        size = journal.bytes_on_disk(serving.journal()) - before
        record("disk per message", size / count, "B")
        of_rows = journal.bytes_of_messages(serving.journal())
        if of_rows is not None:
            # Without what the fold of the cell takes: what one more row costs.
            record("disk per row", of_rows / rows, "B")
        for role, seconds in cpu.items():
            record(f"cpu {role} per message", seconds / count * 1e6, "µs")
            record(f"peak memory {role}", peak[role] / 2**20, "MiB")
        record("cpu serving per message", sum(cpu[role] for role in cpu if role != "kernel") / count * 1e6, "µs")
        if self.check:
            text = journal.text_of(serving.journal(), exec_id)
            record("lost", lines_lost(text, self.check(count)), "lines")

    def _bare(self, bare, count, code, record):
        bare.execute(self.setup)
        usage = Usage(bare.roles())
        begun, ended_at, contents = bare.flood(code)
        cpu, peak = usage.cpu(), usage.peak()
        for point in ("done", "journaled", "seen"):
            # A bare kernel keeps nothing: what its subscriber has is all there will ever be.
            record(point, ended_at - begun, "s")
        record("frames", len(contents), "frames")
        record("cpu kernel per message", cpu["kernel"] / count * 1e6, "µs")
        record("peak memory kernel", peak["kernel"] / 2**20, "MiB")
        if self.check:
            streams = (json.loads(content) for content in contents if content.startswith(b'{"name"'))
            record("lost", lines_lost("".join(one["text"] for one in streams), self.check(count)), "lines")


def lines_lost(text, wanted):
    """How many of the wanted lines are missing, and how many lines are there twice, torn or out of order."""
    got = text.splitlines()
    if got == wanted:
        return 0
    there = set(got)
    missing = sum(line not in there for line in wanted)
    surplus = len(got) - len(there & set(wanted))
    place = {line: at for at, line in enumerate(wanted)}
    places = [place[line] for line in got if line in place]
    backward = sum(after < before for before, after in zip(places, places[1:]))
    return missing + max(surplus, backward)


def _numbers(count):
    return [str(i) for i in range(count)]


_LINES = "for i in range({count}): print(i, flush=True)"

MEASUREMENTS = [
    Flood("flood-unheard", "flushed short lines, nobody listens", "lines", _LINES, listening=False, check=_numbers),
    Flood("flood-lines", "flushed short lines, one client listens", "lines", _LINES, check=_numbers),
    Flood(
        "flood-kilobytes",
        "flushed lines of 1 kB",
        "lines",
        "for i in range({count}): print(_line, flush=True)",
        setup="_line = 'x' * 999",
    ),
    Flood(
        "flood-progress",
        "a progress bar on stderr, redrawn with \\r",
        "lines",
        "import sys\nfor i in range({count}):\n    sys.stderr.write(f'\\r{{i:6d}} of {count}'); sys.stderr.flush()",
    ),
    Flood(
        "flood-alternating",
        "stdout and stderr in turn, so that no two messages can be one row",
        "messages",
        "import sys\nfor i in range({count}): print(i, flush=True, file=(sys.stdout, sys.stderr)[i & 1])",
    ),
    Flood(
        "flood-displays",
        "updates of one display",
        "messages",
        "for i in range({count}): _handle.update({{'text/plain': str(i)}}, raw=True)",
        setup="_handle = display({'text/plain': ''}, raw=True, display_id=True)",
    ),
    Flood(
        "flood-widgets",
        "updates of one widget's value",
        "messages",
        "for i in range({count}): _bar.value = i + 1",
        setup="import ipywidgets; _bar = ipywidgets.IntProgress(max=10**9); display(_bar)",
    ),
    Flood(
        "flood-images",
        "PNG images of 12 kB, each another",
        "images",
        "for i in range({count}): display({{'image/png': base64.b64encode(_png()).decode()}}, raw=True)",
        setup=_PNG,
    ),
]
