"""``npo``: negative preference optimization, which lets go of a row once it is forgotten."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor
from torch.nn.functional import softplus

from unlearning.methods.gradient_difference import GradientDifference


@dataclass(frozen=True)
class Npo(GradientDifference):
    """``(2 / beta) sum(softplus(beta (log pi - log pi_ref))) / sum(|y|) + retain loss``.

    Zhang et al., "Negative Preference Optimization: From Catastrophic Collapse to Effective
    Unlearning", arXiv 2404.05868. The gradient is that of ascent, each row weighted by
    ``2 pi^beta / (pi^beta + pi_ref^beta)``: 1 at the start, falling to 0 as the row becomes less
    likely than it was. ``pi_ref`` is the adapter as received. The base without it never saw the
    rows: a loss measured against the base would hold them for forgotten before they are.

    Published as a mean over rows, whose log-likelihoods are sums over tokens; here, as the retain
    loss, in nats a token: otherwise a row is pushed by as many times as much as its kept neighbour
    is held as it has tokens.
    """

    name: ClassVar[str] = "npo"
    needs_reference: ClassVar[bool] = True

    def loss(
        self,
        forget: Tensor,
        forget_tokens: Tensor,
        reference: Tensor,
        retain: Tensor,
        retain_tokens: Tensor,
    ) -> Tensor:
        """Return the preference loss of the forget rows and the retain loss."""
        log_ratio = reference - forget
        pushed = 2 / self.beta * softplus(self.beta * log_ratio).sum() / forget_tokens.sum()
        return pushed + self.retain_loss(retain, retain_tokens)
