"""SmolLM2's GGUF file rebuilt as an ordinary Hugging Face folder.

transformers can read such a file, but neither save nor quantize again what it read.
"""

import contextlib
import io
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import torch
from tokenizers import pre_tokenizers
from transformers import AutoModelForCausalLM, AutoTokenizer, PretrainedConfig

from llm.cached_folder import CacheError

_CONTEXT_TOKENS = 8192
#: Text and its tokens in the published tokenizer: runs of spaces before digits, contractions,
#: and a special token are where rebuilt tokenizers go wrong.
_PROBE = "It's  12 o'clock:   34.5 %\n\n  naïve<|im_end|>"
_PROBE_TOKENS: Final = (
    *(1589, 506, 256, 33, 34, 263, 23, 17466, 42, 333, 35, 36, 30, 37, 2471),
    *(8866, 15486, 46494, 2),
)

_logger = logging.getLogger(__name__)


def rebuild_model(gguf: Path, folder: Path) -> None:
    """Write weights and configuration of a GGUF file as an ordinary bfloat16 model folder."""
    with _captured_bars():
        read = AutoModelForCausalLM.from_pretrained(
            gguf.parent, gguf_file=gguf.name, dtype=torch.float32
        )
    with torch.random.fork_rng():  # the weights drawn here are overwritten: cost the caller no bit
        model = AutoModelForCausalLM.from_config(_plain_config(read.config), dtype=torch.bfloat16)
    model.load_state_dict(read.state_dict())
    if model.lm_head.weight is not model.model.embed_tokens.weight:
        raise CacheError(
            f"{gguf.name}: input and output embeddings came apart; expected one matrix"
        )
    with _captured_bars():
        model.save_pretrained(folder)


def _plain_config(config: PretrainedConfig) -> PretrainedConfig:
    fields: dict[str, Any] = config.to_dict()
    # What described the GGUF file: with it, the saved folder would ask for that file again.
    fields.pop("quantization_config", None)
    fields.pop("_model_name_or_path", None)
    fields["dtype"] = "bfloat16"
    return type(config).from_dict(fields)


def rebuild_tokenizer(gguf: Path, folder: Path) -> None:
    """Write the tokenizer of a GGUF file, held against what the published one reads.

    Raises
    ------
    CacheError
        If it reads the probe text in another way, or has no chat template.
    """
    tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
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
        raise CacheError(f"{gguf.name}: the rebuilt tokenizer reads {_PROBE!r} as {tokens}")
    if not saved.chat_template:
        raise CacheError(f"{gguf.name}: the rebuilt tokenizer has no chat template")


@contextlib.contextmanager
def _captured_bars() -> Iterator[None]:
    """Keep transformers' own progress bars out of the caller's."""
    bars = io.StringIO()
    try:
        with contextlib.redirect_stderr(bars):
            yield
    finally:
        _logger.debug("%s", bars.getvalue())
