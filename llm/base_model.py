"""The base model: found, quantized and loaded once in each process."""

import hashlib
import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, Final, Literal

import torch
from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError
from pydantic import BaseModel as Settings
from pydantic import ConfigDict, Field
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils import logging as transformers_logging

from llm.embedded_model import embedded_model_path
from llm.factors import LinearShape
from llm.progress import Progress, silent
from llm.quantization import (
    Quantization,
    fast_compute_dtype,
    forbid_inference_packing,
    quantization_config,
)

EMBEDDED: Final = "embedded"

#: What PEFT puts before a module's name in a saved adapter.
PEFT_PREFIX: Final = "base_model.model."

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
class BaseModel:
    """A loaded base model, shared by everything in this process.

    Parameters
    ----------
    model : PreTrainedModel
        The causal language model, frozen and in evaluation mode.
    tokenizer : PreTrainedTokenizerBase
        Its tokenizer.
    path : Path
        The folder it was read from.
    name : str
        The name a saved adapter gives as its base.
    fingerprint : str
        SHA-256 over the folder's configuration, weights and tokenizer, hexadecimal.
    quantization : {"nf4", "int8", "none"}
        How the linear layers of the body are stored.
    compute_dtype : dtype
        Type of activations and matrix products.
    device : device
        Where it lives.
    has_plain_head : bool
        Whether logits are the output head's product with the last hidden states and nothing more
        (some models cap or scale them).
    lock : RLock
        Held by whoever puts an adapter on the model.
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    path: Path
    name: str
    fingerprint: str
    quantization: Quantization
    compute_dtype: torch.dtype
    device: torch.device
    has_plain_head: bool
    lock: threading.RLock = field(default_factory=threading.RLock, repr=False, compare=False)

    @property
    def body(self) -> nn.Module:
        """The decoder without its output head."""
        body: nn.Module = self.model.base_model
        return body

    @property
    def head(self) -> Tensor:
        """The output head's matrix, (vocabulary, width)."""
        head: nn.Linear = self.model.get_output_embeddings()
        return head.weight

    def linear_shapes(self, target: str | tuple[str, ...] = "all-linear") -> dict[str, LinearShape]:
        """Return the shapes of the linear layers an adapter targets, by PEFT module name."""
        return _shapes(self.model, target, self.name)


def load_base_model(
    settings: BaseModelSettings, cache: Path, progress: Progress = silent
) -> BaseModel:
    """Load the base model, or return the one this process already holds.

    Parameters
    ----------
    settings : BaseModelSettings
        Which model, and in what precision.
    cache : Path
        Foedus' cache folder.
    progress : Progress, optional
        Told of download and conversion.

    Returns
    -------
    BaseModel
        One object in a process for equal settings and cache.

    Raises
    ------
    BaseModelError
        If the model is missing, damaged or of no use here, or the hub cannot be reached.
    RegistryError, CacheError
        If the embedded model cannot be prepared.
    """
    cache = cache.expanduser().resolve()
    # Outside the memory of loaded models: the progress callback is no part of what was loaded.
    if (settings, cache) not in _paths:
        _paths[settings, cache] = base_model_path(settings, cache, progress)
    return _load(settings, _paths[settings, cache])


_paths: dict[tuple[BaseModelSettings, Path], Path] = {}


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
    path = Path(settings.model).expanduser()
    if path.is_dir():
        return path.resolve()
    if path.is_absolute() or settings.model.startswith((".", "~")):
        raise BaseModelError(
            f"{settings.model}: no such folder; give a model's folder, a name on the Hugging Face "
            f"hub, or {EMBEDDED!r}"
        )
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
        raise BaseModelError(
            f"{settings.model!r}: neither a folder here nor a valid hub name (owner/name)"
        ) from None
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


def linear_shapes(
    model_path: Path, target: str | tuple[str, ...] = "all-linear"
) -> dict[str, LinearShape]:
    """Return the shapes of the layers an adapter targets, without reading the weights.

    Parameters
    ----------
    model_path : Path
        The model's folder.
    target : str or tuple of str
        ``all-linear`` for every linear layer of the body, or the last parts of module names, such
        as ``("q_proj", "v_proj")``.

    Returns
    -------
    dict of str to LinearShape
        By PEFT module name (``base_model.model.model.layers.0.self_attn.q_proj``), sorted.

    Raises
    ------
    BaseModelError
        If the folder is no causal language model, or the target names no layer of it.
    """
    config = _read_config(model_path)
    with torch.device("meta"):
        try:
            model = AutoModelForCausalLM.from_config(config)
        except (ValueError, KeyError) as error:
            raise BaseModelError(
                f"{model_path}: not a causal language model that transformers knows "
                f"({_first_line(error)})"
            ) from None
    return _shapes(model, target, str(model_path))


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


