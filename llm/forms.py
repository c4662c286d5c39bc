"""The three forms of a row: text and label, prompt and completion, chat."""

from collections.abc import Mapping
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from llm.records import Message, Record, RecordError

_PLACE = "{text}"


class _Form(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class TextLabelForm(_Form):
    """A text and one of a few labels, which the model answers as words.

    Parameters
    ----------
    text, label : str
        Fields of the row.
    words : dict of str to str
        The label's values, as text, to the words the model answers; several values may share a
        word. The completion is a space and the word.
    template : str
        The prompt; ``{text}`` stands for the text, once.
    """

    kind: Literal["text-label"] = "text-label"
    text: str = "text"
    label: str = "label"
    words: dict[str, str]
    template: str = "{text}\nLabel:"

    @field_validator("template")
    @classmethod
    def _holds_the_text_once(cls, template: str) -> str:
        if template.count(_PLACE) != 1:
            raise ValueError(f"the template must hold {_PLACE} once, got {template!r}")
        return template

    @model_validator(mode="after")
    def _has_two_words(self) -> Self:
        if any(not word or word != word.strip() for word in self.words.values()):
            raise ValueError(
                f"label words must not be empty nor begin or end in space: {self.words}"
            )
        if len(set(self.words.values())) < 2:
            raise ValueError(f"expected at least two different label words, got {self.words}")
        return self

    def record(self, row: Mapping[str, object], *, id: str, group: str) -> Record:
        """Make a record of a row; RecordError says what is wrong with it."""
        label = name_field(row, self.label)
        if label not in self.words:
            raise RecordError(
                f"unknown label in {self.label!r}: expected one of {list(self.words)}"
            )
        text = _text(row, self.text)
        return Record(
            id=id,
            prompt=self.template.replace(_PLACE, text),
            completion=f" {self.words[label]}",
            choices=tuple(f" {word}" for word in dict.fromkeys(self.words.values())),
            group=group,
        )


class PromptCompletionForm(_Form):
    """A prompt and its completion, both used exactly as they are.

    Parameters
    ----------
    prompt, completion : str
        Fields of the row.
    """

    kind: Literal["prompt-completion"] = "prompt-completion"
    prompt: str = "prompt"
    completion: str = "completion"

    def record(self, row: Mapping[str, object], *, id: str, group: str) -> Record:
        """Make a record of a row; RecordError says what is wrong with it."""
        return Record(
            id=id,
            prompt=_text(row, self.prompt),
            completion=_text(row, self.completion),
            group=group,
        )


class ChatForm(_Form):
    """A list of messages, each with role and content; the last, the assistant's, is learned.

    Parameters
    ----------
    messages : str
        Field of the row.
    """

    kind: Literal["chat"] = "chat"
    messages: str = "messages"

    def record(self, row: Mapping[str, object], *, id: str, group: str) -> Record:
        """Make a record of a row; RecordError says what is wrong with it."""
        turns = row.get(self.messages)
        if not isinstance(turns, list) or len(turns) < 2:
            raise RecordError(f"field {self.messages!r}: expected a list of two or more messages")
        messages = tuple(_message(turn, number) for number, turn in enumerate(turns, start=1))
        if messages[-1].role != "assistant":
            raise RecordError(f"field {self.messages!r}: the last message must be the assistant's")
        return Record(id=id, prompt=messages[:-1], completion=messages[-1].content, group=group)


Form = Annotated[TextLabelForm | PromptCompletionForm | ChatForm, Field(discriminator="kind")]


def name_field(row: Mapping[str, object], field: str) -> str:
    """Read an id, a group or a label: text or an integer, not empty."""
    value = _present(row, field)
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise RecordError(f"field {field!r} is {type(value).__name__}: expected text or an integer")
    if value == "":
        raise RecordError(f"field {field!r} is empty")
    return str(value)


def _text(row: Mapping[str, object], field: str) -> str:
    value = _present(row, field)
    if not isinstance(value, str):
        raise RecordError(f"field {field!r} is {type(value).__name__}: expected text")
    if not value.strip():
        raise RecordError(f"field {field!r} is empty")
    return value


def _present(row: Mapping[str, object], field: str) -> object:
    if field not in row:
        raise RecordError(f"field {field!r} is missing")
    return row[field]


def _message(turn: object, number: int) -> Message:
    if not isinstance(turn, dict) or not {"role", "content"} <= turn.keys():
        raise RecordError(f"message {number}: expected an object with role and content")
    try:
        return Message(turn["role"], turn["content"])
    except RecordError as error:
        raise RecordError(f"message {number}: {error}") from None
