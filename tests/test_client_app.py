"""The ClientApp: messages reach their organization, and no error carries a record's text away."""

import re
import traceback

import pytest
from flwr.app import Context, Message, RecordDict

import client_app.app
import client_app.local_training
from blockchain.merkle import organization_id
from client_app.app import OrganizationError, app
from strategies import protocol
from strategies.reply_errors import error_of
from strategies.settings import RunSettings
from tests.flower_messages import reply_to, sent
from tests.organization_cases import MARKER, write_reviews

pytestmark = [pytest.mark.real, pytest.mark.usefixtures("flower_task")]
pytest_plugins = ["tests.chain_fixtures", "tests.organization_fixtures"]

NODE = 17


def context(settings, **node_config):
    node = {"partition-id": 0, "num-partitions": 1, **node_config}
    return Context(1, NODE, node, RecordDict(), settings.to_run_config())


def ask(kind, content, where):
    message = sent(Message(content, dst_node_id=NODE, message_type=kind, ttl=60.0))
    return app(message, where)


def hello():
    return RecordDict({protocol.HEADER: protocol.header_record({})})


def failure(kind, content, where):
    """What reaches the coordinator of an error: Flower sends its text, Ray its traceback."""
    with pytest.raises(OrganizationError) as caught:
        ask(kind, content, where)
    return "".join(traceback.format_exception(caught.value))


def errors_log(settings, organization="shop"):
    return (settings.home_path / "organizations" / organization / "errors.log").read_text()


def test_a_node_says_which_organizations_it_answers_for(tmp_path):
    everyone = ("cinema", "microblog", "shop", "newspaper")
    for name in everyone:
        write_reviews(tmp_path / f"{name}.jsonl")
    settings = RunSettings.from_run_config(
        {"organizations": ",".join(everyone), "data": f"{tmp_path}/{{organization}}.jsonl"}
    )
    names = {}
    for partition in range(3):
        where = context(settings, **{"partition-id": partition, "num-partitions": 3})
        reply = ask(protocol.HELLO, hello(), where)
        names[partition] = reply.content[protocol.HEADER][protocol.ORGANIZATIONS]
    assert names == {0: ["cinema", "newspaper"], 1: ["microblog"], 2: ["shop"]}


@pytest.fixture
def registered(monkeypatch):
    """As if the registry had the node's key: here all organizations are simulated, without one.

    The look itself: ``test_doctor_federation.py``, and ``test_separate_machines.py`` with all else.
    """
    monkeypatch.setattr(client_app.app, "check_registered", lambda *_: None)


def deployed(settings, **given):
    """The configuration of the node that the shop runs itself."""
    own = {"organization": "shop", "home": settings.home, "data": settings.data}
    return {**own, "chain-url": settings.chain_url, **given}


def test_a_deployed_node_answers_for_the_organization_its_configuration_names(settings):
    numbers = {"partition-id": 5, "num-partitions": 9}
    where = context(settings, **numbers, **deployed(settings))
    reply = ask(protocol.HELLO, hello(), where)
    assert reply.content[protocol.HEADER][protocol.ORGANIZATIONS] == ["shop"]


@pytest.mark.usefixtures("registered")
def test_a_deployed_node_takes_its_home_its_chain_and_its_data_from_nobody_else(
    settings, coordinator, tmp_path
):
    elsewhere = tmp_path / "elsewhere"
    theirs = {"home": str(elsewhere), "chain_url": "http://127.0.0.1:9"}
    bad = settings.model_copy(update=theirs)
    reply = ask(protocol.TRAIN, coordinator.message(), context(bad, **deployed(settings)))
    assert not reply.has_error()
    assert not elsewhere.exists()


def test_what_a_deployed_nodes_configuration_leaves_out_is_not_taken_from_the_coordinator(settings):
    theirs = settings.model_copy(update={"data": "/etc/{organization}.jsonl"})
    silent = {**deployed(settings, organization="clinic")}
    del silent["data"]
    said = failure(protocol.HELLO, hello(), context(theirs, **silent))
    assert "DataError" in said
    assert "/etc" not in said


def test_a_round_is_answered_with_an_update(settings, coordinator):
    reply = ask(protocol.TRAIN, coordinator.message(), context(settings))
    assert not reply.has_error()
    assert set(reply.content) == {
        protocol.UPDATE,
        protocol.HEADER,
        protocol.OPENING,
        protocol.METRICS,
    }


