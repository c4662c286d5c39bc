"""Cross entropy over a large vocabulary, at the positions that count and a piece at a time.

The whole matrix of logits never exists. For the gradient that is no loss: the head is frozen, so
the gradient of the hidden states is all that is needed, and it is computed with the loss.
"""

import math
from typing import Any, Final

import torch
from torch import Tensor

#: Positions at a time; with a vocabulary of 49,152, 50 MB of float32 logits.
_CHUNK: Final = 256


def summed_cross_entropy(hidden: Tensor, head: Tensor, targets: Tensor) -> Tensor:
    """Return the summed cross entropy of targets, differentiable in the hidden states.

    Parameters
    ----------
    hidden : Tensor, shape (positions, width)
        Last hidden states where a target is predicted.
    head : Tensor, shape (vocabulary, width)
        The frozen output matrix.
    targets : Tensor of int64, shape (positions,)
        The tokens that should come.

    Returns
    -------
    Tensor of float32, shape ()
        In nats.
    """
    loss = torch.zeros((), dtype=torch.float32, device=hidden.device)
    # A chunk's sum at a time: the order of the additions decides the last bits.
    for losses in torch.split(cross_entropies(hidden, head, targets), _CHUNK):
        loss = loss + losses.sum()
    return loss


def cross_entropies(hidden: Tensor, head: Tensor, targets: Tensor) -> Tensor:
    """Return the cross entropy of each target, differentiable in the hidden states.

    Parameters
    ----------
    hidden : Tensor, shape (positions, width)
        Last hidden states where a target is predicted.
    head : Tensor, shape (vocabulary, width)
        The frozen output matrix.
    targets : Tensor of int64, shape (positions,)
        The tokens that should come.

    Returns
    -------
    Tensor of float32, shape (positions,)
        In nats.
    """
    losses: Tensor = _CrossEntropies.apply(hidden, head, targets)  # type: ignore[no-untyped-call]
    return losses


def target_log_probabilities(hidden: Tensor, head: Tensor, candidates: Tensor) -> Tensor:
    """Return log-probabilities of candidate tokens.

    Parameters
    ----------
    hidden : Tensor, shape (positions, width)
        Last hidden states.
    head : Tensor, shape (vocabulary, width)
        The output matrix.
    candidates : Tensor of int64, shape (positions, candidates)
        Token ids of interest at each position.

    Returns
    -------
    Tensor of float32, shape (positions, candidates)
        In nats.
    """
    pieces = []
    for start in range(0, len(hidden), _CHUNK):
        piece = hidden[start : start + _CHUNK]
        wanted = candidates[start : start + _CHUNK]
        exact = _candidate_logits(piece, head, wanted)
        pieces.append(exact - _log_normalizers((piece @ head.T).float(), wanted, exact))
    return torch.cat(pieces)


def _candidate_logits(hidden: Tensor, head: Tensor, candidates: Tensor) -> Tensor:
    """Compute few logits in float32: bfloat16 keeps 8 bits, and at 20 two labels often tie."""
    return torch.einsum("pw,pcw->pc", hidden.float(), head[candidates].float())


def _log_normalizers(logits: Tensor, candidates: Tensor, exact: Tensor) -> Tensor:
    """Return ``logsumexp`` of each position's logits, those of candidates as they are exactly.

    A candidate that is all but sure makes up the whole sum: by its rounded logit there, its
    probability would be up to 6 % off, and above 1 as often as below.

    Parameters
    ----------
    logits : Tensor of float32, shape (positions, vocabulary)
        Rounded; written over.
    candidates : Tensor of int64, shape (positions, candidates)
        Token ids, of which some may repeat.
    exact : Tensor of float32, shape (positions, candidates)
        Their logits.

    Returns
    -------
    Tensor of float32, shape (positions, 1)
        Nowhere less than ``exact``.
    """
    same = candidates[:, :, None] == candidates[:, None, :]
    repeats = same.tril(diagonal=-1).any(-1)
    others = logits.scatter_(1, candidates, -math.inf).logsumexp(-1, keepdim=True)
    once = exact.masked_fill(repeats, -math.inf).logsumexp(-1, keepdim=True)
    return torch.logaddexp(others, once)


class _CrossEntropies(torch.autograd.Function):
    """``logsumexp(h W^T) - (h W^T)[target]``; each one's gradient is ``(softmax - onehot) W``."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, head: Tensor, targets: Tensor) -> Tensor:
        wants_gradient = ctx.needs_input_grad[0]
        gradient = torch.empty_like(hidden) if wants_gradient else None
        losses = torch.empty(len(hidden), dtype=torch.float32, device=hidden.device)
        for start in range(0, len(hidden), _CHUNK):
            piece = hidden[start : start + _CHUNK]
            wanted = targets[start : start + _CHUNK, None]
            logits = (piece @ head.T).float()
            normalizer = logits.logsumexp(-1, keepdim=True)
            # As in _log_normalizers, from the probabilities: the logits are needed as they are.
            others = normalizer + (logits.gather(1, wanted) - normalizer).expm1().neg().log()
            exact = _candidate_logits(piece, head, wanted)
            losses[start : start + _CHUNK] = (torch.logaddexp(others, exact) - exact).squeeze(1)
            if gradient is not None:
                probabilities = logits.sub_(normalizer).exp_()
                probabilities.scatter_add_(
                    1, wanted, torch.full_like(wanted, -1, dtype=torch.float32)
                )
                gradient[start : start + _CHUNK] = probabilities.to(head.dtype) @ head
        ctx.save_for_backward(gradient)
        return losses

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, None, None]:
        (upstream,) = gradients
        (gradient,) = ctx.saved_tensors
        if gradient is None:
            return None, None, None
        return gradient * upstream.to(gradient.dtype)[:, None], None, None
