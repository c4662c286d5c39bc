"""Answers: what the base says to a prompt, with an adapter on it or without."""

import torch

from llm.adapted_model import adapted
from llm.adapters import LoraAdapter
from llm.base_model import BaseModel
from llm.records import Message, Record
from llm.tokenization import encode_prompt


def generate(
    base: BaseModel,
    prompt: str | tuple[Message, ...],
    adapter: LoraAdapter | None = None,
    *,
    max_new_tokens: int = 64,
    temperature: float = 0.0,
    seed: int = 0,
) -> str:
    """Continue a prompt.

    Parameters
    ----------
    base : BaseModel
        The base; unchanged afterwards.
    prompt : str or tuple of Message
        Text to go on from, or a chat to answer.
    adapter : LoraAdapter, optional
        What to put on the base.
    max_new_tokens : int, optional
        Longest answer, in tokens.
    temperature : float, optional
        0 takes the most probable token each time: the same answer at every call. Above 0, tokens
        are drawn from the distribution sharpened (below 1) or flattened (above 1) by it.
    seed : int, optional
        Of the draws; the global random state stays as it was.

    Returns
    -------
    str
        What the model adds, without special tokens.

    Raises
    ------
    ValueError
        If the prompt is empty, the temperature negative, or no token allowed.
    TokenizationError
        If the prompt is a chat and the tokenizer has no chat template.
    """
    if max_new_tokens < 1:
        raise ValueError(f"max_new_tokens {max_new_tokens}: expected at least 1")
    if not 0 <= temperature < float("inf"):
        raise ValueError(f"temperature {temperature}: expected 0 or a positive number")
    ids = encode_prompt(Record("prompt", prompt, "answer"), base.tokenizer)
    tokens = torch.tensor([ids], dtype=torch.int64, device=base.device)
    sampling = {"do_sample": True, "temperature": temperature} if temperature else {}
    with adapted(base, adapter), torch.random.fork_rng(enabled=temperature > 0):
        if temperature:
            torch.manual_seed(seed)
        output: torch.Tensor = base.model.generate(
            tokens,
            attention_mask=torch.ones_like(tokens),
            max_new_tokens=max_new_tokens,
            **({"do_sample": False, "temperature": None, "top_p": None, "top_k": None} | sampling),
        )
    return str(base.tokenizer.decode(output[0, len(ids) :], skip_special_tokens=True))
