"""Quantized linear layers: how the base is compressed, and the weight that a layer stands for.

One definition serves training and evaluation alike: a layer's weight is what its stored codes
dequantize to, in the compute type. bitsandbytes' own CPU layers use different arithmetic in the
two modes (see :func:`forbid_inference_packing`).
"""

from typing import Any, Final

import torch
from torch import Tensor, nn
from transformers import BitsAndBytesConfig, PreTrainedModel

from llm.bitsandbytes_kernels import bnb
from llm.model_source import Quantization

#: Largest code of an int8 row: its scale is the row's largest magnitude.
_INT8_MAX: Final = 127.0


def fast_compute_dtype(device: torch.device) -> torch.dtype:
    """Return bfloat16 where the device multiplies it in hardware, float32 elsewhere."""
    if device.type == "cuda":
        fast = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        capabilities = torch.cpu.get_capabilities()
        fast = any(capabilities.get(name, False) for name in ("avx512_bf16", "amx_bf16", "bf16"))
    return torch.bfloat16 if fast else torch.float32


def quantization_config(
    quantization: Quantization, compute_dtype: torch.dtype
) -> BitsAndBytesConfig | None:
    """Return how transformers shall quantize while it loads; None for not at all."""
    if quantization == "nf4":
        return BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_compute_dtype=compute_dtype,
        )
    if quantization == "int8":
        return BitsAndBytesConfig(load_in_8bit=True)
    return None


def forbid_inference_packing(model: PreTrainedModel) -> None:
    """Keep every 4-bit layer's weight in the one layout that can be trained through.

    On processors with AVX512-BF16, ``Linear4bit.forward`` of bitsandbytes 0.50.2 repacks its
    weight at the first call in evaluation mode, and nothing unpacks it: every gradient after that
    is wrong (relative error 0.98), with a warning at most. Call this before the first forward.
    """
    for module in model.modules():
        if isinstance(module, bnb.nn.Linear4bit):
            module.support_avx512bf16_for_cpu = False


@torch.no_grad()
def dequantized_weight(linear: nn.Linear, dtype: torch.dtype) -> Tensor:
    """Return the weight a linear layer stands for.

    Parameters
    ----------
    linear : Linear
        A plain layer, or one of bitsandbytes' 4-bit or 8-bit ones.
    dtype : dtype
        Type of the result; the same bits at every call.

    Returns
    -------
    Tensor, shape (out_features, in_features)
        The layer's own storage where it is not quantized and already of that type.
    """
    # What bitsandbytes hangs on its parameters is not part of their declared type.
    weight: Any = linear.weight
    full: Tensor
    if isinstance(linear, bnb.nn.Linear4bit):
        full = bnb.functional.dequantize_4bit(weight.data, weight.quant_state)
        return full.to(dtype)
    if isinstance(linear, bnb.nn.Linear8bitLt):
        # The codes stay with the parameter until the layer's first own forward moves them.
        codes, scales = (
            (linear.state.CB, linear.state.SCB)
            if linear.state.CB is not None
            else (weight.CB, weight.SCB)
        )
        if codes is None or scales is None:
            raise RuntimeError("an int8 layer lost its codes or scales: load the base model again")
        full = codes.float() * (scales.float()[:, None] / _INT8_MAX)
        return full.to(dtype)
    return linear.weight.detach().to(dtype)
