"""Runs a cell in a running kernel and leaves: `jupyter_run.py CONNECTION_FILE CODE`."""

import sys

from jupyter_client import BlockingKernelClient

client = BlockingKernelClient()
client.load_connection_file(sys.argv[1])
client.start_channels()
client.wait_for_ready(timeout=60)
reply = client.execute_interactive(sys.argv[2], timeout=60)
client.stop_channels()
sys.exit(reply["content"]["status"] != "ok")
