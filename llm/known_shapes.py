"""Shapes of the layers an adapter targets, kept in the cache: asking again loads no torch."""

import hashlib
import importlib.metadata
import json
from pathlib import Path
from typing import Final

from llm.cached_folder import CacheError, cached_folder
from llm.factors import LinearShape

_FILE: Final = "shapes.json"
_NEEDED_BYTES: Final = 10_000_000


def known_linear_shapes(
    model_path: Path, target: str | tuple[str, ...], cache: Path
) -> dict[str, LinearShape]:
    """Return what :func:`llm.linear_shapes.linear_shapes` says, from the cache where it was asked.

    Parameters
    ----------
    model_path : Path
        The model's folder.
    target : str or tuple of str
        Which layers.
    cache : Path
        Foedus' cache folder. What is kept there is found by the model's configuration, the target
        and the version of transformers, which together decide the answer.

    Raises
    ------
    BaseModelError
        If the folder is no causal language model, or the target names no layer of it.
    CacheError
        If the cache cannot be written.
    """

    def build(folder: Path) -> None:
        # Loads torch and transformers.
        from llm.linear_shapes import linear_shapes  # noqa: PLC0415

        shapes = linear_shapes(model_path, target)
        (folder / _FILE).write_text(
            json.dumps({name: [s.out_features, s.in_features] for name, s in shapes.items()})
        )

    folder = cached_folder(
        cache / "shapes" / _key(model_path, target), build, pins={}, needed_bytes=_NEEDED_BYTES
    )
    kept = json.loads((folder / _FILE).read_text(encoding="utf-8"))
    try:
        return {name: LinearShape(int(out), int(into)) for name, (out, into) in kept.items()}
    except (AttributeError, TypeError, ValueError):
        raise CacheError(f"{folder} holds no shapes: remove it, and run again") from None


def _key(model_path: Path, target: str | tuple[str, ...]) -> str:
    config = model_path / "config.json"
    parts = [
        hashlib.sha256(config.read_bytes() if config.is_file() else b"").hexdigest(),
        json.dumps(target),
        importlib.metadata.version("transformers"),
    ]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:32]
