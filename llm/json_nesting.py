"""How deep a JSON text goes, known before it is parsed.

Python's decoder calls itself for each level and relies on the recursion limit to stop; libraries
raise that limit (``py_ecc``, which comes with eth-account, to 100,000 on import), and a text of
nothing but brackets then ends the process instead of the call.
"""

import re
from typing import Final

#: No text of ours, and no sensible row, goes deeper.
MAX_NESTING: Final = 100

_STRING = re.compile(r'"(?:[^"\\]|\\.)*+"?', re.DOTALL)
_BRACKET = re.compile(r"[\[\]{}]")


def check_nesting(text: str) -> None:
    """Refuse a JSON text whose arrays and objects nest deeper than ``MAX_NESTING``.

    Raises
    ------
    ValueError
        If it does; nothing else about the text is checked.
    """
    if text.count("[") + text.count("{") <= MAX_NESTING:
        return
    depth = 0
    for bracket in _BRACKET.finditer(_STRING.sub("", text)):
        depth += 1 if bracket.group() in "[{" else -1
        if depth > MAX_NESTING:
            raise ValueError(f"nested deeper than {MAX_NESTING} levels")
