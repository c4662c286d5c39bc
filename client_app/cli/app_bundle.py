"""The Flower application alone, in a folder of its own: what ``flwr run`` packs, and no more.

Flower looks at every file below the folder it is given; in a clone, that is the whole virtual
environment.
"""

import hashlib
import shutil
import tempfile
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


def bundle_hash(app: Path) -> str:
    """Return the SHA-256 of the bundle that Flower makes of a staged application, hexadecimal.

    Flower fixes order and dates in it: the same sources make the same bundle on every machine with
    the same zlib.
    """
    from flwr.cli.build import build_fab_from_disk

    return hashlib.sha256(build_fab_from_disk(app)).hexdigest()


def own_bundle() -> str:
    """Return the SHA-256 of the bundle of the Foedus that is installed here."""
    with tempfile.TemporaryDirectory() as folder:
        return bundle_hash(stage_app(Path(folder) / "app"))
