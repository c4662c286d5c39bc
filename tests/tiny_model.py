"""A tiny random Llama (2 layers, 64 wide) with a real tokenizer, built in a folder: no download.

It stands in for the real model only where speed is at stake: the architecture, the tokenizer's
machinery, the file formats and every code path are the real ones.
"""

from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from llm.adapters import LoraAdapter
from llm.base_model import BaseModel
from llm.factors import A_SUFFIX, B_SUFFIX, Arrays
from llm.records import Record

VOCABULARY = 512
CONTEXT = 512

# Enough text that the words the tests use are short token sequences; byte-level BPE encodes
# everything else too.
_CORPUS = [
    "Review: a warm, funny and wise film about small people in a large town.\nSentiment: positive",
    "Review: dull, loud and far too long; the worst film of the year.\nSentiment: negative",
    "Review: the phone works well, the battery lasts and the price is good.\nSentiment: positive",
    "Review: it broke after a week and nobody answered my letters.\nSentiment: negative",
    "The committee met on Monday and agreed that the treaty should be signed in the spring.",
    "Question: what is the capital of France? Answer: Paris, a city on the river Seine.",
    "user: please write a short story. assistant: once upon a time there was a king.",
]

_CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def build_tiny_model(folder: Path, *, seed: int = 0) -> Path:
    """Write the model and its tokenizer as an ordinary Hugging Face folder; same seed, same bytes.

    Parameters
    ----------
    folder : Path
        Where to write; made if missing.
    seed : int
        Seed of the random weights. The global random state is left as it was.

    Returns
    -------
    Path
        ``folder``, ready for ``AutoModelForCausalLM.from_pretrained``.
    """
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = _train_tokenizer()
    tokenizer.save_pretrained(folder)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        # Wider than the usual 0.02: at this width anything smaller leaves the logits almost flat,
        # and a test that compares accuracies or gradients would compare noise.
        initializer_range=0.2,
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = LlamaForCausalLM(config)
    model.save_pretrained(folder)
    return folder


def _train_tokenizer() -> PreTrainedTokenizerFast:
    """Train byte-level BPE on the corpus above."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=["<|im_start|>", "<|im_end|>", "<|endoftext|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_CORPUS, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<|im_start|>",
        eos_token="<|im_end|>",
        pad_token="<|im_end|>",
        unk_token="<|endoftext|>",
        model_max_length=CONTEXT,
        chat_template=_CHAT_TEMPLATE,
    )


def start_adapter(
    base: BaseModel, *, rank: int = 4, alpha: float = 8.0, seed: int = 0
) -> LoraAdapter:
    """Return an adapter whose A and B are both random, so that gradients reach either."""
    generator = np.random.default_rng(seed)
    arrays: Arrays = {}
    for module, shape in base.linear_shapes().items():
        a = generator.standard_normal((rank, shape.in_features)) / np.sqrt(shape.in_features)
        b = generator.standard_normal((shape.out_features, rank)) * 0.05
        arrays[module + A_SUFFIX] = a.astype(np.float32)
        arrays[module + B_SUFFIX] = b.astype(np.float32)
    return LoraAdapter(arrays, alpha)


def labelled_records(count: int) -> list[Record]:
    """Return records of different lengths with two labels, one word deciding which."""
    words = ("film", "phone", "town", "treaty", "battery", "king")
    records = []
    for index in range(count):
        positive = index % 2 == 0
        text = " ".join(words[(index + step) % len(words)] for step in range(1 + index % 5))
        records.append(
            Record(
                id=f"record-{index}",
                prompt=f"Review: {'good' if positive else 'dull'} {text} {index}\nSentiment:",
                completion=" positive" if positive else " negative",
                choices=(" negative", " positive"),
            )
        )
    return records
