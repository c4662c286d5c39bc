"""Kept rounds summed again without somebody's own terms: attestors believe nothing of them."""

from dataclasses import replace

import numpy as np
import pytest
from flwr.app import ConfigRecord, RecordDict

from blockchain.canonical import hash_arrays
from llm.factors import arrays_from_adapter
from strategies.kept_evidence import kept_records, kept_rounds, read_kept
from strategies.lineage import Lineage, Span
from strategies.origin import OriginRounds
from strategies.protocol import ProtocolError
from strategies.recomputation import EvidenceError, state_without
from strategies.round_evidence import RoundEvidence
from strategies.round_outcome import RoundOutcome
from tests.small_federation import Federation, LightChain, small_settings

LEAVER = ("south",)


@pytest.fixture(scope="module")
def federation(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        for name in ("_task_id", "_run_id", "_node_id"):
            patch.setattr(f"flwr.supercore.task_identity.TaskIdentity.{name}", 1)
        home = tmp_path_factory.mktemp("kept")
        return Federation(home, LightChain(), small_settings(rounds=3)).run()


@pytest.fixture(scope="module")
def lineage(federation):
    return Lineage((Span(federation.task, 3),))


@pytest.fixture(scope="module")
def evidence(federation, lineage):
    """Of the first round of a run that goes on from the federation's without one of them."""
    archive = federation.archive
    state = OriginRounds(archive.home, lineage, LEAVER).state(federation.rule)
    start = hash_arrays(arrays_from_adapter(federation.rule.adapter(state)))
    true = RoundEvidence.of_archive(archive, 1, exact=True)
    return replace(
        true,
        outcome=replace(true.outcome, parent=start),
        parent=RoundOutcome.from_manifest(archive.manifest(0)),
        kept=kept_rounds(archive, lineage),
    )


def summed(federation, evidence, lineage):
    return state_without(evidence, federation.rule, federation.chain, lineage, LEAVER)


def test_kept_rounds_survive_the_way_and_make_the_start(federation, evidence, lineage):
    content = RecordDict(kept_records(evidence.kept))
    read = replace(evidence, kept=read_kept(content))
    state = summed(federation, read, lineage)
    expected = OriginRounds(federation.archive.home, lineage, LEAVER).state(federation.rule)
    assert hash_arrays(state.to_arrays()) == hash_arrays(expected.to_arrays())
    untouched = OriginRounds(federation.archive.home, lineage).state(federation.rule)
    assert hash_arrays(state.to_arrays()) != hash_arrays(untouched.to_arrays())


def corrupted(evidence):
    """What a coordinator might send instead, each with a name."""
    first, second, third = evidence.kept
    yield "a round left out", (first, second)
    yield "rounds exchanged", (second, first, third)
    yield "a round twice", (first, first, third)
    yield "of another task", (replace(first, task=bytes(32)), second, third)
    bit = {name: array.copy() for name, array in first.updates["east"].items()}
    next(iter(bit.values())).view(np.uint8)[0, 0] ^= 1
    yield (
        "a bit of an update",
        (
            replace(first, updates={**first.updates, "east": bit}),
            second,
            third,
        ),
    )
    openings = {**first.openings, "east": first.openings["north"]}
    yield "another's opening", (replace(first, openings=openings), second, third)
    without = {name: one for name, one in first.updates.items() if name != "east"}
    yield "an update left out", (replace(first, updates=without), second, third)
    entry = replace(first.outcome.entries[0], num_examples=99)
    outcome = replace(first.outcome, entries=(entry, *first.outcome.entries[1:]))
    yield "more records", (replace(first, outcome=outcome), second, third)


def test_no_corruption_of_kept_rounds_makes_a_start(federation, evidence, lineage):
    for name, kept in corrupted(evidence):
        with pytest.raises(EvidenceError) as caught:
            summed(federation, replace(evidence, kept=kept), lineage)
        assert len(str(caught.value).splitlines()) == 1, name


def test_a_start_that_still_holds_the_terms_is_refused(federation, evidence, lineage):
    whole = evidence.kept[-1].outcome.adapter
    held = replace(evidence, outcome=replace(evidence.outcome, parent=whole))
    with pytest.raises(EvidenceError, match="the kept rounds make another adapter"):
        summed(federation, held, lineage)


def test_malformed_kept_rounds_are_refused_in_one_line(evidence):
    true = kept_records(evidence.kept)
    header = dict(true["kept"])
    for key, value in (
        ("manifests", [b"{}", b"{}", b"{}"]),
        ("manifests", header["manifests"][:1]),
        ("rounds", [9] * len(header["rounds"])),
        ("rounds", ["x"]),
        ("organizations", header["organizations"][1:]),
        ("update-hashes", [bytes(31)] * len(header["salts"])),
        ("salts", []),
    ):
        content = RecordDict({**true, "kept": ConfigRecord({**header, key: value})})
        with pytest.raises((ProtocolError, ValueError)) as caught:
            read_kept(content)
        assert len(str(caught.value).splitlines()) == 1
    with pytest.raises(ProtocolError):
        read_kept(RecordDict({"kept": true["kept"]}))
