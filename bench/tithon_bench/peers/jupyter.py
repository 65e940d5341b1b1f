"""Bare Jupyter: one kernel, one subscriber, nothing between them."""

import json
import random
import shutil
import sys
import tempfile
import time
from pathlib import Path

from jupyter_client import KernelManager

_ATTACHED = Path(__file__).with_name("jupyter_run.py")


class Bare:
    """A kernel as any Jupyter program starts it."""

    keeps = False  # what nobody listened to is gone

    def __init__(self, kernel_python):
        self._python = str(kernel_python)
        self.workdir = Path(tempfile.mkdtemp(prefix="tb-"))
        self._manager = None
        self.client = None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def start(self):
        self._manager = KernelManager(kernel_name="python3")
        self._manager.kernel_spec.argv[0] = self._python
        self._manager.start_kernel(cwd=str(self.workdir))
        self.client = self._manager.blocking_client()
        self.client.start_channels()
        self.client.wait_for_ready(timeout=120)
        return self

    def close(self):
        if self.client is not None:
            self.client.stop_channels()
        if self._manager is not None and self._manager.has_kernel:
            self._manager.shutdown_kernel(now=True)
        shutil.rmtree(self.workdir, ignore_errors=True)

    @property
    def kernel_pid(self):
        return self._manager.provisioner.process.pid

    def roles(self):
        return {"kernel": self.kernel_pid}

    def execute(self, code):
        """Run a cell as jupyter_client's users do: until its reply and its idle."""
        self.client.execute_interactive(code, timeout=120, output_hook=lambda _: None)

    def flood(self, code):
        """Run a cell and count what comes, parsing nothing: the fastest subscriber there can be.

        Returns when it was submitted, when its end came, and the frames of content that came between.
        """
        socket = self.client.iopub_channel.socket
        while socket.poll(0):
            socket.recv_multipart()
        begun = time.monotonic()
        msg_id = self.client.execute(code).encode()
        contents = []
        while True:
            if not socket.poll(600_000):
                raise TimeoutError("the kernel did not say idle")
            frames = socket.recv_multipart()
            if frames[0].endswith(b"status"):
                if b'"idle"' in frames[6] and msg_id in frames[4]:
                    break
            else:
                contents.append(frames[6])
        ended = time.monotonic()
        self.client.get_shell_msg(timeout=120)
        return begun, ended, contents

    def flood_with_kills(self, code, kills):
        """Run a cell whose subscriber dies `kills` times and is back at once; all text that came."""
        iopub = self._manager.connect_iopub()
        msg_id = self.client.execute(code).encode()
        due = time.monotonic() + random.uniform(0.05, 0.3)
        texts = []
        while True:
            if kills and time.monotonic() > due:
                iopub.close(0)
                iopub = self._manager.connect_iopub()
                kills -= 1
                due = time.monotonic() + random.uniform(0.05, 0.3)
            if not iopub.poll(10 if kills else 600_000):
                continue
            frames = iopub.recv_multipart()
            topic, content = frames[0], frames[6]
            if topic.endswith(b"status") and b'"idle"' in content and msg_id in frames[4]:
                break
            if b"stream" in topic:
                texts.append(json.loads(content)["text"])
        iopub.close(0)
        self.client.get_shell_msg(timeout=120)
        return "".join(texts)

    def run_command(self, code):
        """A whole process that runs a cell in this kernel."""
        return [sys.executable, str(_ATTACHED), self._manager.connection_file, code]
