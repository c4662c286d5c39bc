"""How a setting's value is read from text, and how a wrong one is reported: in one line."""

from pydantic import ValidationError


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
