"""A Jupyter client for the tests: `client.py <connection file>`, one JSON command per line on stdin.

    {"do": "run", "code": ..., "answer": ...}   executes, answers prompts, prints the reply's content
    {"do": "send", "code": ...}                 executes without waiting, prints null once it is sent
    {"do": "listen"}                            subscribes to iopub, prints null once it is welcome
    {"do": "heard"}                             prints the iopub messages up to the last idle status
    {"do": "shutdown"}                          asks the kernel to end, prints null
"""

import json
import sys
import time
from queue import Empty

from jupyter_client import BlockingKernelClient

TIMEOUT = 60


def main():
    client = BlockingKernelClient(connection_file=sys.argv[1])
    client.load_connection_file()
    client.shell_channel.start()
    client.stdin_channel.start()
    client.control_channel.start()
    sent = None
    for line in sys.stdin:
        command = json.loads(line)
        answer = None
        if command["do"] == "listen":
            client.iopub_channel.start()
            until_subscribed(client)
        elif command["do"] == "shutdown":
            client.shutdown()
        elif command["do"] == "heard":
            answer = heard(client, sent)
        else:
            sent = client.execute(command["code"], allow_stdin=True)
            if command["do"] == "run":
                if "answer" in command:
                    answer = answer_prompt(client, sent, command["answer"])
                else:
                    answer = reply_to(client, sent)
        print(json.dumps(answer), flush=True)


def reply_to(client, msg_id):
    while True:
        message = client.get_shell_msg(timeout=TIMEOUT)
        if message["parent_header"].get("msg_id") == msg_id:
            return message["content"]


def answer_prompt(client, msg_id, text):
    """Answer until the cell has ended: a kernel's question is lost where this channel is not connected yet."""
    deadline = time.monotonic() + TIMEOUT
    while time.monotonic() < deadline:
        for get in (client.get_stdin_msg, client.get_shell_msg):
            try:
                message = get(timeout=1)
            except Empty:
                continue
            if message["msg_type"] == "execute_reply" and message["parent_header"].get("msg_id") == msg_id:
                return message["content"]
            if message["msg_type"] == "input_request":
                break
        client.input(text)
    raise TimeoutError("the prompt was not answered")


def until_subscribed(client):
    """Ask until an iopub message comes: ipykernel 6 does not welcome subscribers."""
    while True:
        reply_to(client, client.kernel_info())
        try:
            client.get_iopub_msg(timeout=0.2)
            return
        except Exception:
            continue


def heard(client, msg_id):
    messages = []
    while True:
        message = client.get_iopub_msg(timeout=TIMEOUT)
        if message["parent_header"].get("msg_id") != msg_id:
            continue
        messages.append([message["msg_type"], message["content"]])
        if message["content"].get("execution_state") == "idle":
            return messages


main()
