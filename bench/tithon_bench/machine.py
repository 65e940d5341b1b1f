"""What the figures were measured on."""

import os
import platform
import subprocess
from datetime import datetime, timezone

from tithon_bench.environments import REPOSITORY


def describe():
    """The machine and the moment, as text by name."""
    return {
        "date": datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        "commit": _commit(),
        "processor": f"{_processor()}, {len(os.sched_getaffinity(0))} cores",
        "memory": f"{_memory() / 2**30:.0f} GiB",
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "python": platform.python_version(),
    }


def load():
    """Load averages over 1, 5 and 15 minutes: what else the machine did."""
    return " ".join(f"{one:.1f}" for one in os.getloadavg())


def _commit():
    try:
        said = subprocess.run(
            ["git", "describe", "--always", "--dirty"], cwd=REPOSITORY, capture_output=True, text=True, check=True
        )
        return said.stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def _processor():
    with open("/proc/cpuinfo") as lines:
        names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or "unknown processor"


def _memory():
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
