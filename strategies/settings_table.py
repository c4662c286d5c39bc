"""The README's table of settings, printed from the settings themselves.

``python -m strategies.settings_table`` prints it.
"""

import sys
from typing import Any, Literal, get_args, get_origin

from strategies.settings import RunSettings


def settings_table() -> str:
    """Return the table as Markdown: key, default and meaning of every setting."""
    lines = ["| key | default | meaning |", "|---|---|---|"]
    for field in RunSettings.model_fields.values():
        meaning = " ".join((field.description or "").split())
        choices = get_args(field.annotation) if get_origin(field.annotation) is Literal else ()
        if len(choices) > 1:
            meaning += f" One of {', '.join(f'`{choice}`' for choice in choices)}."
        lines.append(f"| `{field.alias}` | `{_toml(field.default)}` | {meaning} |")
    return "\n".join(lines) + "\n"


def _toml(value: Any) -> str:
    """Write a default as ``pyproject.toml`` and ``--run-config`` take it."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        escaped = value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
        return f'"{escaped}"'
    return str(value)


if __name__ == "__main__":
    sys.stdout.write(settings_table())
