"""Frozen linear layers with a low-rank path beside them, as one differentiable step.

PEFT computes the same in a dozen small operations, casts activations to float32 and back, and
dequantizes the weight once forward and once backward. Here the products run in the compute type,
and what the backward pass does not need is not kept: with a frozen A not even the layer's input.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from llm.quantization import dequantized_weight


class AdaptedLinear:
    """What stands in for one linear layer of the base while an adapter is on it.

    Parameters
    ----------
    linear : Linear
        The frozen layer, quantized or not.
    dtype : dtype
        Compute type.
    keep_weight : bool
        Hold the dequantized weight as long as this object lives, instead of dequantizing it at
        every use. Same bits, more memory.
    """

    def __init__(self, linear: nn.Linear, dtype: torch.dtype, *, keep_weight: bool) -> None:
        self._linear = linear
        self._dtype = dtype
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.keeps_weight = keep_weight
        self._kept: Tensor | None = None
        self.bias = None if linear.bias is None else linear.bias.detach().to(dtype)
        self.a: Tensor | None = None
        self.b: Tensor | None = None

    def put(self, a: Tensor, b: Tensor) -> None:
        """Set the low-rank path.

        A factor may come in a copy for each row of the batch, all of the same values: shape
        (rows, ...). What is computed is the same, and each row's gradient goes to its own copy.

        Parameters
        ----------
        a : Tensor, shape (rank, in_features)
            Down-projection, of the compute type.
        b : Tensor, shape (out_features, rank)
            Up-projection times the adapter's scale, of the compute type.
        """
        self.a, self.b = a, b

    def take_off(self) -> None:
        """Have no low-rank path."""
        self.a = self.b = None

    def factors(self) -> tuple[Tensor, Tensor] | None:
        """Return the low-rank path, where there is one."""
        return None if self.a is None or self.b is None else (self.a, self.b)

    def empty_factors(self) -> tuple[Tensor, Tensor]:
        """Return a low-rank path of rank 0."""
        return self.empty(0, self.in_features), self.empty(self.out_features, 0)

    def empty(self, rows: int, columns: int) -> Tensor:
        """Return memory of the compute type, where the layer computes."""
        return torch.empty(rows, columns, dtype=self._dtype, device=self._linear.weight.device)

    def weight(self) -> Tensor:
        """Return the frozen weight, shape (out_features, in_features)."""
        if self._kept is not None:
            return self._kept
        weight = dequantized_weight(self._linear, self._dtype)
        if self.keeps_weight:
            self._kept = weight
        return weight

    def keep_in(self, memory: Tensor) -> None:
        """Hold the weight in this memory, shape (out_features, in_features)."""
        self._kept = memory.copy_(self.weight())

    def __call__(self, x: Tensor) -> Tensor:
        """Apply the layer to activations of shape (..., in_features)."""
        y = _linear(x.reshape(-1, x.shape[-1]), self, self.factors())
        if self.bias is not None:
            y = y + self.bias
        return y.view(*x.shape[:-1], y.shape[-1])


class StackedLinear:
    """Several adapted layers that read the same input, as one: their outputs side by side.

    The low-rank paths become one as well, ``A = [A_1; A_2; ...]`` and B block-diagonal. The zeros
    cost nothing to speak of, and a few large products replace many small ones.

    Parameters
    ----------
    layers : sequence of AdaptedLinear
        Layers of equal in_features, without bias.
    """

    def __init__(self, layers: Sequence[AdaptedLinear]) -> None:
        self._layers = layers
        self._kept: Tensor | None = None
        if len(layers) == 1:
            return
        if all(layer.keeps_weight for layer in layers):
            outputs = [layer.out_features for layer in layers]
            self._kept = layers[0].empty(sum(outputs), layers[0].in_features)
            for layer, rows in zip(layers, self._kept.split_with_sizes(outputs), strict=True):
                layer.keep_in(rows)

    def factors(self) -> tuple[Tensor, Tensor] | None:
        """Return the stacked low-rank path; None where no layer has one."""
        if len(self._layers) == 1:
            return self._layers[0].factors()
        pairs = [layer.factors() for layer in self._layers]
        if all(pair is None for pair in pairs):
            return None
        # A layer without a path of its own still takes its rows of B: no columns, hence zeros.
        both = [
            layer.empty_factors() if pair is None else pair
            for layer, pair in zip(self._layers, pairs, strict=True)
        ]
        a = torch.cat(_alike([a for a, _ in both]), dim=-2)
        return a, _block_diagonal(_alike([b for _, b in both]))

    def weight(self) -> Tensor:
        """Return the stacked frozen weight, shape (sum of out_features, in_features)."""
        if self._kept is not None:
            return self._kept
        if len(self._layers) == 1:
            return self._layers[0].weight()
        return torch.cat([layer.weight() for layer in self._layers])

    def __call__(self, x: Tensor) -> Tensor:
        """Apply all layers to activations of shape (tokens, in_features)."""
        return _linear(x, self, self.factors())


def _alike(factors: list[Tensor]) -> list[Tensor]:
    """Return factors of which all have a copy for each row, if one has."""
    rows = next((factor.shape[0] for factor in factors if factor.dim() == 3), None)
    if rows is None:
        return factors
    return [f if f.dim() == 3 else f.expand(rows, *f.shape) for f in factors]


def _block_diagonal(blocks: Sequence[Tensor]) -> Tensor:
    if blocks[0].dim() == 2:
        joined: Tensor = torch.block_diag(*blocks)  # type: ignore[no-untyped-call]
        return joined
    height, width = (sum(block.shape[side] for block in blocks) for side in (1, 2))
    joined = blocks[0].new_zeros(blocks[0].shape[0], height, width)
    down = right = 0
    for block in blocks:
        joined[:, down : down + block.shape[1], right : right + block.shape[2]] = block
        down, right = down + block.shape[1], right + block.shape[2]
    return joined


@contextmanager
def standing_in(replacements: Mapping[nn.Module, Any]) -> Iterator[None]:
    """Let each replacement answer calls of its module, until the context ends."""
    with ExitStack() as undo:
        for module, replacement in replacements.items():
            # An instance attribute hides the class' method, and deleting it brings that back.
            module.__dict__["forward"] = replacement
            undo.callback(module.__dict__.pop, "forward")
        yield


def _linear(
    x: Tensor, layer: AdaptedLinear | StackedLinear, factors: tuple[Tensor, Tensor] | None
) -> Tensor:
    if factors is None:
        y: Tensor = _FrozenLinear.apply(x, layer)  # type: ignore[no-untyped-call]
    else:
        y = _LoraLinear.apply(x, *factors, layer)  # type: ignore[no-untyped-call]
    return y


class _FrozenLinear(torch.autograd.Function):
    """``y = x W^T``, and ``dx = g W``; W is looked up again for the backward pass, not kept."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, layer: AdaptedLinear | StackedLinear) -> Tensor:
        ctx.layer = layer
        return x @ layer.weight().T

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (g,) = gradients
        return g @ ctx.layer.weight(), None


