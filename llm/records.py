"""The record: one training example with an id that lasts, so that it can be forgotten later."""

from dataclasses import dataclass
from typing import Literal, get_args

Role = Literal["system", "user", "assistant", "tool"]

#: Longest id or group accepted, in characters; ids are printed, hashed and stored in ledgers.
MAX_NAME_CHARACTERS = 200


class RecordError(ValueError):
    """A record is malformed; the message names the field.

    It never repeats the content: an exception of an organization's process may reach the server.
    """


@dataclass(frozen=True)
class Message:
    """One turn of a chat.

    Parameters
    ----------
    role : {"system", "user", "assistant", "tool"}
        Who speaks.
    content : str
        What is said; only a system message may be empty.

    Raises
    ------
    RecordError
        If the role is unknown or the content is empty or not text.
    """

    role: Role
    content: str

    def __post_init__(self) -> None:
        if self.role not in get_args(Role):
            raise RecordError(f"message role: expected one of {', '.join(get_args(Role))}")
        _check_text("message content", self.content, allow_blank=self.role == "system")


@dataclass(frozen=True)
class Record:
    """One example: the model learns ``completion`` after ``prompt``, and only the completion.

    Parameters
    ----------
    id : str
        Stable and never reused, 1 to 200 printable characters: a request to forget names it.
    prompt : str or tuple of Message
        What comes before; a chat is rendered by the tokenizer's own template and ends with the
        turn to be answered.
    completion : str
        What is learned; the loss counts these tokens alone.
    choices : tuple of str, optional
        All possible completions, where the example is a classification: accuracy then compares
        their log-probabilities. Empty for free text.
    group : str, optional
        The document (review, article) the record was taken from. A split never cuts a group.

    Raises
    ------
    RecordError
        If a field is empty, of the wrong type or not encodable, or the completion is not one of
        the choices.
    """

    id: str
    prompt: str | tuple[Message, ...]
    completion: str
    choices: tuple[str, ...] = ()
    group: str = ""

    def __post_init__(self) -> None:
        _check_name("id", self.id)
        if self.group != "":
            _check_name("group", self.group)
        if isinstance(self.prompt, tuple):
            _check_chat(self.prompt)
        else:
            _check_text("prompt", self.prompt)
        _check_text("completion", self.completion)
        _check_choices(self.choices, self.completion)

    @property
    def split_key(self) -> str:
        """What decides the record's split: its group, or itself where it stands alone."""
        return self.group or self.id


def _check_text(field: str, value: object, *, allow_blank: bool = False) -> None:
    if not isinstance(value, str):
        raise RecordError(f"{field} is {type(value).__name__}: expected text")
    if not allow_blank and not value.strip():
        raise RecordError(f"{field} is empty: expected text")
    try:
        value.encode("utf-8")
    except UnicodeEncodeError as error:
        raise RecordError(
            f"{field} holds half a character (a lone surrogate) at position {error.start}"
        ) from None


def _check_name(field: str, value: object) -> None:
    _check_text(field, value)
    if not isinstance(value, str) or len(value) > MAX_NAME_CHARACTERS or not value.isprintable():
        raise RecordError(
            f"{field} is not a name: expected 1 to {MAX_NAME_CHARACTERS} printable characters"
        )


def _check_chat(messages: tuple[Message, ...]) -> None:
    if not messages or not all(isinstance(message, Message) for message in messages):
        raise RecordError("prompt is a chat without messages: expected at least one Message")
    if messages[-1].role not in {"user", "tool"}:
        raise RecordError(
            f"prompt ends with a {messages[-1].role} message: expected user or tool, "
            "the turn that the completion answers"
        )


def _check_choices(choices: tuple[str, ...], completion: str) -> None:
    if not choices:
        return
    if not isinstance(choices, tuple) or len(choices) < 2 or len(set(choices)) != len(choices):
        raise RecordError(f"choices {choices!r}: expected a tuple of two or more different texts")
    for choice in choices:
        _check_text("choice", choice)
    if completion not in choices:
        raise RecordError(f"completion is none of the choices {choices!r}")
