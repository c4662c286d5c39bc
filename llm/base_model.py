"""The base model: found, quantized and loaded once in each process."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils import logging as transformers_logging

from llm.factors import LinearShape
from llm.linear_shapes import first_line, read_config, shapes_of
from llm.model_source import (
    EMBEDDED,
    BaseModelError,
    BaseModelSettings,
    Quantization,
    base_model_path,
    model_fingerprint,
)
from llm.progress import Progress, silent
from llm.quantization import (
    fast_compute_dtype,
    forbid_inference_packing,
    quantization_config,
)


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
        return shapes_of(self.model, target, self.name)


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
        One object in a process for equal settings and cache; the last two are held.

    Raises
    ------
    BaseModelError
        If the model is missing, damaged or of no use here, or the hub cannot be reached.
    RegistryError, CacheError
        If the embedded model cannot be prepared.
    """
    cache = cache.expanduser().resolve()
    if settings.compute_dtype == "auto":
        # Named, so that whoever asks for the type by name gets the same object.
        fast = fast_compute_dtype(_device(settings))
        settings = settings.model_copy(update={"compute_dtype": str(fast).removeprefix("torch.")})
    # Outside the memory of loaded models: the progress callback is no part of what was loaded.
    if (settings, cache) not in _paths:
        _paths[settings, cache] = base_model_path(settings, cache, progress)
    return _load(settings, _paths[settings, cache])


_paths: dict[tuple[BaseModelSettings, Path], Path] = {}


def load_tokenizer(settings: BaseModelSettings, cache: Path) -> PreTrainedTokenizerBase:
    """Load a base model's tokenizer, and not the model.

    Raises
    ------
    BaseModelError
        If there is none.
    """
    return _tokenizer(base_model_path(settings, cache.expanduser().resolve()))


@lru_cache(maxsize=2)
def _tokenizer(path: Path) -> PreTrainedTokenizerBase:
    try:
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(path)
    except (OSError, ValueError, KeyError) as error:
        raise BaseModelError(
            f"{path}: its tokenizer cannot be loaded ({first_line(error)}); fetch the model again, "
            "or choose another"
        ) from error
    return tokenizer


# Two: an attestor trains in one type and scores in another.
@lru_cache(maxsize=2)
def _load(settings: BaseModelSettings, path: Path) -> BaseModel:
    device = _device(settings)
    compute_dtype: torch.dtype = getattr(torch, settings.compute_dtype)
    read_config(path)
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
            f"{path}: cannot be loaded ({first_line(error)}); fetch the model again, or choose "
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
                f"{file}: damaged ({first_line(error)}); fetch the model again"
            ) from None


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
