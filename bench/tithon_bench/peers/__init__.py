"""Who is measured. A peer here is a recipe; starting it gives something that runs in a place of its own.

    tithon      this repository's release build
    tithon-py   the Python program, 0.2.5
    jupyter     plain ipykernel and jupyter_client, nothing between them: the ceiling
    snapshot-kernel   0.2.1, which keeps states behind HTTP; measured by what is about states only

Another peer is one more entry in `known`.
"""

from tithon_bench import environments
from tithon_bench.peers.jupyter import Bare
from tithon_bench.peers.serving import PythonTithon, Tithon
from tithon_bench.peers.states import SnapshotKernel

OURS = "tithon"
NAMES = (OURS, "tithon-py", "jupyter", "snapshot-kernel")


def recipe(name, binary, kernel_python):
    """Makes sure that a peer can run here, and returns what starts it."""
    if name == OURS:
        program = binary or environments.build()
        return lambda: Tithon(program, kernel_python)
    if name == "tithon-py":
        python = environments.environment(environments.PYTHON_TITHON)
        return lambda: PythonTithon(python.with_name("tithon"))
    if name == "snapshot-kernel":
        environments.environment(environments.STATES)
        return SnapshotKernel
    return lambda: Bare(kernel_python)
