"""``simnpo``: negative preference optimization by the token, without a reference."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor
from torch.nn.functional import softplus

from unlearning.methods.gradient_difference import GradientDifference


@dataclass(frozen=True)
class SimNpo(GradientDifference):
    """``-(2 / beta) mean(log sigmoid(-(beta / |y|) log pi - gamma)) + retain loss``.

    Fan et al., "Simplicity Prevails: Rethinking Negative Preference Optimization for LLM
    Unlearning", arXiv 2410.07163. A row's push weakens with its own likelihood a token, so that
    rows already unlikely are left alone and long ones weigh no more than short ones. ``beta``
    defaults to the authors' 2.5 for the smaller of their forget sets (4.5 for the larger).
    """

    name: ClassVar[str] = "simnpo"

    beta: float = 2.5

    def loss(
        self,
        forget: Tensor,
        forget_tokens: Tensor,
        reference: Tensor,
        retain: Tensor,
        retain_tokens: Tensor,
    ) -> Tensor:
        """Return the length-normalized preference loss of the forget rows and the retain loss."""
        likelihood = -self.beta * forget / forget_tokens
        pushed = 2 / self.beta * softplus(likelihood + self.gamma).mean()
        return pushed + self.retain_loss(retain, retain_tokens)
