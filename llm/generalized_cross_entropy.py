"""A loss between the cross entropy and the chance of a wrong token, bounded for each token.

Where few rows are to tell which of two models is better, the cross entropy lets the few tokens
decide that a model is confidently wrong about. A bounded loss tells with fewer rows.
"""

from typing import Final

from torch import Tensor

#: The power of Zhang and Sabuncu's experiments.
USUAL_POWER: Final = 0.7


def generalized(cross_entropies: Tensor, power: float) -> Tensor:
    """Return ``(1 - p^power) / power`` for tokens of probability ``p``; differentiable.

    The generalized cross entropy of Zhang and Sabuncu (arXiv 1805.07836). A power of 0, its limit,
    is the cross entropy itself; 1 is the chance that a token drawn from the model is another one.
    Where ``p`` is close to 1 all of them are equal, so that they are stated in nats.

    Parameters
    ----------
    cross_entropies : Tensor of float32, any shape
        ``-ln p``, nats.
    power : float
        From 0 to 1.

    Returns
    -------
    Tensor of float32, of the same shape
        From 0 to ``1 / power``.

    Raises
    ------
    ValueError
        If the power is out of range.
    """
    if not 0.0 <= power <= 1.0:
        raise ValueError(f"generalized cross entropy with power {power}: expected 0 to 1")
    if power == 0.0:
        return cross_entropies
    return -(-power * cross_entropies).expm1() / power
