"""The part of an adapter that is trained: leading rows of A, leading columns of B, all else fixed.

Trained values live in two flat float32 vectors, one for A and one for B. One optimizer step, one
norm and one cast to the compute type then serve hundreds of factors, and what is frozen is in no
vector at all: it cannot move.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from llm.adapters import LoraAdapter
from llm.factors import A_SUFFIX, B_SUFFIX, Arrays, LoraFactors, adapter_from_arrays


@dataclass(frozen=True)
class TrainedPart:
    """What of an adapter is trained.

    Parameters
    ----------
    train_a, train_b : bool
        Which factors; at least one.
    rank : int
        How many leading rows of A and columns of B; the others stay active and frozen.
    """

    train_a: bool
    train_b: bool
    rank: int

    def __post_init__(self) -> None:
        if not (self.train_a or self.train_b):
            raise ValueError("neither A nor B is trained: expected at least one")
        if self.rank < 1:
            raise ValueError(f"rank {self.rank}: expected at least 1")


class TrainedFactors:
    """An adapter's factors, of which a part requires gradients.

    Parameters
    ----------
    adapter : LoraAdapter
        Start values of all of it.
    part : TrainedPart
        What is trained; its rank is at most the adapter's.
    dtype, device
        Where and in what type the model computes.

    Raises
    ------
    ValueError
        If the part's rank exceeds the adapter's.
    """

    def __init__(
        self, adapter: LoraAdapter, part: TrainedPart, dtype: torch.dtype, device: torch.device
    ) -> None:
        if part.rank > adapter.rank:
            raise ValueError(f"training rank {part.rank} of an adapter of rank {adapter.rank}")
        self._part = part
        self._scale = adapter.scale
        self._dtype = dtype
        self._start = adapter_from_arrays(adapter.arrays)
        self._a = _flat([f.a[: part.rank] for f in self._start.values()], part.train_a, device)
        self._b = _flat([f.b[:, : part.rank] for f in self._start.values()], part.train_b, device)
        self._frozen_a = {
            name: torch.from_numpy(f.a[part.rank * part.train_a :].copy()).to(device, dtype)
            for name, f in self._start.items()
        }
        self._frozen_b = {
            name: (torch.from_numpy(f.b[:, part.rank * part.train_b :].copy()) * self._scale).to(
                device, dtype
            )
            for name, f in self._start.items()
        }

    @property
    def parameters(self) -> list[nn.Parameter]:
        """The flat vectors that require gradients."""
        return [flat for flat in (self._a, self._b) if flat is not None]

    def values(self) -> list[Tensor]:
        """Return a copy of the flat vectors as they are now."""
        return [flat.detach().clone() for flat in self.parameters]

    @torch.no_grad()
    def go_to(self, first: Sequence[Tensor], second: Sequence[Tensor], share: float) -> None:
        """Put the vectors on the straight way between two of their earlier values.

        Parameters
        ----------
        first, second : sequence of Tensor
            As :meth:`values` gave them.
        share : float
            How far along: 0 for the first, 1 for the second.
        """
        for flat, start, end in zip(self.parameters, first, second, strict=True):
            flat.copy_(end if share == 1.0 else start + share * (end - start))

    def assemble(self) -> dict[str, tuple[Tensor, Tensor]]:
        """Return every layer's whole factors in the compute type, the scale in b; differentiable.

        Returns
        -------
        dict of str to (Tensor, Tensor)
            PEFT module name to a (rank, in_features) and b (out_features, rank).
        """
        a_parts = self._pieces(self._a, self._part.train_a, [f.a for f in self._start.values()], 0)
        b_parts = self._pieces(self._b, self._part.train_b, [f.b for f in self._start.values()], 1)
        return {
            name: (
                _joined(a, self._frozen_a[name], 0),
                _joined(b, self._frozen_b[name], 1),
            )
            for name, a, b in zip(self._start, a_parts, b_parts, strict=True)
        }

    def assemble_by_row(self, rows: int) -> "RowFactors":
        """Return the factors with a copy of what is trained for each row of a batch.

        Parameters
        ----------
        rows : int
            Rows of the batch.
        """
        copies: list[list[Tensor]] = [[], []]
        whole = {}
        for name, factors in self.assemble().items():
            joined = []
            for axis, (factor, trained) in enumerate(
                zip(factors, (self._part.train_a, self._part.train_b), strict=True)
            ):
                if not trained:
                    joined.append(factor.detach())
                    continue
                rank, whole_rank = self._part.rank, factor.shape[axis]
                own = factor.detach().narrow(axis, 0, rank)
                rest = factor.detach().narrow(axis, rank, whole_rank - rank)
                copy = own.expand(rows, *own.shape).requires_grad_()
                copies[axis].append(copy)
                frozen = rest.expand(rows, *rest.shape)
                joined.append(_joined(copy, frozen, axis - 2))
            whole[name] = (joined[0], joined[1])
        scales = (1.0, self._scale)
        return RowFactors(whole, [pair for pair in zip(copies, scales, strict=True) if pair[0]])

    def gradient_norm(self) -> float:
        """Return the Euclidean norm of all gradients, the same on any number of threads."""
        return euclidean_norm([flat.grad for flat in self.parameters if flat.grad is not None])

    def gradients(self) -> Arrays:
        """Return the accumulated gradients of the trained factors' leading rows and columns.

        Under PEFT's names, in the values as they are sent: the scale is no part of b.
        """
        rank = self._part.rank
        gradients: Arrays = {}
        for suffix, flat, whole in (
            (A_SUFFIX, self._a, [f.a[:rank] for f in self._start.values()]),
            (B_SUFFIX, self._b, [f.b[:, :rank] for f in self._start.values()]),
        ):
            if flat is not None and flat.grad is not None:
                pieces = self._values(flat.grad, whole)
                names = (name + suffix for name in self._start)
                gradients |= dict(zip(names, pieces, strict=True))
        return gradients

    def trained(self) -> dict[str, LoraFactors]:
        """Return every layer's leading pair (rank rows and columns) as it is now."""
        rank = self._part.rank
        a_values = self._values(self._a, [f.a[:rank] for f in self._start.values()])
        b_values = self._values(self._b, [f.b[:, :rank] for f in self._start.values()])
        return {
            name: LoraFactors(a, b)
            for name, a, b in zip(self._start, a_values, b_values, strict=True)
        }

    def update(self) -> Arrays:
        """Return what training changed: trained minus start, of trained factors only."""
        rank = self._part.rank
        changes: Arrays = {}
        for name, now in self.trained().items():
            start = self._start[name]
            if self._part.train_a:
                changes[name + A_SUFFIX] = now.a - start.a[:rank]
            if self._part.train_b:
                changes[name + B_SUFFIX] = now.b - start.b[:, :rank]
        return changes

    def _pieces(
        self, flat: nn.Parameter | None, trained: bool, whole: Sequence[np.ndarray], axis: int
    ) -> Sequence[Tensor | None]:
        if flat is None or not trained:
            return [None] * len(whole)
        shapes = []
        for array in whole:
            shape = list(array.shape)
            shape[axis] = self._part.rank
            shapes.append(shape)
        scaled = flat * self._scale if axis == 1 else flat
        pieces = scaled.to(self._dtype).split_with_sizes([math.prod(shape) for shape in shapes])
        return [piece.view(shape) for piece, shape in zip(pieces, shapes, strict=True)]

    @staticmethod
    def _values(flat: Tensor | None, start: Sequence[np.ndarray]) -> list[np.ndarray]:
        if flat is None:
            return [array.copy() for array in start]
        values = flat.detach().cpu().numpy()
        ends = np.cumsum([array.size for array in start])
        return [
            values[end - array.size : end].reshape(array.shape).copy()
            for array, end in zip(start, ends, strict=True)
        ]


