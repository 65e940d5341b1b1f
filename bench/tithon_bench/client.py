"""The WebSocket client that Tithon and the Python program are both measured with.

It reads in bulk and looks at single frames only afterwards: between the two programs and the clock
there is little more than `recv`.
"""

import base64
import json
import os
import socket
import time

_CHUNK = 1 << 20
_TEXT, _CLOSE, _PING, _PONG = 1, 8, 9, 10


class ConnectionEnded(Exception):
    """The other side closed, or said nothing in time. `frames` is what `until` had read by then."""

    frames = ()


class Connection:
    """One client's connection to a daemon's socket."""

    def __init__(self, path, timeout=120.0):
        self.timeout = timeout
        self._buffer = bytearray()
        self._parsed = 0
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(timeout)
        try:
            self.socket.connect(str(path))
            self._shake_hands()
        except BaseException:
            self.socket.close()
            raise

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self.socket.close()

    def _shake_hands(self):
        key = base64.b64encode(os.urandom(16)).decode()
        self.socket.sendall(
            (
                "GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n"
            ).encode()
        )
        while b"\r\n\r\n" not in self._buffer:
            self._receive(time.monotonic() + self.timeout)
        end = self._buffer.index(b"\r\n\r\n") + 4
        if b" 101 " not in self._buffer[: self._buffer.index(b"\r\n")]:
            raise ConnectionEnded(f"refused: {bytes(self._buffer[:end])!r}")
        del self._buffer[:end]

    # -- sending

    def send(self, op, **fields):
        self._send_frame(_TEXT, json.dumps({"op": op, **fields}).encode())

    def _send_frame(self, opcode, payload):
        # The mask is zero: legal, and nothing to compute.
        size = len(payload)
        if size < 126:
            head = bytes((0x80 | opcode, 0x80 | size))
        elif size < 65536:
            head = bytes((0x80 | opcode, 0x80 | 126)) + size.to_bytes(2, "big")
        else:
            head = bytes((0x80 | opcode, 0x80 | 127)) + size.to_bytes(8, "big")
        self.socket.sendall(head + b"\0\0\0\0" + payload)

    # -- receiving

    def _receive(self, deadline):
        left = deadline - time.monotonic()
        if left <= 0:
            raise ConnectionEnded("nothing came in time")
        self.socket.settimeout(left)
        try:
            chunk = self.socket.recv(_CHUNK)
        except socket.timeout:
            raise ConnectionEnded("nothing came in time") from None
        except OSError as error:
            raise ConnectionEnded(f"the connection broke: {error}") from error
        if not chunk:
            raise ConnectionEnded("the other side closed")
        self._buffer += chunk
        return len(chunk)

    def _next(self, start):
        """Opcode, payload's begin and end of the frame at `start`; None while it is incomplete."""
        buffer = self._buffer
        have = len(buffer)
        if have - start < 2:
            return None
        size, begin = buffer[start + 1] & 0x7F, start + 2
        if size == 126:
            begin += 2
            if have < begin:
                return None
            size = int.from_bytes(buffer[begin - 2 : begin], "big")
        elif size == 127:
            begin += 8
            if have < begin:
                return None
            size = int.from_bytes(buffer[begin - 8 : begin], "big")
        if have < begin + size:
            return None
        return buffer[start] & 0x0F, begin, begin + size

    def _take(self):
        """The complete text frames in the buffer; pings are answered."""
        texts, at = [], 0
        while (frame := self._next(at)) is not None:
            opcode, begin, end = frame
            if opcode == _TEXT:
                texts.append(bytes(self._buffer[begin:end]))
            elif opcode == _PING:
                self._send_frame(_PONG, bytes(self._buffer[begin:end]))
            elif opcode == _CLOSE:
                raise ConnectionEnded(f"closed: {bytes(self._buffer[begin + 2 : end])!r}")
            at = end
        del self._buffer[:at]
        return texts

    def answer_pings_in(self, chunk):
        """Answer what looks like a ping among raw bytes; an answer too many is passed over."""
        at = chunk.find(b"\x89")
        while at >= 0:
            size = chunk[at + 1] if at + 1 < len(chunk) else None
            if size in (0, 4):  # in text, and in lengths of frames, no such byte follows
                self._send_frame(_PONG, chunk[at + 2 : at + 2 + size])
            at = chunk.find(b"\x89", at + 1)

    def receive(self):
        """The next frame, parsed."""
        deadline = time.monotonic() + self.timeout
        while True:
            frame = self._next(0)
            if frame is None:
                self._receive(deadline)
                continue
            opcode, begin, end = frame
            payload = bytes(self._buffer[begin:end])
            del self._buffer[:end]
            if opcode == _TEXT:
                return json.loads(payload)
            if opcode == _PING:
                self._send_frame(_PONG, payload)
            elif opcode == _CLOSE:
                raise ConnectionEnded(f"closed: {payload[2:]!r}")

    def expect(self, *ops):
        """The next frame of one of these operations; others are passed over."""
        while True:
            frame = self.receive()
            if frame["op"] in ops:
                return frame
            if frame["op"] == "error":
                raise ConnectionEnded(frame["message"])

    def until(self, marker, timeout=None):
        """Read until `marker` is somewhere in what came.

        Returns when that was (`time.monotonic`) and the text frames up to the end of what had come by then.
        A marker with unescaped quotes cannot occur in anything a program printed.
        """
        deadline = time.monotonic() + (timeout or self.timeout)
        looked_at, texts, walked = 0, [], time.monotonic()
        try:
            while (found := self._buffer.find(marker, looked_at)) < 0:
                now = time.monotonic()
                if now - walked > 5.0:  # pings want an answer
                    texts += self._take()
                    walked = now
                    looked_at = 0
                else:
                    looked_at = max(0, len(self._buffer) - len(marker))
                self._receive(deadline)
            while True:
                seen, held = time.monotonic(), len(self._buffer)
                texts += self._take()
                found -= held - len(self._buffer)
                if found < 0:
                    return seen, texts
                self._receive(deadline)  # the rest of the frame with the marker
        except ConnectionEnded as ended:
            ended.frames = texts + self._left()
            raise

    def _left(self):
        """What is complete in the buffer of a connection that has ended."""
        texts, at = [], 0
        while (frame := self._next(at)) is not None:
            opcode, begin, at = frame
            if opcode == _TEXT:
                texts.append(bytes(self._buffer[begin:at]))
        return texts

    def attach(self, last_seen_seq=0, **fields):
        """Attach and read the backlog: when `sync` came, and all frames through it."""
        self.send("attach", last_seen_seq=last_seen_seq, **fields)
        return self.until(b'{"op": "sync"')


DONE = b'"kind": "done"'
