"""The spool: files a kernel appends its messages to, before anyone else has seen them.

This is the writing half and the one place where the format is drawn; the reading half is
`worker/src/kernel/spool/`. All integers are little-endian.

A spool is a directory of segments. Together they are one run of bytes that never starts again at
zero: a segment `%016x.seg` is named by the offset of its first byte, and the next one begins exactly
where it ends. Other files in the directory are not part of it.

    segment   +0   8  magic, "TSPL" and the layout version in four digits: "TSPL0001"
              +8  16  incarnation: random, one per writer
             +24   8  base: offset of this segment's first byte, as in its name
             +32   8  time it was created, nanoseconds since 1970
             +40   8  writes: records of this incarnation before this segment, SEAL and PARENT left out
             +48   4  pid of the writer
             +52   4  kind: 0 written by a kernel, 1 by a worker for a kernel that died
             +56   4  zero
             +60   4  crc32 of the 60 bytes before
             +64      records, to the end of the file

    record    +0   4  body length, at most 2^30
              +4   4  crc32 of everything after this field, body included
              +8   1  type
              +9   1  flags
             +10   2  number of frames
             +12   4  aux
             +16   8  time, nanoseconds since 1970
             +24      body: one frame as it is; of several, first the length of each (4 bytes), then all

    type            frames                                               aux, flags
     1 IOPUB        a message as given to zmq                            flags: 4 the first frame is not the
                                                                         message's but the msg_id of the
                                                                         request it is for
     2 REPLY        an execute_reply as given to zmq                     -
     3 STDIN_REQ    an input_request as given to zmq                     -
     4 STDIN_END    "answered" or "abandoned"                            -
     5 RAW          text of stdout or stderr (UTF-8), or bytes of a fd   aux: index of the parent;
                    after the fd file's offset behind them (8 bytes)     flags: 1 stderr, 2 from a fd
     6 HELLO        JSON: who writes; every hook is in place             -
     7 BYE          empty: the kernel ended in an orderly way            -
     8 SEAL         the next segment's base (8 bytes); always last       -
     9 GAP          writes and bytes (8 + 8) that had to be dropped      -
    10 CONTROL      a shutdown_reply as given to zmq                     -
    11 PARENT       a parent's msg_id; valid to the end of the segment   aux: its index

Invariants. A segment appears under its name with its header complete. A record is one `write` on an
O_APPEND descriptor, so it is in the page cache, and outlives this process, when the call returns.
Nothing is written behind a SEAL, nor to a segment once a later one has its name. A signal can tear
the last record (hence length and crc), a full disk cannot: what was written short is cut off again.
Nothing is fsynced: only power loss needs that, and it takes the kernel along.
"""

import errno
import os
import struct
import threading
import time
import zlib
from collections import deque
from typing import NamedTuple

MAGIC = b"TSPL0001"
IOPUB, REPLY, STDIN_REQ, STDIN_END, RAW, HELLO, BYE, SEAL, GAP, CONTROL, PARENT = range(1, 12)
FLAG_STDERR, FLAG_FD, FLAG_FOR = 1, 2, 4

_SEGMENT = struct.Struct("<8s16sQQQIII")  # without its crc
_HEADER_SIZE = _SEGMENT.size + 4
_LEAD = struct.Struct("<II")  # body length, crc
_TAIL = struct.Struct("<BBHIQ")  # the rest of a record's header
_RECORD_SIZE = _LEAD.size + _TAIL.size
_OFFSET = struct.Struct("<Q")
_LOSS = struct.Struct("<QQ")
_SEAL_SIZE = _RECORD_SIZE + _OFFSET.size
_MAX_BODY = 1 << 30

# A longer text becomes several records: a crash in the middle tears the last of them only.
_RAW_CHUNK = 256 * 1024
# How fast a kernel may go on writing beyond the bound when nobody reads, bytes per second.
_TRICKLE = 64 * 1024
_RETRY_SECONDS = 0.2

# Bound here, because a print in a loop pays for every lookup.
_lead, _tail, _crc, _now, _write = _LEAD.pack, _TAIL.pack, zlib.crc32, time.time_ns, os.write


