"""The Flower application alone, in a folder of its own: what ``flwr run`` packs, and no more.

Flower looks at every file below the folder it is given; in a clone, that is the whole virtual
environment.
"""

import shutil
import tomllib
from pathlib import Path
from typing import Any

#: Where ``pyproject.toml`` and the packages stand, installed from a clone.
SOURCE = Path(__file__).resolve().parents[2]


def app_defaults() -> dict[str, Any]:
    """Return ``[tool.flwr.app.config]``."""
    return dict(_flower_table()["config"])


def stage_app(target: Path) -> Path:
    """Copy the files that ``fab-include`` names, and ``pyproject.toml``; return the folder."""
    shutil.rmtree(target, ignore_errors=True)
    named = {path for pattern in _flower_table()["fab-include"] for path in SOURCE.glob(pattern)}
    for path in (SOURCE / "pyproject.toml", *sorted(named)):
        copy = target / path.relative_to(SOURCE)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, copy)
    return target


def _flower_table() -> dict[str, Any]:
    project = tomllib.loads((SOURCE / "pyproject.toml").read_text(encoding="utf-8"))
    return dict(project["tool"]["flwr"]["app"])
