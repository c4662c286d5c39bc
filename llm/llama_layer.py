"""A Llama decoder layer for training on short sequences, in a handful of differentiable steps.

Same arithmetic as transformers' ``LlamaDecoderLayer`` under plain causal attention; what differs is
how often memory is walked through. On a processor with fast bfloat16 products, transformers' layer
spends most of its time outside of them: torch's attention takes 8 times as long as the operations
it is made of, and norms, rotations and gates are chains of small operations.
"""

import functools
import math
from collections.abc import Mapping
from typing import Any, Final

import torch
from torch import Tensor, nn
from transformers.activations import SiLUActivation
from transformers.models.llama.modeling_llama import LlamaDecoderLayer

from llm.lora_linear import AdaptedLinear, StackedLinear

#: Longest rows taken. The scores of all heads are kept for the backward pass, and grow with the
#: square of the length; from here on torch's own attention is no slower.
MAX_LENGTH: Final = 256

#: torch's softmax is three times slower on rows that do not fill its vector registers.
_KEY_MULTIPLE: Final = 32


class LlamaLayer:
    """Stands in for one decoder layer where it can, and hands everything else to the original.

    Parameters
    ----------
    layer : LlamaDecoderLayer
        The layer of the base model.
    linears : mapping of Linear to AdaptedLinear
        What stands in for the layer's linear layers.
    """

    def __init__(
        self, layer: LlamaDecoderLayer, linears: Mapping[nn.Module, AdaptedLinear]
    ) -> None:
        attention, mlp = layer.self_attn, layer.mlp
        self._original = layer.forward
        self._head_dim: int = attention.head_dim
        self._groups: int = attention.num_key_value_groups
        self._scaling: float = attention.scaling
        self._input_norm = layer.input_layernorm
        self._output_norm = layer.post_attention_layernorm
        self._qkv = StackedLinear(
            [linears[p] for p in (attention.q_proj, attention.k_proj, attention.v_proj)]
        )
        self._output = StackedLinear([linears[attention.o_proj]])
        self._gate_up = StackedLinear([linears[p] for p in (mlp.gate_proj, mlp.up_proj)])
        self._down = StackedLinear([linears[mlp.down_proj]])

    @staticmethod
    def takes(layer: nn.Module, linears: Mapping[nn.Module, AdaptedLinear]) -> bool:
        """Say whether a module is a decoder layer of this kind: Llama, SiLU, no biases."""
        if type(layer) is not LlamaDecoderLayer:
            return False
        mlp: Any = layer.mlp
        if not isinstance(mlp.act_fn, nn.SiLU | SiLUActivation):
            return False
        parts = [m for m in layer.modules() if isinstance(m, nn.Linear)]
        return len(parts) == 7 and all(
            part in linears and linears[part].bias is None for part in parts
        )

    def __call__(
        self,
        hidden_states: Tensor,
        attention_mask: Tensor | None = None,
        past_key_values: Any = None,
        position_embeddings: tuple[Tensor, Tensor] | None = None,
        **others: Any,
    ) -> Tensor:
        """Apply the layer to hidden states of shape (rows, length, width)."""
        if (
            attention_mask is not None
            or past_key_values is not None
            or position_embeddings is None
            or hidden_states.shape[1] > MAX_LENGTH
        ):
            result: Tensor = self._original(
                hidden_states,
                attention_mask=attention_mask,
                past_key_values=past_key_values,
                position_embeddings=position_embeddings,
                **others,
            )
            return result
        length = hidden_states.shape[1]
        cos, sin = position_embeddings
        x = hidden_states.flatten(0, 1)
        normed = rms_norm(x, self._input_norm.weight, self._input_norm.variance_epsilon)
        attended = rotary_causal_attention(
            self._qkv(normed), cos, sin, length, self._head_dim, self._groups, self._scaling
        )
        x = x + self._output(attended)
        normed = rms_norm(x, self._output_norm.weight, self._output_norm.variance_epsilon)
        x = x + self._down(gated(self._gate_up(normed)))
        return x.view(hidden_states.shape)


