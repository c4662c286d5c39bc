"""A case measured in a process of its own, on one thread: its peak of memory is its own."""

import json
import os
import subprocess
import sys
from typing import Any


def measured_apart(module: str, *arguments: str) -> dict[str, Any]:
    """Run a benchmark's module, which prints what it measured as JSON.

    Parameters
    ----------
    module : str
        As Python names it.
    *arguments : str
        What it is given.
    """
    answer = subprocess.run(
        [sys.executable, "-m", module, *arguments],
        env={**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    if answer.returncode:
        sys.exit(f"measuring {' '.join(arguments)} failed:\n{answer.stderr}")
    measured: dict[str, Any] = json.loads(answer.stdout)
    return measured
