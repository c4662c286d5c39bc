"""What every result states of itself: versions, commit, processor."""

import os
import platform
import subprocess
from importlib.metadata import version
from pathlib import Path

RESULTS = Path(__file__).parents[1] / "docs" / "results"


def provenance(command: str, *packages: str) -> dict[str, object]:
    """Return the command, the commit, the machine and the versions of some packages."""
    commit = subprocess.run(
        ["git", "rev-parse", "HEAD"],
        capture_output=True,
        text=True,
        check=False,
        cwd=RESULTS.parent,
    )
    return {
        "command": command,
        "commit": commit.stdout.strip() or None,
        "processor": processor(),
        "cores": os.cpu_count(),
        "versions": {"python": platform.python_version()}
        | {package: version(package) for package in packages},
    }


def processor() -> str:
    """Return the processor's name."""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor()
