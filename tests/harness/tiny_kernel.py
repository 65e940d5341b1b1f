"""The smallest program that keeps a Jupyter kernel's side of the bargain, for tests that need many kernels.

It says what it is asked to run, in its own words.
"""

import datetime
import hashlib
import hmac
import json
import os
import signal
import sys

import zmq

DELIMITER = b"<IDS|MSG>"

signal.signal(signal.SIGINT, signal.SIG_IGN)
with open(sys.argv[1]) as file:
    connection = json.load(file)
context = zmq.Context()


def bind(kind, name):
    socket = context.socket(kind)
    separator = "-" if connection["transport"] == "ipc" else ":"
    port = connection[name + "_port"]
    socket.bind(f"{connection['transport']}://{connection['ip']}{separator}{port}")
    return socket


shell, control = bind(zmq.ROUTER, "shell"), bind(zmq.ROUTER, "control")
iopub, stdin, heartbeat = bind(zmq.PUB, "iopub"), bind(zmq.ROUTER, "stdin"), bind(zmq.REP, "hb")
sent = 0


def send(socket, identities, msg_type, parent, content):
    global sent
    session = connection["key"][:8] or "tiny"
    header = {
        "msg_id": f"{session}_{os.getpid()}_{sent}",
        "session": session,
        "username": "tiny",
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(),
        "msg_type": msg_type,
        "version": "5.3",
    }
    sent += 1
    parts = [json.dumps(part).encode() for part in (header, parent, {}, content)]
    signature = hmac.new(connection["key"].encode(), digestmod=hashlib.sha256)
    for part in parts:
        signature.update(part)
    socket.send_multipart([*identities, DELIMITER, signature.hexdigest().encode(), *parts])


def answer(socket):
    global count
    frames = socket.recv_multipart()
    at = frames.index(DELIMITER)
    identities = frames[:at]
    header, content = json.loads(frames[at + 2]), json.loads(frames[at + 5])
    kind = header["msg_type"]
    send(iopub, [b"status"], "status", header, {"execution_state": "busy"})
    reply = {"status": "ok"}
    if kind == "kernel_info_request":
        reply |= {
            "protocol_version": "5.3",
            "implementation": "tiny",
            "implementation_version": "1",
            "banner": "",
            "language_info": {"name": "echo", "version": "1", "mimetype": "text/plain", "file_extension": ".txt"},
        }
    elif kind == "execute_request":
        count += 1
        send(iopub, [b"stream"], "stream", header, {"name": "stdout", "text": content["code"] + "\n"})
        reply |= {"execution_count": count, "payload": [], "user_expressions": {}}
    send(socket, identities, kind.replace("_request", "_reply"), header, reply)
    send(iopub, [b"status"], "status", header, {"execution_state": "idle"})
    return kind != "shutdown_request"


count = 0
poller = zmq.Poller()
for socket in (shell, control, heartbeat):
    poller.register(socket, zmq.POLLIN)
goes_on = True
while goes_on:
    for socket, _ in poller.poll():
        if socket is heartbeat:
            heartbeat.send(heartbeat.recv())
        else:
            goes_on = answer(socket) and goes_on
context.destroy(linger=1000)
