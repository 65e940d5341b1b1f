import json
import os
import socket
import tempfile
import threading
import unittest

from tithon_bench.client import DONE, Connection, ConnectionEnded


def text(payload, opcode=1):
    body = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    if len(body) < 126:
        return bytes((0x80 | opcode, len(body))) + body
    if len(body) < 65536:
        return bytes((0x80 | opcode, 126)) + len(body).to_bytes(2, "big") + body
    return bytes((0x80 | opcode, 127)) + len(body).to_bytes(8, "big") + body


class Client(unittest.TestCase):
    """The client against a socket that says what it is told to, in pieces it is told to."""

    def setUp(self):
        self.directory = tempfile.TemporaryDirectory()
        self.path = os.path.join(self.directory.name, "s")
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(self.path)
        self.listener.listen()

    def tearDown(self):
        self.listener.close()
        self.directory.cleanup()

    def connected(self, answer=b"HTTP/1.1 101 Switching Protocols\r\n\r\n", first=b""):
        sides = []

        def accept():
            side, _ = self.listener.accept()
            while b"\r\n\r\n" not in side.recv(65536):
                pass
            side.sendall(answer + first)
            sides.append(side)

        thread = threading.Thread(target=accept)
        thread.start()
        try:
            connection = Connection(self.path, timeout=10)
            self.addCleanup(connection.close)
        finally:
            thread.join()
            self.addCleanup(sides[0].close)
        return connection, sides[0]

    def test_frames_of_every_length(self):
        frames = [{"op": "x", "text": "y" * size} for size in (1, 200, 70_000)]
        connection, _ = self.connected(first=b"".join(map(text, frames)))
        self.assertEqual([connection.receive() for _ in frames], frames)

    def test_reads_until_a_marker_and_counts_what_came(self):
        events = [{"op": "event", "seq": seq, "exec_id": "e1", "kind": "output"} for seq in range(1000)]
        stream = b"".join(map(text, [*events, {"op": "event", "seq": 1000, "exec_id": "e1", "kind": "done"}]))
        connection, side = self.connected()

        def dribble():
            for start in range(0, len(stream), 777):
                side.sendall(stream[start : start + 777])
            side.sendall(text({"op": "later"}))

        sender = threading.Thread(target=dribble)
        sender.start()
        _, frames = connection.until(DONE)
        sender.join()
        self.assertEqual(len([frame for frame in frames if b'"event"' in frame]), 1001)

    def test_a_printed_marker_does_not_end_it(self):
        printed = {"op": "event", "payload": '"kind": "done"'}
        connection, _ = self.connected(first=text(printed) + text({"op": "event", "kind": "done"}))
        _, frames = connection.until(DONE)
        self.assertEqual(len(frames), 2)

    def test_pings_are_answered(self):
        connection, side = self.connected(first=text(b"abcd", opcode=9) + text({"op": "sync"}))
        connection.receive()
        self.assertEqual(side.recv(100), b"\x8a\x84\0\0\0\0abcd")

    def test_an_error_and_an_end_are_said(self):
        connection, side = self.connected(first=text({"op": "error", "message": "no kernel"}))
        with self.assertRaisesRegex(ConnectionEnded, "no kernel"):
            connection.expect("execute_ack")
        side.close()
        with self.assertRaisesRegex(ConnectionEnded, "closed"):
            connection.receive()

    def test_a_refusal_is_said(self):
        with self.assertRaisesRegex(ConnectionEnded, "426"):
            self.connected(answer=b"HTTP/1.1 426 Upgrade Required\r\n\r\n")