class Bounds(NamedTuple):
    """What a spool may use; each field from TITHON_SPOOL_<FIELD>, bytes where it is a number."""

    segment: int = 8 << 20  # a segment is sealed when it has this size
    unread: int = 2 << 30  # or a tenth of the free space, if that is less
    memory: int = 16 << 20  # queued while the disk is full
    policy: str = "slow"  # beyond `unread`: "slow" the kernel down, or "drop" the oldest segments
    base: int = 0  # smallest offset to start at: what a reader has committed, even if power loss took it

    @classmethod
    def take_from(cls, environ):
        """Read the bounds and remove them from the environment."""
        given = {}
        for field, fallback in cls._field_defaults.items():
            value = environ.pop("TITHON_SPOOL_" + field.upper(), None)
            if value is not None:
                given[field] = type(fallback)(value)
        return cls(**given)


class _Entry(NamedTuple):
    """A record that has no place in a segment yet."""

    kind: int
    flags: int
    parent: str  # msg_id, for RAW
    frames: list
    size: int


class _Loss:
    """Stands in the queue where records were dropped."""

    def __init__(self):
        self.writes = 0
        self.bytes = 0


class _Segment:
    """The file being appended to."""

    def __init__(self, fd, base):
        self.fd = fd
        self.base = base
        self.size = _HEADER_SIZE
        self.parents = {}


