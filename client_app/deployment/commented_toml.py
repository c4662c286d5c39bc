"""Configuration files that people edit: TOML, each setting under a comment that says what it is."""

import json
import textwrap
import tomllib
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from blockchain.durable_file import write_durably

_WIDTH = 96


class ConfigurationError(Exception):
    """A configuration file is missing or says something that cannot be; one line names it."""


class Configuration(BaseModel):
    """What a file says; each field's description is the comment above it, its key in kebab-case."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        strict=True,
        alias_generator=lambda name: name.replace("_", "-"),
        populate_by_name=True,
    )


Model = TypeVar("Model", bound=Configuration)


def write_commented(path: Path, model: Configuration, heading: str, mode: int = 0o600) -> None:
    """Write a model's fields, each under its description.

    Parameters
    ----------
    path : Path
        The file.
    model : Configuration
        Of strings, integers, lists of strings, and tables of those.
    heading : str
        What the file is, for its first lines.
    mode : int
        Permissions of the file.
    """
    lines = [*_comment(heading), ""]
    tables = []
    for name, field in type(model).model_fields.items():
        value, key = getattr(model, name), field.alias or name
        if isinstance(value, dict):
            tables.append((key, field.description or "", value))
            continue
        lines += [*_comment(field.description or ""), f"{key} = {_toml(value)}", ""]
    for key, description, value in tables:
        lines += [*_comment(description), f"[{key}]"]
        lines += [f"{inner} = {_toml(one)}" for inner, one in value.items()] + [""]
    write_durably(path, "\n".join(lines), mode)


def read_configuration(path: Path, model: type[Model]) -> Model:
    """Read a file that :func:`write_commented` wrote, and people have changed since.

    Raises
    ------
    ConfigurationError
        If it is missing or malformed, or a value is not what it has to be.
    """
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigurationError(f"{path}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeError) as error:
        raise ConfigurationError(f"{path} is no TOML: {error}") from None
    try:
        return model.model_validate(document)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the whole"
        given = "" if first["type"] == "missing" else f" (given: {first['input']!r:.80})"
        raise ConfigurationError(f"{path}: {where}: {first['msg']}{given}") from None


def _comment(text: str) -> list[str]:
    return [f"# {line}" for line in textwrap.wrap(text, _WIDTH)]


def _toml(value: object) -> str:
    # JSON's strings, numbers, booleans and lists of those are TOML's.
    return json.dumps(value)
