"""``grad-ascent``: the training loss, upwards; without bound, as a baseline only."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from unlearning.methods.method import UnlearningMethod


@dataclass(frozen=True)
class GradientAscent(UnlearningMethod):
    """``-sum(forget) / sum(|y|)``: minus the mean loss a completion token, as training has it.

    Nothing in it ends: Zhang et al. (arXiv 2404.05868) show that it goes on at full speed until
    the model is of no use.
    """

    name: ClassVar[str] = "grad-ascent"

    def loss(
        self,
        forget: Tensor,
        forget_tokens: Tensor,
        reference: Tensor,
        retain: Tensor,
        retain_tokens: Tensor,
    ) -> Tensor:
        """Return minus the forget rows' mean loss a completion token."""
        return -forget.sum() / forget_tokens.sum()