class _LoraLinear(torch.autograd.Function):
    """``y = x W^T + (x A^T) B^T``, with the scale inside B.

    Backward, for the gradient g of y: ``dx = g W + (g B) A``, ``dA = (g B)^T x``,
    ``dB = g^T (x A^T)``; each only where asked for. Of a factor with a copy for each row, each
    copy gets the products of that row alone.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, a: Tensor, b: Tensor, layer: AdaptedLinear | StackedLinear
    ) -> Tensor:
        ctx.rows_of_a, ctx.rows_of_b = (None if f.dim() == 2 else f.shape[0] for f in (a, b))
        a, b = (f if f.dim() == 2 else f[0] for f in (a, b))
        down = x @ a.T
        y = x @ layer.weight().T
        y.addmm_(down, b.T)
        needs_x, needs_a, needs_b, _ = ctx.needs_input_grad
        ctx.layer = layer
        ctx.save_for_backward(
            a if needs_x else None,
            b if needs_x or needs_a else None,
            down if needs_b else None,
            x if needs_a else None,
        )
        return y

    @staticmethod
    def backward(
        ctx: Any, *gradients: Tensor
    ) -> tuple[Tensor | None, Tensor | None, Tensor | None, None]:
        (g,) = gradients
        a, b, down, x = ctx.saved_tensors
        needs_x, needs_a, needs_b, _ = ctx.needs_input_grad
        up = g @ b if needs_x or needs_a else None
        dx = (g @ ctx.layer.weight()).addmm_(up, a) if needs_x else None
        da = _products(up, x, ctx.rows_of_a) if needs_a and up is not None else None
        db = _products(g, down, ctx.rows_of_b) if needs_b else None
        return dx, da, db, None


def _products(left: Tensor, right: Tensor, rows: int | None) -> Tensor:
    """Return ``left^T right``, summed over all tokens, or over each row's alone."""
    if rows is None:
        return left.T @ right
    left, right = (x.view(rows, -1, x.shape[-1]) for x in (left, right))
    return torch.bmm(left.transpose(1, 2), right)
