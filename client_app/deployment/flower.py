"""The environment in which Flower's own processes run for a home."""

import os
import sys
from pathlib import Path


def flower_home(home: Path) -> Path:
    """Return Flower's folder of a home: connections, unpacked applications."""
    return home / "flwr"


def script(name: str) -> str:
    """Return the path of one of Flower's commands, beside this interpreter."""
    return str(Path(sys.executable).with_name(name))


def flower_environment(home: Path, first_on_path: Path | None = None) -> dict[str, str]:
    """Return an environment in which Flower finds its folder, and nothing of anybody else's.

    Parameters
    ----------
    home : Path
        The home.
    first_on_path : Path, optional
        A folder whose commands stand before all others.
    """
    path = [str(Path(sys.executable).parent), os.environ.get("PATH", "")]
    if first_on_path is not None:
        path.insert(0, str(first_on_path))
    return {
        **os.environ,
        "FLWR_HOME": str(flower_home(home)),
        "FLWR_TELEMETRY_ENABLED": "0",
        "FLWR_DISABLE_UPDATE_CHECK": "1",
        "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
        # A task starts at once, and not within a second of its message.
        "FLWR_SUPEREXEC_TASK_POLL_INTERVAL": "0.1",
        # NumPy's products here are small; their threads and torch's only get in each other's way.
        "OPENBLAS_NUM_THREADS": "1",
        "PATH": os.pathsep.join(path),
    }
