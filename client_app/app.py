"""The ClientApp: hands each message to the organization it is for."""

import re
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from eth_account.signers.local import LocalAccount
from flwr.app import Context, Message, RecordDict
from flwr.clientapp import ClientApp

from blockchain.errors import ChainError
from blockchain.public_chain import PublicChain
from client_app.agent.agent_file import AgentMismatchError
from client_app.own_data import load_own_data
from client_app.own_registration import check_registered
from client_app.public_set import fetch_public_set
from client_app.replay_order import as_it_worked, check_order
from client_app.request import CoordinatorError
from llm.cached_folder import CacheError
from llm.model_source import BaseModelError
from llm.registry import RegistryError
from llm.rows import DataError
from strategies import protocol
from strategies.home import cache_folder, foedus_home, organization_folder
from strategies.organization_key import signing_account
from strategies.protocol import ProtocolError
from strategies.recomputation import EvidenceError
from strategies.replay_order import ReplayOrder
from strategies.run_chain import open_reading_chain
from strategies.settings import RunSettings, SettingsError
from strategies.witnessed_blocks import witness

app = ClientApp()

#: Errors whose own words may reach the coordinator: they are about its input, the chain or the
#: set-up, and hold nothing of a record.
_SAYABLE = (
    ProtocolError,
    CoordinatorError,
    EvidenceError,
    ChainError,
    SettingsError,
    BaseModelError,
    CacheError,
    RegistryError,
    DataError,
    AgentMismatchError,
)


#: Settings that are each organization's own: where everything of it lies, by which node it reads
#: the chain, where its data lies, how often its ledger is anchored, whether its agent decides, and
#: what it may spend.
_OWN = (
    "home",
    "chain-url",
    "data",
    "anchor-interval",
    "participation",
    "token-price",
    "token-budget",
    "budget-epoch",
)
_DEFAULTS = RunSettings().to_run_config()


class OrganizationError(RuntimeError):
    """An organization could not answer.

    Its text reaches the coordinator: it names the error's kind, and repeats a message only of the
    kinds that hold nothing of a record. The rest stays in the organization's ``errors.log``.
    """


@app.query("hello")
def hello(message: Message, context: Context) -> Message:
    """Say which organizations this node answers for, once their data has been found in order."""
    with _kept_errors("", context):
        settings, order = _settings(message, context)
        served = _served(settings, order, context)
        for name in served:
            load_own_data(settings, name, cache_folder(settings.home_path))
    header = protocol.header_record({protocol.ORGANIZATIONS: served})
    return Message(RecordDict({protocol.HEADER: header}), reply_to=message)


@app.train()
def train(message: Message, context: Context) -> Message:
    """Take part in a round."""
    return Message(_answer(message, context, "train"), reply_to=message)


@app.train("again")
def train_again(message: Message, context: Context) -> Message:
    """Make a round again, and say whether it comes to the same."""
    return Message(_answer(message, context, "train again"), reply_to=message)


@app.evaluate("attest")
def attest(message: Message, context: Context) -> Message:
    """Make a sealed round again, score it and sign."""
    return Message(_answer(message, context, "attest"), reply_to=message)


@app.evaluate("closing")
def closing(message: Message, context: Context) -> Message:
    """End the run."""
    return Message(_answer(message, context, "close"), reply_to=message)


@app.query("forget")
def forget(message: Message, context: Context) -> Message:
    """Say which rounds our requests to forget are about."""
    return Message(_answer(message, context, "plan"), reply_to=message)


@app.evaluate("vouch")
def vouched(message: Message, context: Context) -> Message:
    """Sign that a request was carried out."""
    return Message(_answer(message, context, "vouch"), reply_to=message)


@app.query("forgotten")
def forgotten(message: Message, context: Context) -> Message:
    """Take a receipt, and delete what we keep of the rounds that were replaced."""
    return Message(_answer(message, context, "forgotten"), reply_to=message)


def _answer(message: Message, context: Context, what: str) -> RecordDict:
    with _kept_errors(_claimed_name(message), context):
        settings, order = _settings(message, context)
        name = _addressed(message, settings, order, context)
        chain = open_reading_chain(settings, patient=True)
        gone = witness(chain, settings.home_path, name)
        if gone:
            raise CoordinatorError(
                f"block {gone[0].height} of hash {gone[0].hash} has left the chain: its history "
                "was rewritten"
            )
        account = signing_account(settings.home_path, name)
        deployed = "organization" in context.node_config
        if deployed:
            check_registered(chain, settings.home_path, name, account)
        # Whoever the home is named by, what is read and kept here is under the organization's.
        agreed = RunSettings.from_run_config({**context.run_config, "home": settings.home})
        if order is not None:
            check_order(chain, order, agreed, name)
            agreed = order.settings_at(agreed)
            settings = as_it_worked(settings, name)
        if deployed:
            fetch_public_set(agreed, settings.home_path, name)
        return _worked(what, message.content, name, settings, chain, account, agreed)