def rms_norm(x: Tensor, weight: Tensor, epsilon: float) -> Tensor:
    """Scale every row to unit mean square, then by a frozen weight.

    Parameters
    ----------
    x : Tensor, shape (tokens, width)
        Activations.
    weight : Tensor, shape (width,)
        The norm's weight; gets no gradient.
    epsilon : float
        Added to the mean square.
    """
    y: Tensor = _RmsNorm.apply(x, weight, epsilon)  # type: ignore[no-untyped-call]
    return y


def gated(gate_up: Tensor) -> Tensor:
    """Return ``silu(gate) * up`` of both side by side, (tokens, 2 * inner) to (tokens, inner)."""
    y: Tensor = _Gated.apply(gate_up)  # type: ignore[no-untyped-call]
    return y


def rotary_causal_attention(
    qkv: Tensor,
    cos: Tensor,
    sin: Tensor,
    length: int,
    head_dim: int,
    groups: int,
    scaling: float,
) -> Tensor:
    """Causal attention with rotary positions, over rows of equal length.

    Parameters
    ----------
    qkv : Tensor, shape (rows * length, (query heads + 2 * key heads) * head_dim)
        Queries, keys and values side by side.
    cos, sin : Tensor, shape (1, length, head_dim)
        Rotary embedding of the positions.
    length, head_dim, groups : int
        Tokens a row, width of a head, query heads for each key head.
    scaling : float
        What the scores are multiplied by.

    Returns
    -------
    Tensor, shape (rows * length, query heads * head_dim)
        The heads' results side by side.
    """
    y: Tensor = _RotaryCausalAttention.apply(  # type: ignore[no-untyped-call]
        qkv, cos[0], sin[0], length, head_dim, groups, scaling
    )
    return y


class _RmsNorm(torch.autograd.Function):
    """``y = w x / r``, r the root mean square of the row; ``dx = (g w - x mean(g w x) / r^2) / r``.

    The weight is frozen. Rows are scaled in float32, as transformers does, and rounded once more
    by the weight.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, epsilon: float) -> Tensor:
        norms = torch.linalg.vector_norm(x, dim=-1, keepdim=True, dtype=torch.float32)
        inverse = norms.square_().div_(x.shape[-1]).add_(epsilon).rsqrt_()
        ctx.save_for_backward(x, weight, inverse)
        y: Tensor = (x * inverse).to(x.dtype) * weight
        return y

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        x, weight, inverse = ctx.saved_tensors
        weighted = gradients[0] * weight
        projection = (weighted * x).sum(-1, keepdim=True, dtype=torch.float32)
        projection.mul_(inverse).mul_(inverse).div_(-x.shape[-1])
        dx = (weighted * inverse).addcmul_(x.float(), projection * inverse)
        return dx.to(x.dtype), None, None


class _Gated(torch.autograd.Function):
    """``y = silu(gate) up``; ``dup = g silu(gate)``, ``dgate = g up silu'(gate)``."""

    @staticmethod
    def forward(ctx: Any, gate_up: Tensor) -> Tensor:
        ctx.save_for_backward(gate_up)
        gate, up = gate_up.chunk(2, dim=-1)
        return nn.functional.silu(gate).mul_(up)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        (g,) = gradients
        (gate_up,) = ctx.saved_tensors
        gate, up = gate_up.chunk(2, dim=-1)
        result = torch.empty_like(gate_up)
        dgate, dup = result.chunk(2, dim=-1)
        torch.mul(g, nn.functional.silu(gate), out=dup)
        dgate.copy_(torch.ops.aten.silu_backward(g * up, gate))
        return result


