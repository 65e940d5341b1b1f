"""One end of the unix socket between a state and whoever asks it.

Frames are a length (four bytes, little-endian) and JSON. An order is a letter and a number (four bytes), with up to
three descriptors; a descriptor that follows a frame comes with one byte.
"""

import json
import socket
import struct

_ORDER = struct.Struct("<cI")
_LENGTH = struct.Struct("<I")
# The longest frame, in bytes: above the largest body that the server takes.
_FRAME_MAX = 256 << 20
_DESCRIPTORS_MAX = 3


class Channel:
    """One end of a socket: frames of JSON, and descriptors."""

    def __init__(self, fd):
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM, fileno=fd)
        # The server does not wait at its ends; whoever is given one of them does.
        self._socket.setblocking(True)

    def close(self):
        self._socket.close()

    def order(self):
        """The next order: its letter, its number and the descriptors with it; None when the server is gone."""
        data, fds, _, _ = socket.recv_fds(self._socket, _ORDER.size, _DESCRIPTORS_MAX)
        if not data:
            return None
        data += self._exactly(_ORDER.size - len(data))
        letter, number = _ORDER.unpack(data)
        return letter, number, fds

    def send(self, content):
        data = json.dumps(content).encode()
        self._socket.sendall(_LENGTH.pack(len(data)) + data)

    def receive(self):
        (length,) = _LENGTH.unpack(self._exactly(_LENGTH.size))
        if length > _FRAME_MAX:
            raise OSError("a frame is too long")
        return json.loads(self._exactly(length))

    def send_bytes(self, data):
        self._socket.sendall(data)

    def receive_bytes(self, length):
        return self._exactly(length)

    def descriptor(self):
        """A descriptor that follows an order."""
        _, fds, _, _ = socket.recv_fds(self._socket, 1, 1)
        if not fds:
            raise EOFError
        return fds[0]

    def _exactly(self, length):
        data = bytearray()
        while len(data) < length:
            more = self._socket.recv(min(length - len(data), 1 << 20))
            if not more:
                raise EOFError
            data += more
        return bytes(data)
