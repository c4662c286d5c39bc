"""``alternating``: odd rounds train B, even rounds train A."""

from strategies.aggregation.single_factor import SingleFactorRule


class Alternating(SingleFactorRule):
    """RoLoRA: one factor a round, so that each round's mean is exact while both are learned.

    Chen et al., "Robust Federated Finetuning of LLMs via Alternating Optimization of LoRA",
    arXiv 2502.01755. Round 1 trains ``B``: it starts at zero, where ``A`` has no gradient.
    """

    name = "alternating"

    @property
    def separable(self) -> bool:
        """False: what an organization added to one factor multiplies what others add later."""
        return False

    def trains_b(self, round: int) -> bool:
        """Odd rounds do."""
        return round % 2 == 1
