"""What makes a model forget: one loss a method, each a file of its own.

Read :mod:`~unlearning.methods.method` for what every method answers, then
:mod:`~unlearning.methods.npo`, the default.
"""

from collections.abc import Mapping
from types import MappingProxyType

from unlearning.methods.gradient_ascent import GradientAscent
from unlearning.methods.gradient_difference import GradientDifference
from unlearning.methods.method import UnlearningMethod
from unlearning.methods.npo import Npo
from unlearning.methods.simnpo import SimNpo

#: The methods by their names in the settings.
METHODS: Mapping[str, type[UnlearningMethod]] = MappingProxyType(
    {method.name: method for method in (Npo, GradientDifference, SimNpo, GradientAscent)}
)

__all__ = [
    "METHODS",
    "GradientAscent",
    "GradientDifference",
    "Npo",
    "SimNpo",
    "UnlearningMethod",
    "method_named",
]


def method_named(name: str) -> type[UnlearningMethod]:
    """Return the method of a name.

    Raises
    ------
    ValueError
        If there is none; the message lists those there are.
    """
    if name not in METHODS:
        raise ValueError(f"no unlearning method {name!r}: expected one of {', '.join(METHODS)}")
    return METHODS[name]