class _RotaryCausalAttention(torch.autograd.Function):
    """``softmax(scaling Q K^T + mask) V`` with rotated Q and K; all products batched by key head.

    Backward, with P the attention weights: ``dV = P^T g``, ``dP = g V^T``,
    ``dS = P (dP - rowsum(P dP))``, ``dQ = scaling dS K``, ``dK = scaling dS^T Q``; then Q's and K's
    rotation is undone by its transpose.
    """

    @staticmethod
    def forward(
        ctx: Any,
        qkv: Tensor,
        cos: Tensor,
        sin: Tensor,
        length: int,
        head_dim: int,
        groups: int,
        scaling: float,
    ) -> Tensor:
        heads = qkv.view(-1, length, qkv.shape[-1] // head_dim, head_dim)
        rows, key_heads = heads.shape[0], heads.shape[2] // (groups + 2)
        query_heads = groups * key_heads
        padded = math.ceil(length / _KEY_MULTIPLE) * _KEY_MULTIPLE
        q = qkv.new_empty(rows, query_heads, length, head_dim)
        k, v = (qkv.new_zeros(rows, key_heads, padded, head_dim) for _ in range(2))
        _rotate(heads[:, :, :query_heads], cos, sin, out=q.transpose(1, 2))
        _rotate(heads[:, :, query_heads:-key_heads], cos, sin, out=k[:, :, :length].transpose(1, 2))
        v[:, :, :length] = heads[:, :, -key_heads:].transpose(1, 2)
        # The query heads that share a key head lie under one another.
        q = q.view(rows * key_heads, groups * length, head_dim)
        k, v = (x.view(rows * key_heads, padded, head_dim) for x in (k, v))
        mask = _causal_mask(length, padded, groups, qkv.dtype, qkv.device)
        p = torch.baddbmm(mask, q, k.transpose(1, 2), alpha=scaling).softmax(-1)
        attended = torch.bmm(p, v).view(rows, query_heads, length, head_dim)
        ctx.save_for_backward(q, k, v, p, cos, sin)
        ctx.scaling = scaling
        return attended.transpose(1, 2).reshape(rows * length, query_heads * head_dim)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, p, cos, sin = ctx.saved_tensors
        length, head_dim = cos.shape
        groups = q.shape[1] // length
        rows = gradients[0].shape[0] // length
        key_heads = q.shape[0] // rows
        query_heads = groups * key_heads
        g = gradients[0].view(rows, length, query_heads, head_dim).transpose(1, 2)
        g = g.reshape(q.shape)
        dv = torch.bmm(p.transpose(1, 2), g)
        dp = torch.bmm(g, v.transpose(1, 2))
        ds = torch._softmax_backward_data(dp, p, -1, p.dtype).mul_(ctx.scaling)
        dq = torch.bmm(ds, k).view(rows, query_heads, length, head_dim)
        dk = torch.bmm(ds.transpose(1, 2), q).view(rows, key_heads, -1, head_dim)
        dv = dv.view(rows, key_heads, -1, head_dim)
        result = q.new_empty(rows, length, query_heads + 2 * key_heads, head_dim)
        _rotate(dq.transpose(1, 2), cos, -sin, out=result[:, :, :query_heads])
        _rotate(
            dk[:, :, :length].transpose(1, 2), cos, -sin, out=result[:, :, query_heads:-key_heads]
        )
        result[:, :, -key_heads:] = dv[:, :, :length].transpose(1, 2)
        return result.view(rows * length, -1), None, None, None, None, None, None


def _rotate(x: Tensor, cos: Tensor, sin: Tensor, *, out: Tensor) -> None:
    """Rotate each head's halves against one another: ``(x1 c - x2 s, x2 c + x1 s)``.

    Parameters
    ----------
    x, out : Tensor, shape (rows, length, heads, head_dim)
        Given and result.
    cos, sin : Tensor, shape (length, head_dim)
        Both halves alike.
    """
    half = x.shape[-1] // 2
    c, s = cos[:, None, :half], sin[:, None, :half]
    x1, x2 = x[..., :half], x[..., half:]
    torch.mul(x1, c, out=out[..., :half]).addcmul_(x2, s, value=-1)
    torch.mul(x2, c, out=out[..., half:]).addcmul_(x1, s)


@functools.lru_cache(maxsize=64)
def _causal_mask(
    length: int, padded: int, groups: int, dtype: torch.dtype, device: torch.device
) -> Tensor:
    """Return what is added to the scores, (groups * length, padded): 0, or -inf for later keys."""
    mask = torch.full((length, padded), -math.inf, dtype=dtype, device=device).triu(1)
    return mask.repeat(groups, 1)
