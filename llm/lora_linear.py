"""A frozen linear layer with a low-rank path beside it, as one differentiable step.

PEFT computes the same in a dozen small operations, casts activations to float32 and back, and
dequantizes the weight once forward and once backward. Here the products run in the compute type,
and what the backward pass does not need is not kept: with a frozen A not even the layer's input.
"""

from collections.abc import Iterator, Mapping
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
        self._kept = dequantized_weight(linear, dtype) if keep_weight else None
        self.bias = None if linear.bias is None else linear.bias.detach().to(dtype)
        self.a: Tensor | None = None
        self.b: Tensor | None = None

    def put(self, a: Tensor, b: Tensor) -> None:
        """Set the low-rank path.

        Parameters
        ----------
        a : Tensor, shape (rank, in_features)
            Down-projection, of the compute type.
        b : Tensor, shape (out_features, rank)
            Up-projection times the adapter's scale, of the compute type.
        """
        self.a, self.b = a, b

    def weight(self) -> Tensor:
        """Return the frozen weight, shape (out_features, in_features)."""
        if self._kept is not None:
            return self._kept
        return dequantized_weight(self._linear, self._dtype)

    def __call__(self, x: Tensor) -> Tensor:
        """Apply the layer to activations of shape (..., in_features)."""
        flat = x.reshape(-1, x.shape[-1])
        if self.a is None or self.b is None:
            y: Tensor = _FrozenLinear.apply(flat, self)  # type: ignore[no-untyped-call]
        else:
            y = _LoraLinear.apply(flat, self.a, self.b, self)  # type: ignore[no-untyped-call]
        if self.bias is not None:
            y = y + self.bias
        return y.view(*x.shape[:-1], y.shape[-1])


@contextmanager
def standing_in(layers: Mapping[nn.Linear, AdaptedLinear]) -> Iterator[None]:
    """Let each adapted layer answer for its frozen one, until the context ends."""
    with ExitStack() as undo:
        for linear, adapted in layers.items():
            # An instance attribute hides the class' method, and deleting it brings that back.
            linear.__dict__["forward"] = adapted
            undo.callback(linear.__dict__.pop, "forward")
        yield


class _FrozenLinear(torch.autograd.Function):
    """``y = x W^T``, and ``dx = g W``; W is looked up again for the backward pass, not kept."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, layer: AdaptedLinear) -> Tensor:
        ctx.layer = layer
        return x @ layer.weight().T

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (g,) = gradients
        return g @ ctx.layer.weight(), None


class _LoraLinear(torch.autograd.Function):
    """``y = x W^T + (x A^T) B^T``, with the scale inside B.

    Backward, for the gradient g of y: ``dx = g W + (g B) A``, ``dA = (g B)^T x``,
    ``dB = g^T (x A^T)``; each only where asked for.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, a: Tensor, b: Tensor, layer: AdaptedLinear) -> Tensor:
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
        da = up.T @ x if needs_a and up is not None else None
        db = g.T @ down if needs_b else None
        return dx, da, db, None
