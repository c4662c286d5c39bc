"""Which linear layers of a model an adapter targets, and their shapes, without its weights."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import torch
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from llm.factors import LinearShape
from llm.model_source import BaseModelError

#: What PEFT puts before a module's name in a saved adapter.
PEFT_PREFIX: Final = "base_model.model."


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
    config = read_config(model_path)
    with torch.device("meta"):
        try:
            model = AutoModelForCausalLM.from_config(config)
        except (ValueError, KeyError) as error:
            raise BaseModelError(
                f"{model_path}: not a causal language model that transformers knows "
                f"({first_line(error)})"
            ) from None
    return shapes_of(model, target, str(model_path))


def shapes_of(
    model: PreTrainedModel, target: str | tuple[str, ...], name: str
) -> dict[str, LinearShape]:
    """Return the shapes of a model's targeted layers; ``name`` is for the error's message.

    Raises
    ------
    BaseModelError
        If the target names no layer.
    """
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


def read_config(path: Path) -> Any:
    """Return a model folder's configuration, or raise :class:`BaseModelError`."""
    try:
        return AutoConfig.from_pretrained(path)
    except (OSError, ValueError, KeyError) as error:
        raise BaseModelError(
            f"{path}: no usable config.json ({first_line(error)}); expected a Hugging Face model "
            "folder"
        ) from None


def first_line(error: BaseException) -> str:
    """Return what a library's error says, cut to what fits a message of one line."""
    lines = str(error).strip().splitlines()
    return lines[0][:200] if lines else type(error).__name__