class Spool:
    """The writer. Safe to use from every thread, from signal handlers and `__del__`; never raises for the disk's sake."""

    def __init__(self, directory, bounds=None):
        self.directory = directory
        self.bounds = bounds or Bounds()
        os.makedirs(directory, mode=0o700, exist_ok=True)
        self._begin(self.bounds.base)
        os.register_at_fork(after_in_child=self.abandon)

    def _begin(self, base):
        """Be a new writer, behind whoever wrote here before and not before `base`."""
        self._incarnation = os.urandom(16)
        # Reentrant: a signal handler may print while its own thread is in here.
        self._lock = threading.RLock()
        self._writes = 0
        self._queue = deque()
        self._queued = 0
        self._losing = False
        self._drainer = None
        self._rotating = False
        self._unfinished = None
        self._over_bound = False
        self._segment, temporary = self._create(max(base, self._end_of_predecessors()))
        os.rename(temporary, temporary[: -len(".new")])
        self._rotate_at = self.bounds.segment
        # False in a forked child, which publishes through its parent, and when the hooks gave up.
        self.active = True

    def let_go(self):
        """In a fork: hold on to no segment, whose space would stay taken when it is read and deleted."""
        self.abandon()
        os.close(self._segment.fd)

    def begin_again(self, base):
        """In a fork that let go and is a kernel of its own now."""
        self._begin(base)

    def abandon(self):
        """Write nothing more: the process goes on as a plain kernel, or is a fork of one."""
        self.active = False

    def close(self):
        """Say BYE; for the orderly end of the process."""
        self.put(BYE, [b""])
        with self._lock:
            self._drain()

    # -- what the hooks call

    def put(self, kind, frames, flags=0):
        """Append a message."""
        if not self.active:
            return
        frames = [frame if type(frame) is bytes else _raw_memory(frame) for frame in frames]
        self._submit(_Entry(kind, flags, "", frames, sum(map(len, frames))))

    def text(self, flags, parent, text):
        """Append what was written to stdout or stderr."""
        if not self.active:
            return
        if len(text) > _RAW_CHUNK:
            for start in range(0, len(text), _RAW_CHUNK):
                self.text(flags, parent, text[start : start + _RAW_CHUNK])
            return
        try:
            data = text.encode()
        except UnicodeEncodeError:  # lone surrogates: the reader knows them
            data = text.encode("utf-8", "surrogatepass")
        self.raw(flags, parent, data)

    def raw(self, flags, parent, data):
        """Append a RAW record. This is the path of every print: one lock, one crc, one write."""
        if not self.active:
            return
        with self._lock:
            segment = self._segment
            index = segment.parents.get(parent)
            if index is not None and not self._queue and not self._rotating and segment.size < self._rotate_at:
                tail = _tail(RAW, flags, 1, index, _now()) + data
                record = _lead(len(data), _crc(tail)) + tail
                try:
                    written = _write(segment.fd, record)
                except OSError:
                    written = 0
                if written == len(record):
                    segment.size += written
                    self._writes += 1
                    if not self._over_bound:
                        return
                else:
                    _cut(segment, written)
                    written = 0
            else:
                written = 0
        if written:
            self._slow_down(written)
        else:
            self._submit(_Entry(RAW, flags, parent, [data], len(data)))

    # -- appending

    def _submit(self, entry):
        """Append a record, or queue it while there is no space."""
        with self._lock:
            if self._queue or self._rotating:
                self._enqueue(entry)
            else:
                try:
                    if self._segment.size >= self._rotate_at or self._unfinished:
                        self._rotate()
                    self._append(entry)
                except OSError:
                    self._enqueue(entry)
        if self._over_bound:
            self._slow_down(entry.size + _RECORD_SIZE)

    def _append(self, entry):
        """Write an entry to the current segment. Raises OSError and leaves no trace when there is no space."""
        index = 0
        if entry.kind == RAW:
            parents = self._segment.parents
            index = parents.get(entry.parent)
            if index is None:
                index = len(parents)
                self._write_record(self._segment, PARENT, 0, index, [entry.parent.encode()])
                parents[entry.parent] = index
        frames = entry.frames
        if entry.size + 4 * len(frames) > _MAX_BODY or len(frames) > 0xFFFF:
            self._write_record(self._segment, GAP, 0, 0, [_LOSS.pack(1, entry.size)])
        else:
            self._write_record(self._segment, entry.kind, entry.flags, index, frames)
        self._writes += 1

    @staticmethod
    def _write_record(segment, kind, flags, aux, frames):
        body = frames
        if len(frames) != 1:
            body = [struct.pack("<%dI" % len(frames), *map(len, frames)), *frames]
        tail = _tail(kind, flags, len(frames), aux, _now())
        crc = _crc(tail)
        size = 0
        for part in body:
            crc = _crc(part, crc)
            size += len(part)
        head = _lead(size, crc) + tail
        if len(body) > 64 or size < 65536:
            written = _write(segment.fd, b"".join([head, *body]))
        else:
            written = os.writev(segment.fd, [head, *body])  # spares a copy of large images
        if written != size + _RECORD_SIZE:
            _cut(segment, written)
            raise OSError(errno.ENOSPC, "short write")
        segment.size += written

    # -- segments

    def _end_of_predecessors(self):
        """Where writers before this one stopped; torn records count, the reader reports them."""
        end = 0
        unnamed = []
        for name in os.listdir(self.directory):
            path = os.path.join(self.directory, name)
            base = _base_of(name)
            if base is not None:
                end = max(end, base + os.stat(path).st_size)
            elif name.endswith(".seg.new"):
                unnamed.append(path)
        for path in unnamed:
            # Behind a SEAL, whose writer died before the rename, or given up.
            base = _base_of(os.path.basename(path)[: -len(".new")])
            size = os.stat(path).st_size
            if base == end and size >= _HEADER_SIZE:
                os.rename(path, path[: -len(".new")])
                return base + size
            os.unlink(path)
        return end

    def _create(self, base):
        """Make a segment under a temporary name, so that it appears complete or not at all."""
        path = os.path.join(self.directory, "%016x.seg.new" % base)
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_NOFOLLOW, 0o600)
        try:
            header = _SEGMENT.pack(MAGIC, self._incarnation, base, _now(), self._writes, os.getpid(), 0, 0)
            if _write(fd, header + struct.pack("<I", _crc(header))) != _HEADER_SIZE:
                raise OSError(errno.ENOSPC, "short write")
        except BaseException:
            os.close(fd)
            os.unlink(path)
            raise
        return _Segment(fd, base), path

    def _rotate(self):
        """Seal the segment and go on in a new one. On a full disk the old one is used for a while longer."""
        self._rotating = True  # what a signal handler prints in the middle of this is queued
        try:
            if self._unfinished is None:
                self._rotate_at = self._segment.size + self.bounds.segment // 8
                # Asked, not counted: KeyboardInterrupt may have struck between a write and its bookkeeping.
                end = os.fstat(self._segment.fd).st_size
                try:
                    following, temporary = self._create(self._segment.base + end + _SEAL_SIZE)
                except OSError:
                    return
                # Switch before sealing: wherever an exception strikes now, nothing goes behind the SEAL.
                self._unfinished = (self._segment, end, temporary)
                self._segment = following
                self._rotate_at = self.bounds.segment
            sealed, end, temporary = self._unfinished
            if os.fstat(sealed.fd).st_size == end:
                self._write_record(sealed, SEAL, 0, 0, [_OFFSET.pack(self._segment.base)])
            if os.path.exists(temporary):
                os.rename(temporary, temporary[: -len(".new")])
            self._unfinished = None
            os.close(sealed.fd)
            self._keep_bound()
        finally:
            self._rotating = False
            if self._queue:
                self._start_drainer()

    # -- nobody reads

    def _keep_bound(self):
        """Compare what is unread with the bound. Reading is deleting: what is there is unread."""
        sizes = {}
        for name in os.listdir(self.directory):
            base = _base_of(name)
            if base is not None:
                try:
                    sizes[base] = os.stat(os.path.join(self.directory, name)).st_size
                except FileNotFoundError:
                    pass
        unread = sum(sizes.values())
        disk = os.statvfs(self.directory)
        bound = min(self.bounds.unread, (disk.f_bavail * disk.f_frsize + unread) // 10)
        # Never the current one nor the one before it; the header's `writes` tell the reader what is missing.
        droppable = sorted(sizes)[:-2] if self.bounds.policy == "drop" else []
        for base in droppable:
            if unread <= bound:
                break
            try:
                os.unlink(os.path.join(self.directory, "%016x.seg" % base))
            except FileNotFoundError:
                pass
            unread -= sizes[base]
        self._over_bound = self.bounds.policy != "drop" and unread > bound

    def _slow_down(self, size):
        """Let the calling thread wait for the reader; without the lock, so that an interrupt can still be answered."""
        deadline = time.monotonic() + size / _TRICKLE
        while self._over_bound:
            left = deadline - time.monotonic()
            if left <= 0:
                return
            time.sleep(min(left, 0.05))
            try:
                self._keep_bound()
            except OSError:
                return

    # -- the disk is full

    def _enqueue(self, entry):
        """Keep a record in memory. Beyond the bound output is counted and dropped until the queue is empty again."""
        if (self._losing or self._queued + entry.size > self.bounds.memory) and _may_be_dropped(entry):
            self._losing = True
            if not self._queue or not isinstance(self._queue[-1], _Loss):
                self._queue.append(_Loss())
            self._queue[-1].writes += 1
            self._queue[-1].bytes += entry.size
        else:
            self._queue.append(entry)
            self._queued += entry.size
        self._start_drainer()

    def _start_drainer(self):
        if self._drainer is None and not self._rotating:
            thread = threading.Thread(target=self._keep_draining, daemon=True, name="tithon-spool")
            try:
                thread.start()
            except RuntimeError:  # no thread to be had now: the next record tries again
                return
            self._drainer = thread

    def _keep_draining(self):
        """Body of the thread that empties the queue: KeyboardInterrupt cannot strike here and double a record."""
        while True:
            with self._lock:
                if self._drain():
                    self._drainer = None
                    return
            time.sleep(_RETRY_SECONDS)

    def _drain(self):
        """Write the queue as far as there is space; true if nothing is left."""
        try:
            while self._queue:
                if self._segment.size >= self._rotate_at or self._unfinished:
                    self._rotate()
                entry = self._queue[0]
                if isinstance(entry, _Loss):
                    self._write_record(self._segment, GAP, 0, 0, [_LOSS.pack(entry.writes, entry.bytes)])
                    self._writes += 1
                else:
                    self._append(entry)
                    self._queued -= entry.size
                self._queue.popleft()
        except OSError:
            return False
        self._losing = False
        return True


def _cut(segment, written):
    """Take a record that was written short off again."""
    if written > 0:
        os.ftruncate(segment.fd, os.fstat(segment.fd).st_size - written)


def _base_of(name):
    """The base of a segment's file name, None for any other name."""
    stem = name[: -len(".seg")]
    if len(stem) != 16 or not name.endswith(".seg"):
        return None
    try:
        return int(stem, 16)
    except ValueError:
        return None


def _may_be_dropped(entry):
    """Output may, on a full disk; replies, prompts and status may not: somebody waits for them."""
    return entry.kind == RAW or (entry.kind == IOPUB and not entry.frames[0].endswith(b"status"))


def _raw_memory(frame):
    """A frame's bytes as zmq sends them, whatever its element type and memory order."""
    view = memoryview(frame)
    return view.cast("B") if view.c_contiguous else view.tobytes("A")
