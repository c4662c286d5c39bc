"""The ClientApp: hands each message to the organization it is for."""

from logging import getLogger

from flwr.app import Context, Message, RecordDict
from flwr.clientapp import ClientApp

from client_app.organization import CoordinatorError, Organization
from strategies import protocol
from strategies.protocol import ProtocolError
from strategies.run_chain import open_reading_chain
from strategies.settings import RunSettings, SettingsError

app = ClientApp()
_logger = getLogger("foedus")


class OrganizationError(RuntimeError):
    """An organization could not answer.

    Its text reaches the coordinator: it names the error's kind, and repeats a message only where
    the message is about the coordinator's own input. The rest stays in the organization's log.
    """


@app.query("hello")
def hello(message: Message, context: Context) -> Message:
    """Say which organizations this node answers for."""
    settings = RunSettings.from_run_config(context.run_config)
    header = protocol.header_record({protocol.ORGANIZATIONS: _served(settings, context)})
    return Message(RecordDict({protocol.HEADER: header}), reply_to=message)


@app.train()
def train(message: Message, context: Context) -> Message:
    """Take part in a round."""
    return Message(_answer(message, context, "train"), reply_to=message)


@app.evaluate("closing")
def closing(message: Message, context: Context) -> Message:
    """End the run."""
    return Message(_answer(message, context, "close"), reply_to=message)


def _answer(message: Message, context: Context, what: str) -> RecordDict:
    try:
        settings = RunSettings.from_run_config(context.run_config)
        name = _addressed(message, settings, context)
        organization = Organization(name, settings, open_reading_chain(settings))
        content = message.content
        return organization.train(content) if what == "train" else organization.close(content)
    except (ProtocolError, CoordinatorError, SettingsError) as error:
        _logger.exception("the coordinator's message was refused")
        raise OrganizationError(f"{type(error).__name__}: {error}") from None
    except Exception as error:
        _logger.exception("the message could not be answered")
        raise OrganizationError(
            f"{type(error).__name__}; the organization's own log says more"
        ) from None


def _addressed(message: Message, settings: RunSettings, context: Context) -> str:
    header = message.content.config_records.get(protocol.HEADER)
    if header is None:
        raise ProtocolError("a message without a header")
    name = protocol.text(header, "organization")
    if name not in _served(settings, context):
        raise ProtocolError(f"a message for {name[:64]!r}, which this node does not answer for")
    return name


def _served(settings: RunSettings, context: Context) -> list[str]:
    """Return whom a node answers for.

    A deployed node's configuration names its organization. In a simulation one operator holds
    them all, and they are dealt out to however many nodes there are.
    """
    if "organization" in context.node_config:
        return [str(context.node_config["organization"])]
    partition = int(context.node_config["partition-id"])
    return settings.organization_names[partition :: int(context.node_config["num-partitions"])]
