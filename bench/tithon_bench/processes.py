"""CPU time and memory of processes, from /proc."""

import os
import signal
import time
from pathlib import Path


class Usage:
    """What processes used since this was made. Keys are roles, values process ids."""

    def __init__(self, roles):
        self.roles = dict(roles)
        for pid in self.roles.values():
            _reset_peak(pid)
        self._before = {role: cpu_seconds(pid) for role, pid in self.roles.items()}

    def cpu(self):
        """CPU seconds by role."""
        return {role: cpu_seconds(pid) - self._before[role] for role, pid in self.roles.items()}

    def peak(self):
        """Largest resident set by role, bytes."""
        return {role: _status(pid, "VmHWM") for role, pid in self.roles.items()}


def cpu_seconds(pid):
    """CPU time of a process's living threads. The scheduler's own account: /proc/PID/stat counts in ticks."""
    total = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        try:
            total += int((task / "schedstat").read_text().split()[0])
        except FileNotFoundError:  # a thread that ended meanwhile
            pass
    return total / 1e9


def private_bytes(pid):
    """Memory that would be free without this process."""
    return _rollup(pid, "Private_Clean:") + _rollup(pid, "Private_Dirty:")


def proportional_bytes(pid):
    """Its private memory and its share of what it shares."""
    return _rollup(pid, "Pss:")


def _rollup(pid, field):
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1]) * 1024
    raise ValueError(f"no {field} of process {pid}")


def _status(pid, field):
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) * 1024
    raise ValueError(f"no {field} of process {pid}")


def _reset_peak(pid):
    Path(f"/proc/{pid}/clear_refs").write_text("5")


def alive(pid):
    """Whether a process runs; a zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def kill(pid):
    """SIGKILL, and wait until the process is no more."""
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return
    wait_until(lambda: not alive(pid), f"process {pid} to end")


def wait_until(condition, what, timeout=120.0, pause=0.002):
    """Poll until the condition gives something."""
    deadline = time.monotonic() + timeout
    while True:
        outcome = condition()
        if outcome:
            return outcome
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {timeout:.0f} s in vain for {what}")
        time.sleep(pause)
