"""Where the base model comes from: embedded, a folder, or the Hugging Face hub.

Nothing here loads torch: who only has to find a model, or to name it, starts in a moment.
"""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError
from pydantic import BaseModel as Settings
from pydantic import ConfigDict, Field

from llm.embedded_model import NAME as EMBEDDED_FOLDER
from llm.embedded_model import PACKAGE as EMBEDDED_PACKAGE
from llm.embedded_model import embedded_model_damage, embedded_model_path
from llm.progress import Progress, silent

EMBEDDED: Final = "embedded"

Quantization = Literal["nf4", "int8", "none"]

#: What a model folder may hold that is of use here; no pickled weights.
_WANTED_FILES: Final = ("*.json", "*.safetensors", "*.model", "*.txt", "*.jinja")
_HASH_CHUNK_BYTES: Final = 1 << 22


class BaseModelError(RuntimeError):
    """The base model cannot be had, read or used; the message says what to do."""


class BaseModelSettings(Settings):
    """Which model, and in what precision.

    Parameters
    ----------
    model : str
        ``embedded`` (SmolLM2-135M-Instruct), a folder, or a name on the Hugging Face hub.
    revision : str, optional
        Branch, tag or commit on the hub; organizations that pin a commit get the same bits.
    quantization : {"nf4", "int8", "none"}
        How the linear layers of the body are stored.
    compute_dtype : {"auto", "bfloat16", "float32"}
        Type of activations and matrix products; ``auto`` takes bfloat16 where it is fast. Runs
        that must agree bit for bit name it.
    device : {"auto", "cpu", "cuda"}
        Where to compute.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str = Field(default=EMBEDDED, min_length=1, max_length=4096)
    revision: str | None = None
    quantization: Quantization = "nf4"
    compute_dtype: Literal["auto", "bfloat16", "float32"] = "auto"
    device: Literal["auto", "cpu", "cuda"] = "auto"


@dataclass(frozen=True)
class CachedModel:
    """What of a model is there without fetching anything.

    Parameters
    ----------
    path : Path or None
        Its folder, where it is whole.
    fetched_bytes : int
        What has to be fetched for the embedded model; 0 where it is there, or nobody knows.
    damage : str or None
        What is wrong with a folder that is there.
    """

    path: Path | None
    fetched_bytes: int = 0
    damage: str | None = None


def cached_model_path(settings: BaseModelSettings, cache: Path) -> CachedModel:
    """Look where :func:`base_model_path` would find a model, and fetch nothing.

    Raises
    ------
    BaseModelError
        If there is no such folder, or the name can be none of the hub's.
    """
    if settings.model == EMBEDDED:
        folder = cache / EMBEDDED_FOLDER
        damage = embedded_model_damage(cache)
        if damage is None:
            return CachedModel(folder)
        return CachedModel(None, EMBEDDED_PACKAGE.size, damage if folder.exists() else None)
    if (path := _local_folder(settings.model)) is not None:
        return CachedModel(path)
    try:
        found = snapshot_download(
            settings.model,
            revision=settings.revision,
            cache_dir=cache / "hub",
            allow_patterns=list(_WANTED_FILES),
            local_files_only=True,
        )
    except HFValidationError:
        raise _no_name(settings.model) from None
    except LocalEntryNotFoundError:
        return CachedModel(None)
    return CachedModel(Path(found))


def base_model_path(settings: BaseModelSettings, cache: Path, progress: Progress = silent) -> Path:
    """Return the model's folder, fetching it where it is not there yet.

    Raises
    ------
    BaseModelError
        If there is no such folder or model, or the hub cannot be reached.
    RegistryError, CacheError
        If the embedded model cannot be prepared.
    """
    if settings.model == EMBEDDED:
        return embedded_model_path(cache, progress)
    if (path := _local_folder(settings.model)) is not None:
        return path
    try:
        return Path(
            snapshot_download(
                settings.model,
                revision=settings.revision,
                cache_dir=cache / "hub",
                allow_patterns=list(_WANTED_FILES),
            )
        )
    except HFValidationError:
        raise _no_name(settings.model) from None
    except LocalEntryNotFoundError:
        raise BaseModelError(
            f"{settings.model}: not in the cache, and the Hugging Face hub cannot be reached; "
            f"check the network or HF_HUB_OFFLINE, give a local folder, or use {EMBEDDED!r}"
        ) from None
    except HfHubHTTPError as error:
        status = getattr(error.response, "status_code", "no answer")
        raise BaseModelError(
            f"{settings.model}: the Hugging Face hub refused it ({status}); check name, revision "
            "and, for a gated model, your token"
        ) from None


def _local_folder(model: str) -> Path | None:
    """Return a model's folder on this machine; None where it is to be had from the hub."""
    path = Path(model).expanduser()
    if path.is_dir():
        return path.resolve()
    if path.is_absolute() or model.startswith((".", "~")):
        raise BaseModelError(
            f"{model}: no such folder; give a model's folder, a name on the Hugging Face hub, or "
            f"{EMBEDDED!r}"
        )
    return None


def _no_name(model: str) -> BaseModelError:
    return BaseModelError(f"{model!r}: neither a folder here nor a valid hub name (owner/name)")


def model_fingerprint(model_path: Path) -> str:
    """Return the SHA-256 of a model folder's configuration, weights and tokenizer.

    Computed over the names and SHA-256 digests of those files, in sorted order; any difference in
    a byte that could change what the model says changes it.
    """
    digests = {}
    for path in sorted(model_path.iterdir()):
        if not path.is_file() or not any(path.match(pattern) for pattern in _WANTED_FILES):
            continue
        digest = hashlib.sha256()
        with path.open("rb") as file:
            while chunk := file.read(_HASH_CHUNK_BYTES):
                digest.update(chunk)
        digests[path.name] = digest.hexdigest()
    return hashlib.sha256(json.dumps(digests, sort_keys=True).encode()).hexdigest()
