"""How a setting's value is read from text, and how a wrong one is reported: in one line."""

import re
from typing import Final

from pydantic import ValidationError

#: What ``data`` begins with where it is no path.
EMBEDDED_DATA: Final = "embedded"
HUB_DATA: Final = "hub"

#: ``public-validation`` where contributions are not scored.
NO_VALIDATION: Final = "none"


def kebab(name: str) -> str:
    """Return a field's name as its key."""
    return name.replace("_", "-")


def pairs(setting: str, text: str, *, alone_is_both: bool = False) -> dict[str, str]:
    """Read ``a=b,c=d``; a word alone stands for itself where that is allowed."""
    pairs: dict[str, str] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        name, separator, value = (piece.strip() for piece in part.partition("="))
        if not separator and alone_is_both:
            value = name
        if not name or not value:
            raise ValueError(f"{setting}: {part!r}, expected NAME=VALUE")
        if name in pairs:
            raise ValueError(f"{setting}: {name!r} stands twice")
        pairs[name] = value
    return pairs


def whole_numbers(setting: str, text: str, *, at_most: int) -> dict[str, int]:
    """Read ``a=1,b=2``."""
    given = pairs(setting, text)
    for name, value in given.items():
        if not re.fullmatch("[0-9]{1,16}", value) or int(value) > at_most:
            raise ValueError(
                f"{setting}: {name}={value[:64]!r}, expected a whole number of at most {at_most}"
            )
    return {name: int(value) for name, value in given.items()}


def percents(text: str) -> tuple[int, ...]:
    """Read ``50,75,100``."""
    parts = [part.strip() for part in text.split(",")]
    if not all(re.fullmatch("[0-9]{1,3}", part) for part in parts):
        raise ValueError(f"{text[:64]!r}, expected whole numbers such as 50,75,100")
    return tuple(int(part) for part in parts)


def one_line(error: ValidationError) -> str:
    """Say the first thing that is wrong, and what was given, short enough for a line."""
    first = error.errors()[0]
    key = kebab(str(first["loc"][0])) if first["loc"] else ""
    given = first.get("input")
    match first["type"]:
        case "extra_forbidden":
            # As it was given: 'run_name' is unknown because it is not 'run-name'.
            return f"unknown setting {_shown(first['loc'][0])}"
        case "value_error":
            message = str(first["ctx"]["error"])
            return f"{key}: {_shown(given)}: {message}" if key else message
        case "missing":
            return f"setting {key!r} is missing"
        case _:
            message = first["msg"][0].lower() + first["msg"][1:]
            return f"{key}: {_shown(given)}: {message}"


def _shown(given: object) -> str:
    """Quote what was given, short enough for a line."""
    try:
        text = repr(given)
    except ValueError:
        # Python refuses to write integers of more than 4,300 digits.
        return "a number of thousands of digits"
    return text if len(text) <= 100 else f"{text[:99]}…"
