"""The form of the rows of a run's files: an organization's own, and the public validation set's."""

from llm.forms import ChatForm, Form, PromptCompletionForm, TextLabelForm
from strategies.settings import RunSettings


def row_form(settings: RunSettings) -> Form:
    """Return how a row becomes a record, by ``data-form`` and the settings beside it."""
    fields = settings.data_field_names
    match settings.data_form:
        case "text-label":
            return TextLabelForm(
                text=fields.get("text", "text"),
                label=fields.get("label", "label"),
                words=settings.label_words,
                template=settings.data_template,
            )
        case "prompt-completion":
            return PromptCompletionForm(
                prompt=fields.get("prompt", "prompt"),
                completion=fields.get("completion", "completion"),
            )
        case "chat":
            return ChatForm(messages=fields.get("messages", "messages"))
