"""Measurements that need a process of their own: the high-water mark of resident memory never falls."""

import json
import os
import platform
import resource
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

__all__ = ["machine", "peak_mebibytes", "report", "run_child"]


def run_child(script: str, *arguments: object, threads: int) -> dict[str, Any]:
    """Return the JSON object that is the last line a script writes, run with `threads` threads.

    Raises
    ------
    SystemExit
        If the script fails; its output is shown.
    """
    environment = os.environ | {"OMP_NUM_THREADS": str(threads), "TQDM_DISABLE": "1", "PYTHONWARNINGS": "ignore"}
    command = [sys.executable, script, *(str(argument) for argument in arguments)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} must succeed, got status {done.returncode}\n{done.stdout}{done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])


def report(result: dict[str, Any]) -> None:
    """Write the result of a child where `run_child` reads it."""
    print(json.dumps(result), flush=True)


def peak_mebibytes() -> float:
    """Return the largest resident set of this process so far, in MiB."""
    status = Path("/proc/self/status")
    if status.exists():  # Linux, where getrusage begins with the size of the process that started this one
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) / 2**10
    units = 2**20 if sys.platform == "darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / units


def machine(*packages: str) -> dict[str, Any]:
    """Return processor, cores, load average of the last minute, and versions of Python and of some packages."""
    name = platform.processor() or platform.machine()
    cpu_info = Path("/proc/cpuinfo")
    if cpu_info.exists():
        models = [line.split(":")[1].strip() for line in cpu_info.read_text().splitlines() if "model name" in line]
        name = models[0] if models else name
    return {
        "processor": name,
        "cores": os.cpu_count(),
        "load": round(os.getloadavg()[0], 2),
        "versions": {"python": platform.python_version()} | {package: version(package) for package in packages},
    }
