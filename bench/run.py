#!/usr/bin/env python3
"""Measures Tithon beside its peers, in turn and in the same run. `python3 bench/run.py --help` says how.

Needs nothing but a Python: it builds Tithon, makes the peers' environments under target/bench/envs from
pinned requirements, and goes on in the one that has jupyter_client.
"""

import sys
from pathlib import Path

sys.dont_write_bytecode = True  # nothing is left in the source tree
sys.path.insert(0, str(Path(__file__).resolve().parent))

from tithon_bench import main  # noqa: E402

if __name__ == "__main__":
    sys.exit(main.main())
