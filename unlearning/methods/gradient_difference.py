"""``grad-diff``: up the loss of what is forgotten, down the loss of what is kept."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from unlearning.methods.method import UnlearningMethod


@dataclass(frozen=True)
class GradientDifference(UnlearningMethod):
    """``-sum(forget) / sum(|y|) + retain_weight * sum(retain) / sum(|y|)``.

    Liu et al., "Continual Learning and Private Unlearning", arXiv 2203.12817; as in Maini et al.,
    "TOFU: A Task of Fictitious Unlearning for LLMs", arXiv 2401.06121. Methods with a better
    forget loss build on this one and keep its retain loss.
    """

    name: ClassVar[str] = "grad-diff"

    @property
    def needs_retain(self) -> bool:
        """Unless they have no weight."""
        return self.retain_weight > 0

    def loss(
        self,
        forget: Tensor,
        forget_tokens: Tensor,
        reference: Tensor,
        retain: Tensor,
        retain_tokens: Tensor,
    ) -> Tensor:
        """Return the weighted mean retain loss a token less the mean forget loss a token."""
        return self.retain_loss(retain, retain_tokens) - forget.sum() / forget_tokens.sum()

    def retain_loss(self, retain: Tensor, retain_tokens: Tensor) -> Tensor:
        """Return the weighted mean loss of the rows to keep, nats a completion token."""
        if not self.needs_retain:
            return retain.new_zeros(())
        return self.retain_weight * retain.sum() / retain_tokens.sum()