@lru_cache(maxsize=1)
def _load(settings: BaseModelSettings, path: Path) -> BaseModel:
    device = _device(settings)
    compute_dtype = (
        fast_compute_dtype(device)
        if settings.compute_dtype == "auto"
        else getattr(torch, settings.compute_dtype)
    )
    _read_config(path)
    _check_weight_files(path)
    try:
        tokenizer = AutoTokenizer.from_pretrained(path)
        with _without_progress_bars():
            model = AutoModelForCausalLM.from_pretrained(
                path,
                dtype=compute_dtype,
                quantization_config=quantization_config(settings.quantization, compute_dtype),
                device_map={"": device},
                use_safetensors=True,
                attn_implementation="sdpa",
            )
    except (OSError, ValueError, KeyError, SafetensorError, RuntimeError) as error:
        raise BaseModelError(
            f"{path}: cannot be loaded ({_first_line(error)}); fetch the model again, or choose "
            "another"
        ) from error
    forbid_inference_packing(model)
    model.requires_grad_(False)
    model.eval()
    return BaseModel(
        model=model,
        tokenizer=tokenizer,
        path=path,
        name=_given_name(settings),
        fingerprint=model_fingerprint(path),
        quantization=settings.quantization,
        compute_dtype=compute_dtype,
        device=device,
        has_plain_head=_has_plain_head(model),
    )


@torch.no_grad()
def _has_plain_head(model: PreTrainedModel) -> bool:
    """Compare the model's own logits with its head's product, on two tokens."""
    head: Any = model.get_output_embeddings()
    if type(head) is not nn.Linear or getattr(head, "bias", None) is not None:
        return False
    tokens = torch.tensor([[1, 2]], device=model.device)
    hidden = model.base_model(input_ids=tokens, use_cache=False).last_hidden_state
    logits = model(input_ids=tokens, use_cache=False).logits
    return torch.allclose(hidden[0] @ head.weight.T, logits[0], rtol=1e-2, atol=1e-2)


def _device(settings: BaseModelSettings) -> torch.device:
    if settings.device == "cuda" and not torch.cuda.is_available():
        raise BaseModelError("device cuda: this machine offers none; set device to auto or cpu")
    if settings.device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return torch.device(settings.device)


def _given_name(settings: BaseModelSettings) -> str:
    if settings.model == EMBEDDED:
        return "HuggingFaceTB/SmolLM2-135M-Instruct"
    return settings.model


def _read_config(path: Path) -> Any:
    try:
        return AutoConfig.from_pretrained(path)
    except (OSError, ValueError, KeyError) as error:
        raise BaseModelError(
            f"{path}: no usable config.json ({_first_line(error)}); expected a Hugging Face model "
            "folder"
        ) from None


def _check_weight_files(path: Path) -> None:
    """Refuse damaged weights before they are read: the header alone tells a cut file."""
    files = sorted(path.glob("*.safetensors"))
    if not files:
        raise BaseModelError(
            f"{path}: no .safetensors weights; convert the model (pickled weights are refused)"
        )
    for file in files:
        try:
            with safe_open(file, framework="pt") as weights:
                weights.keys()
        except SafetensorError as error:
            raise BaseModelError(
                f"{file}: damaged ({_first_line(error)}); fetch the model again"
            ) from None


def _shapes(
    model: PreTrainedModel, target: str | tuple[str, ...], name: str
) -> dict[str, LinearShape]:
    linears = target_linears(model, target)
    if not linears:
        raise BaseModelError(
            f"{name}: target {target!r} names none of its linear layers; use 'all-linear' or the "
            "last parts of module names"
        )
    return {
        module: LinearShape(linear.out_features, linear.in_features)
        for module, linear in linears.items()
    }


def target_linears(model: PreTrainedModel, target: str | tuple[str, ...]) -> dict[str, nn.Linear]:
    """Return the linear layers an adapter targets, by PEFT module name, sorted.

    The output head is never among them: adapting it would cost a vocabulary-sized factor.
    """
    head = model.get_output_embeddings()
    named: Mapping[str, nn.Module] = dict(model.named_modules())
    return {
        PEFT_PREFIX + name: module
        for name, module in sorted(named.items())
        if isinstance(module, nn.Linear)
        and module is not head
        and (target == "all-linear" or name.rpartition(".")[2] in target)
    }


@contextmanager
def _without_progress_bars() -> Iterator[None]:
    if not transformers_logging.is_progress_bar_enabled():
        yield
        return
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        transformers_logging.enable_progress_bar()


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0][:200] if lines else type(error).__name__
