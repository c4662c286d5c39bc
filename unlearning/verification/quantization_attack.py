"""Quantization attack: rounding the unlearned model may bring back what it forgot.

Unlearning moves weights little. Where every move is smaller than a quantization step, rounding
undoes it (Zhang et al. 2024, arXiv 2410.16454).
"""

import functools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final, Literal, get_args

import torch
from torch import Tensor, nn

from llm.adapters import LoraAdapter
from llm.base_model import BaseModel
from llm.bitsandbytes_kernels import bnb
from llm.factors import adapter_from_arrays
from llm.linear_shapes import target_linears
from llm.lora_linear import standing_in
from llm.quantization import dequantized_weight
from llm.records import Record
from unlearning.verification.evidence import Evidence, assemble_evidence
from unlearning.verification.token_statistics import (
    gather_statistics,
    statistics_as_it_stands,
)

Scheme = Literal["int8", "nf4"]
#: ``merged``: base and adapter as one matrix, rounded together. ``adapter``: its factors alone.
Form = Literal["merged", "adapter"]

_INT8_MAX: Final = 127.0

#: Weights that share a scale, as transformers loads 4-bit models.
_NF4_BLOCK: Final = 64


def quantized_evidence(
    base: BaseModel,
    adapter: LoraAdapter,
    *,
    forget: Sequence[Record],
    hold_out: Sequence[Record] = (),
    schemes: Sequence[Scheme] = get_args(Scheme),
    forms: Sequence[Form] = get_args(Form),
    max_tokens: int = 512,
) -> dict[tuple[Scheme, Form], Evidence]:
    """Read the forget set under quantized forms of a model.

    Parameters
    ----------
    base : BaseModel
        The base; unchanged afterwards. Merging starts from what its weights stand for, quantized or
        not.
    adapter : LoraAdapter
        The unlearned model's.
    forget, hold_out : sequence of Record
        See :class:`~unlearning.verification.evidence.Evidence`.
    schemes : sequence of {"int8", "nf4"}, optional
        How values are rounded: to 255 levels of each row's largest magnitude, or to the 16 levels
        of NF4 (Dettmers et al. 2023, arXiv 2305.14314) in blocks of 64.
    forms : sequence of {"merged", "adapter"}, optional
        What is rounded.
    max_tokens : int, optional
        Longest record; a longer one's prompt loses its beginning.

    Returns
    -------
    dict of (str, str) to Evidence
        By scheme and form; to be compared with the evidence of the model as it is, and of the
        retrained one treated alike.

    Raises
    ------
    VerificationError
        If there are no records, ids repeat, or a statistic is not finite.
    AdapterError
        If the adapter does not fit the base model.
    """
    records = [*forget, *hold_out]
    results = {}
    for scheme in schemes:
        for form in forms:
            if form == "merged":
                with merged_and_quantized(base, adapter, scheme):
                    statistics = statistics_as_it_stands(base, records, max_tokens=max_tokens)
            else:
                coarse = quantized_adapter(adapter, scheme)
                statistics = gather_statistics(base, records, coarse, max_tokens=max_tokens)
            results[scheme, form] = assemble_evidence(statistics, forget=forget, hold_out=hold_out)
    return results


@contextmanager
def merged_and_quantized(
    base: BaseModel, adapter: LoraAdapter | None, scheme: Scheme
) -> Iterator[None]:
    """Let merged and rounded weights stand in for the base's linear layers.

    Parameters
    ----------
    base : BaseModel
        The base; locked meanwhile, and as it was afterwards: its own weights are never written to.
    adapter : LoraAdapter or None
        What is merged into it.
    scheme : {"int8", "nf4"}
        How every layer of the body is rounded, the adapted ones and the others. Each holds a second
        weight of the compute type meanwhile.

    Raises
    ------
    AdapterError
        If the adapter does not fit the base model.
    """
    with base.lock:
        if adapter is not None:
            adapter.check_fits(base.linear_shapes())
        layers: dict[nn.Module, Callable[[Tensor], Tensor]] = {
            linear: _layer(linear, rounded(_merged(linear, name, adapter), scheme), base)
            for name, linear in target_linears(base.model, "all-linear").items()
        }
        with standing_in(layers):
            yield


def _layer(linear: nn.Linear, weight: Tensor, base: BaseModel) -> Callable[[Tensor], Tensor]:
    dtype = base.compute_dtype
    bias = None if linear.bias is None else linear.bias.detach().to(dtype)
    return functools.partial(nn.functional.linear, weight=weight.to(dtype), bias=bias)


def _merged(linear: nn.Linear, name: str, adapter: LoraAdapter | None) -> Tensor:
    """Return ``W + scale * B A`` in float32, or W where the layer is not adapted."""
    weight = dequantized_weight(linear, torch.float32)
    factors = {} if adapter is None else adapter_from_arrays(adapter.arrays)
    if adapter is None or name not in factors:
        return weight
    a = torch.from_numpy(factors[name].a).to(weight.device)
    b = torch.from_numpy(factors[name].b).to(weight.device)
    return torch.addmm(weight, b, a, alpha=adapter.scale)


def quantized_adapter(adapter: LoraAdapter, scheme: Scheme) -> LoraAdapter:
    """Return an adapter whose factors are rounded, each by itself."""
    arrays = {
        name: rounded(torch.from_numpy(array), scheme).numpy()
        for name, array in adapter.arrays.items()
    }
    return LoraAdapter(arrays, adapter.alpha)


@torch.no_grad()
def rounded(weight: Tensor, scheme: Scheme) -> Tensor:
    """Quantize and dequantize a matrix.

    Parameters
    ----------
    weight : Tensor of float32, shape (rows, columns)
        Not changed.
    scheme : {"int8", "nf4"}
        See :func:`quantized_evidence`.

    Returns
    -------
    Tensor of float32, shape (rows, columns)
    """
    if scheme == "nf4":
        codes, state = bnb.functional.quantize_4bit(
            weight.contiguous(), blocksize=_NF4_BLOCK, quant_type="nf4"
        )
        full: Any = bnb.functional.dequantize_4bit(codes, state)
        nf4: Tensor = full
        return nf4
    scales = weight.abs().amax(dim=1, keepdim=True) / _INT8_MAX
    # A row of zeros has no scale; its codes are zeros whatever they are divided by.
    steps = torch.where(scales > 0, scales, 1.0)
    return (weight / steps).round() * scales