def _worked(
    what: str,
    content: RecordDict,
    name: str,
    settings: RunSettings,
    chain: PublicChain,
    account: LocalAccount,
    agreed: RunSettings,
) -> RecordDict:
    """Do what a message asks for, with no more of the application than that takes.

    On separate machines each message is answered by a new process: torch and what comes with it
    are most of its start.
    """
    if what == "vouch":
        from client_app.vouching import vouch  # noqa: PLC0415

        return vouch(content, name, agreed, chain, account)
    if what in ("plan", "forgotten"):
        from client_app.forgetting import Forgetting  # noqa: PLC0415

        forgetting = Forgetting(name, settings, chain, account, agreed=agreed)
        return (forgetting.plan if what == "plan" else forgetting.forgotten)(content)
    if what == "attest":
        from client_app.attestor import Attestor  # noqa: PLC0415

        return Attestor(name, settings, chain, account, agreed=agreed).attest(content)
    if what == "train again":
        from client_app.training_again import TrainingAgain  # noqa: PLC0415

        return TrainingAgain(name, settings, chain, account, agreed=agreed).train_again(content)
    from client_app.organization import Organization  # noqa: PLC0415

    organization = Organization(name, settings, chain, account, agreed=agreed)
    return (organization.train if what == "train" else organization.close)(content)


def _settings(message: Message, context: Context) -> tuple[RunSettings, ReplayOrder | None]:
    """Return the run's settings, and the order that the message carries, if any."""
    config = RunSettings.from_run_config(context.run_config)
    header = message.content.config_records.get(protocol.HEADER)
    order = None if header is None else ReplayOrder.from_header(header)
    if order is not None:
        config = order.settings_at(config)
    return RunSettings.from_run_config({**config.to_run_config(), **_own(context)}), order


def _own(context: Context) -> dict[str, Any]:
    """Return what the node's own configuration says of the settings that are its organization's.

    A deployed node takes none of them from the coordinator, who would name a path on the
    organization's machine, or the chain that the organization checks the coordinator against: what
    its configuration leaves out stays at the default.
    """
    given = {key: context.node_config[key] for key in _OWN if key in context.node_config}
    if "organization" not in context.node_config:
        return given
    return {**{key: _DEFAULTS[key] for key in _OWN}, **given}


@contextmanager
def _kept_errors(organization: str, context: Context) -> Iterator[None]:
    """Keep a traceback where only the organization reads it; let the coordinator know the kind."""
    try:
        yield
    except Exception as error:
        home = foedus_home(str(_own(context).get("home", context.run_config.get("home", ""))))
        folder = organization_folder(home, organization)
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / "errors.log").open("a") as log:
            log.write(f"{datetime.now(UTC).isoformat(timespec='seconds')}\n")
            log.write(f"{traceback.format_exc()}\n")
        kind = type(error).__name__
        if isinstance(error, _SAYABLE):
            raise OrganizationError(f"{kind}: {error}") from None
        raise OrganizationError(f"{kind}; the organization's own errors.log says more") from None


def _claimed_name(message: Message) -> str:
    """Return the organization a message names, if that can be a folder's name."""
    header = message.content.config_records.get(protocol.HEADER)
    name = header.get("organization") if header is not None else None
    return name if isinstance(name, str) and re.fullmatch(r"[a-z0-9_-]{1,64}", name) else ""


def _addressed(
    message: Message, settings: RunSettings, order: ReplayOrder | None, context: Context
) -> str:
    header = message.content.config_records.get(protocol.HEADER)
    if header is None:
        raise ProtocolError("a message without a header")
    name = protocol.text(header, "organization")
    if name not in _served(settings, order, context):
        raise ProtocolError(f"a message for {name[:64]!r}, which this node does not answer for")
    return name


def _served(settings: RunSettings, order: ReplayOrder | None, context: Context) -> list[str]:
    """Return whom a node answers for.

    A deployed node's configuration names its organization. In a simulation one operator holds
    them all, and they are dealt out to however many nodes there are. Whoever has withdrawn is one
    of them still: it is owed its receipt.
    """
    if "organization" in context.node_config:
        return [str(context.node_config["organization"])]
    partition = int(context.node_config["partition-id"])
    names = (settings if order is None else order.origin_at(settings)).organization_names
    return names[partition :: int(context.node_config["num-partitions"])]