@dataclass(frozen=True)
class RowFactors:
    """Factors of which each row of a batch has a copy: so each row's gradient is known by itself.

    Parameters
    ----------
    factors : dict of str to (Tensor, Tensor)
        As :meth:`TrainedFactors.assemble` gives them; those trained have shape (rows, ...).
    copies : sequence of (sequence of Tensor, float)
        What gets gradients, for each flat vector in its order, and the scale inside it.
    """

    factors: dict[str, tuple[Tensor, Tensor]]
    copies: Sequence[tuple[Sequence[Tensor], float]]

    def gradients(self) -> list[Tensor]:
        """Return each row's gradient of every flat vector, shape (rows, values), float32."""
        return [
            torch.cat([_gradient(copy).flatten(1) for copy in copies], dim=1).float().mul_(scale)
            for copies, scale in self.copies
        ]


def euclidean_norm(parts: Sequence[Tensor]) -> float:
    """Return the norm of tensors taken together, the same on any number of threads.

    Summed by NumPy in float64: torch cuts a long sum into one piece a thread.
    """
    total = 0.0
    for part in parts:
        values = part.detach().to("cpu", torch.float64).numpy()
        total += float(np.add.reduce(np.square(values)))
    return math.sqrt(total)


def _gradient(copy: Tensor) -> Tensor:
    return torch.zeros_like(copy) if copy.grad is None else copy.grad


def _flat(arrays: Sequence[np.ndarray], trained: bool, device: torch.device) -> nn.Parameter | None:
    if not trained:
        return None
    values = np.concatenate([array.ravel() for array in arrays]).astype(np.float32)
    return nn.Parameter(torch.from_numpy(values).to(device))


def _joined(trained: Tensor | None, frozen: Tensor, axis: int) -> Tensor:
    if trained is None:
        return frozen
    return trained if frozen.shape[axis] == 0 else torch.cat([trained, frozen], dim=axis)
