"""Listens to a kernel as any Jupyter client does: `listener.py <connection file>`.

Says "listening" once it is subscribed; after the cell that prints "the end" has ended, prints every
message it heard, one JSON list of its frames in hex per line.
"""

import json
import sys

import zmq
from jupyter_client import BlockingKernelClient

TIMEOUT = 60


def main():
    client = BlockingKernelClient(connection_file=sys.argv[1])
    client.load_connection_file()
    client.shell_channel.start()
    iopub = client.connect_iopub()
    iopub.rcvtimeo = TIMEOUT * 1000
    until_subscribed(client, iopub)
    print("listening", flush=True)
    heard, last = [], None
    while True:
        frames = iopub.recv_multipart()
        heard.append(frames)
        _, frames = client.session.feed_identities(frames)
        message = client.session.deserialize(frames)
        content, parent = message["content"], message["parent_header"].get("msg_id")
        if message["msg_type"] == "execute_input" and "the end" in content["code"]:
            last = parent
        if parent == last and content.get("execution_state") == "idle":
            break
    for frames in heard:
        print(json.dumps([frame.hex() for frame in frames]))


def until_subscribed(client, iopub):
    """Ask until something comes, then read to the answer's end."""
    while True:
        msg_id = client.kernel_info()
        client.get_shell_msg(timeout=TIMEOUT)
        if iopub.poll(200):
            break
    while True:
        _, frames = client.session.feed_identities(iopub.recv_multipart())
        message = client.session.deserialize(frames)
        if message["parent_header"].get("msg_id") == msg_id:
            if message["content"].get("execution_state") == "idle":
                return


main()