def test_a_node_says_itself_how_often_its_ledger_is_anchored(settings, coordinator):
    anchors = coordinator.chain.anchors
    before = anchors.last(organization_id("shop")).size
    where = context(settings, **{"anchor-interval": 0})
    assert not ask(protocol.TRAIN, coordinator.message(), where).has_error()
    assert anchors.last(organization_id("shop")).size == before


def test_a_message_for_another_organization_is_refused(settings, coordinator):
    message = coordinator.message(organization="cinema")
    said = failure(protocol.TRAIN, message, context(settings))
    assert "ProtocolError: a message for 'cinema', which this node does not answer for" in said


@pytest.mark.parametrize("name", ["../../etc", "/etc", "a/b", "", "x" * 65, "\x1b[2J"])
def test_a_hostile_name_makes_no_folder(settings, coordinator, name, tmp_path):
    before = {path.name for path in (settings.home_path / "organizations").glob("*")}
    failure(protocol.TRAIN, coordinator.message(organization=name), context(settings))
    after = {path.name for path in (settings.home_path / "organizations").glob("*")}
    assert after - before <= {"errors.log"}


def test_a_failing_training_tells_the_coordinator_its_kind_and_not_a_word_of_a_record(
    settings, coordinator, monkeypatch
):
    def quoting(base, records, *arguments, **more):
        raise ValueError(f"cannot tokenize {records[0].prompt!r}")

    monkeypatch.setattr(client_app.local_training, "train", quoting)
    said = failure(protocol.TRAIN, coordinator.message(), context(settings))
    assert MARKER not in said
    assert "OrganizationError: ValueError; the organization's own errors.log says more" in said
    # The organization itself reads all of it.
    assert MARKER in errors_log(settings)
    assert "Traceback" in errors_log(settings)


def test_what_the_coordinator_did_wrong_is_told_in_full(settings, coordinator):
    said = failure(protocol.TRAIN, coordinator.message(2), context(settings))
    assert "CoordinatorError: round 2 is none on chain, expected open" in said


def test_a_malformed_row_is_told_by_file_and_line_without_its_text(settings, tmp_path):
    data = write_reviews(tmp_path / "shop.jsonl", 8)
    with data.open("a") as file:
        file.write(f'{{"id": "bad", "text": "{MARKER}", "label": "{MARKER}"}}\n')
    bad = settings.model_copy(update={"data": str(data)})
    said = failure(protocol.HELLO, hello(), context(bad))
    assert f"DataError: {data}:9: " in said
    assert MARKER not in said


def test_a_nodes_own_data_stands_before_what_the_coordinator_names(settings, tmp_path):
    where = context(settings.model_copy(update={"data": "/nowhere.jsonl"}), data=settings.data)
    assert ask(protocol.HELLO, hello(), where)
    said = failure(protocol.HELLO, hello(), context(settings, data="/nowhere.jsonl"))
    assert "/nowhere.jsonl: no such file" in said


def test_a_setting_that_is_wrong_is_told_in_one_line(settings):
    where = context(settings)
    where.run_config["rank"] = "many"
    said = failure(protocol.HELLO, hello(), where)
    assert re.search(r"OrganizationError: SettingsError: rank: 'many': [^\n]*$", said.strip())


def test_the_coordinators_log_takes_our_line_out_of_flowers(settings, coordinator):
    with pytest.raises(OrganizationError) as caught:
        ask(protocol.TRAIN, coordinator.message(2), context(settings))
    from flwr.app import Error

    wrapped = f"{traceback.format_exc()}\n{type(caught.value).__name__}: {caught.value}\nmore"
    message = sent(Message(RecordDict(), dst_node_id=NODE, message_type="train", ttl=60.0))
    line = error_of(reply_to(message, Error(0, wrapped)))
    assert line == "CoordinatorError: round 2 is none on chain, expected open"


@pytest.mark.usefixtures("registered")
def test_a_deployed_node_reads_no_validation_set_by_a_path_and_writes_under_no_home_of_anothers(
    settings, coordinator, tmp_path
):
    path = tmp_path / "clinic.jsonl"
    path.write_text('{"patient": "Jane"}\n')
    theirs = settings.model_copy(
        update={"public_validation": str(path), "home": str(tmp_path / "elsewhere")}
    )
    said = failure(protocol.TRAIN, coordinator.message(), context(theirs, **deployed(settings)))
    assert "CoordinatorError: public-validation names a path" in said
    assert str(path) not in said
    assert not (tmp_path / "elsewhere").exists()
