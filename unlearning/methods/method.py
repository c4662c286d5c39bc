"""What every unlearning method answers: the loss whose descent forgets."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor


@dataclass(frozen=True)
class UnlearningMethod(ABC):
    """A loss over a batch of rows to forget and rows to keep.

    A method overrides :meth:`loss` and says what it needs. It ignores the parameters it has no
    use for.

    Parameters
    ----------
    beta : float
        How soon the push on a row weakens as it becomes less likely, per nat; above 0.
    gamma : float
        What ``beta`` times a row's loss a token must exceed before the push weakens.
    retain_weight : float
        Weight of the rows to keep; 0 leaves them out.
    """

    #: The method in the settings.
    name: ClassVar[str]
    #: Whether the loss compares with the adapter before unlearning.
    needs_reference: ClassVar[bool] = False

    beta: float = 0.1
    gamma: float = 0.0
    retain_weight: float = 1.0

    @property
    def needs_retain(self) -> bool:
        """Whether the loss looks at rows to keep."""
        return False

    @abstractmethod
    def loss(
        self,
        forget: Tensor,
        forget_tokens: Tensor,
        reference: Tensor,
        retain: Tensor,
        retain_tokens: Tensor,
    ) -> Tensor:
        """Return the batch's loss; what descends it forgets.

        It is separable: a sum of functions of one row's loss each, whose constants may depend on
        the token counts and numbers of rows. Hence the gradient at one row does not depend on the
        other rows' losses, and rows may be computed a few at a time.

        Parameters
        ----------
        forget : Tensor of float32, shape (forget rows,)
            Negative log-likelihood of each row's completion, -log pi(y | x), nats; differentiable.
        forget_tokens : Tensor of float32, shape (forget rows,)
            Tokens of each of those completions, |y|.
        reference : Tensor of float32, shape (forget rows,)
            The same negative log-likelihoods under the adapter before unlearning, frozen;
            of any value where the method needs no reference.
        retain : Tensor of float32, shape (retain rows,)
            Negative log-likelihood of each row to keep, nats; empty where none are needed.
        retain_tokens : Tensor of float32, shape (retain rows,)
            Tokens of each of those completions.

        Returns
        -------
        Tensor of float32, shape ()
            In nats.
        """
