"""A federation in one process: functions for organizations, a grid that calls them, a light chain.

The strategy, the archive, the notary, the rules, Flower's own round loop and every file are the
real ones. The light chain keeps the contract's rules in a dictionary; one test of each kind runs on
a real Hardhat node instead.
"""

import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from eth_utils.crypto import keccak
from flwr.app import Error, Message, RecordDict
from flwr.serverapp import Grid

from blockchain import merkle
from blockchain.anchors import Anchor, AnchorEvent
from blockchain.canonical import canonical_json, hash_arrays
from blockchain.chain_records import DisputeTerms, OpenedTask, Phase, RoundRecord, Seal, TaskRecord
from blockchain.errors import ChainError
from blockchain.merkle import organization_id
from blockchain.sender import TransactionReceipt
from blockchain.typed_data import Domain, sign_digest
from llm.adapters import save_adapter
from llm.factors import arrays_from_adapter
from strategies import protocol
from strategies.attesting import attestation_of
from strategies.contributions import ScoredRound, ScoreLimits, leave_one_out, score_table
from strategies.federated_lora import FederatedLora
from strategies.recomputation import recompute
from strategies.rewards import RewardTerms
from strategies.round_evidence import RoundEvidence
from strategies.round_notary import RoundNotary
from strategies.round_outcome import RoundOutcome
from strategies.round_terms import Participant, RoundTerms
from strategies.run_archive import RunArchive
from strategies.run_parts import adapter_at_scale, aggregation_rule
from strategies.scores import ScoreTable
from strategies.settings import RunSettings
from strategies.signed_update import TaskContext
from strategies.terms import terms_hash, terms_of
from tests.aggregation_cases import SHAPES
from tests.chain_samples import DISPUTES
from tests.flower_messages import reply_to, sent
from tests.signing_cases import DOMAIN, NAMES, account_of, decline_reply, signed_reply

#: Signs an organization's reply with other arrays than it would honestly send; with none, its
#: decline.
Signer = Callable[[Mapping[str, Any] | None], RecordDict]

#: Given an honest answer, the round and the organization's signer: the answer, another one, an
#: error, or none at all.
Behaviour = Callable[[RecordDict, int, Signer], RecordDict | Error | None]


def declining(_content: RecordDict, _round: int, sign: Signer) -> RecordDict:
    """Decline every round."""
    return sign(None)


def in_round_one(answer: Callable[[RecordDict, Signer], RecordDict | Error | None]) -> Behaviour:
    """A behaviour that is honest in every other round."""
    return lambda content, number, sign: answer(content, sign) if number == 1 else content


#: Files that hold times or heights.
_TIMED = {"record.json", "seal.json", "run.json", "attestation.json"}


class KilledError(BaseException):
    """Stands for SIGKILL: no `except Exception` sees it, and nothing after it runs."""


def small_settings(**changes: Any) -> RunSettings:
    """Settings of a run of four organizations on layers of a few dozen weights."""
    config = {"organizations": ",".join(NAMES), "rank": 4, "alpha": 8.0, "rounds": 2, "seed": 7}
    named = {key.replace("_", "-"): value for key, value in changes.items()}
    data = {"data": "/data/{organization}.jsonl", "records-per-round": 64}
    return RunSettings.from_run_config({**config, **data, **named})


@dataclass
class LightChain:
    """The contract's rules, in memory; deterministic, so that two runs can be compared."""

    address: str = "0x" + "11" * 20
    tasks: dict[bytes, TaskRecord] = field(default_factory=dict)
    records: dict[tuple[bytes, int], RoundRecord] = field(default_factory=dict)
    submitted: dict[tuple[bytes, int], dict[bytes, bytes]] = field(default_factory=dict)
    attested: dict[tuple[bytes, int], int] = field(default_factory=dict)
    blocks: list[bytes] = field(default_factory=list)
    height: int = 0
    anchored: dict[bytes, list[AnchorEvent]] = field(default_factory=dict)

    @property
    def domain(self) -> Domain:
        return DOMAIN

    @property
    def members(self) -> "LightChain":
        return self

    @property
    def anchors(self) -> "LightChain":
        return self

    def last(self, organization: bytes) -> Anchor:
        made = self.anchored.get(organization)
        return made[-1].anchor if made else Anchor(0, bytes(32), 0)

    def history(self, organization: bytes, first_block: int) -> list[AnchorEvent]:
        return self.anchored.get(organization, [])

    def keys_between(self, organization: bytes, first_block: int, last_block: int) -> list[str]:
        return [account_of(n).address for n in NAMES if organization_id(n) == organization]

    def attestor_threshold(self) -> int:
        return 2

    def key_of(self, organization: bytes) -> str:
        (key,) = self.keys_between(organization, 0, 0)
        return key

    def attested_block(self, task: bytes, round: int) -> int | None:
        return self.attested.get((task, round))

    def attest(
        self, task: bytes, round: int, scores: bytes, approvals: Mapping[bytes, bytes]
    ) -> TransactionReceipt:
        receipt = self._mined(b"attest", task, round)
        record = self.round(task, round)
        if any(record.scores):
            assert record.scores == scores
            return receipt
        assert len(approvals) >= self.attestor_threshold()
        self.records[task, round] = replace(record, scores=scores)
        self.attested[task, round] = receipt.block_number
        return receipt

    def block_hash(self, height: int) -> bytes | None:
        return self.blocks[height - 1] if 0 < height <= len(self.blocks) else None

    def submissions(self, task: bytes, round: int) -> dict[bytes, bytes]:
        return self.submitted.get((task, round), {})

    def open_task(self, terms: bytes, genesis: bytes, disputes: DisputeTerms) -> OpenedTask:
        task = keccak(terms + genesis)
        if task not in self.tasks:
            self.tasks[task] = TaskRecord(
                task=task,
                coordinator=account_of("coordinator").address,
                terms=terms,
                genesis_adapter=genesis,
                challenge_window=disputes.challenge_window,
                response_window=disputes.response_window,
                bond=disputes.bond,
                last_round=0,
                head_round=0,
                last_final_round=0,
                branch_start=0,
                head_adapter=genesis,
                opened_block=self._mined(b"task", task).block_number,
            )
        return OpenedTask(task, self._mined(b"task", task))

    def open_round(self, task: bytes, round: int, parent: bytes) -> TransactionReceipt:
        known, record = self.task(task), self.round(task, round)
        if record.phase is Phase.OPEN and record.parent_adapter == parent:
            return self._mined(b"open", task, round)
        if round != known.last_round + 1 or parent != known.head_adapter:
            raise ChainError(f"openRound was refused: round {round}")
        self.tasks[task] = replace(known, last_round=round)
        receipt = self._mined(b"open", task, round)
        self.records[task, round] = replace(
            record,
            phase=Phase.OPEN,
            parent_round=known.head_round,
            parent_adapter=parent,
            opened_block=receipt.block_number,
        )
        return receipt

    def opening(self, task: bytes, round: int) -> TransactionReceipt:
        return self._mined(b"open", task, round)

    def seal(self, task: bytes, round: int, seal: Seal) -> TransactionReceipt:
        record = self.round(task, round)
        given = (seal.leaf_count, seal.updates_root, seal.adapter_hash, seal.record)
        sealed = (record.leaf_count, record.updates_root, record.adapter_hash, record.record)
        receipt = self._mined(b"seal", task, round)
        if record.phase is Phase.SEALED and sealed == given:
            return receipt
        if record.phase is not Phase.OPEN:
            raise ChainError(f"seal was refused: round {round} is {record.phase.name}")
        self.records[task, round] = replace(
            record,
            phase=Phase.SEALED,
            leaf_count=seal.leaf_count,
            updates_root=seal.updates_root,
            adapter_hash=seal.adapter_hash,
            record=seal.record,
            closed_block=receipt.block_number,
            closed_at=100 * receipt.block_number,
        )
        self.tasks[task] = replace(
            self.tasks[task], head_round=round, head_adapter=seal.adapter_hash
        )
        return receipt

    def task(self, task: bytes) -> TaskRecord:
        if task not in self.tasks:
            raise ChainError("getTask was refused: RoundsUnknownTask")
        return self.tasks[task]

    def round(self, task: bytes, round: int) -> RoundRecord:
        nothing = RoundRecord(
            task=task,
            round=round,
            phase=Phase.NONE,
            parent_round=0,
            parent_adapter=bytes(32),
            leaf_count=0,
            updates_root=bytes(32),
            adapter_hash=bytes(32),
            record=bytes(32),
            scores=bytes(32),
            opened_block=0,
            closed_block=0,
            closed_at=0,
            open_challenges=0,
        )
        return self.records.get((task, round), nothing)

    def rounds(self, task: bytes) -> list[RoundRecord]:
        return [self.round(task, n + 1) for n in range(self.task(task).last_round)]

    def is_included(
        self, task: bytes, round: int, leaf: merkle.Leaf, proof: Iterable[bytes]
    ) -> bool:
        record = self.round(task, round)
        return (
            record.phase is Phase.SEALED
            and leaf.index < record.leaf_count
            and merkle.verify(record.updates_root, leaf, list(proof))
        )

    def _mined(self, *what: Any) -> TransactionReceipt:
        digest = hashlib.sha256(repr(what).encode()).digest()
        self.height += 1
        self.blocks.append(digest)
        return TransactionReceipt(digest, self.height, digest, 21_000)


@dataclass
class LocalGrid(Grid):
    """Delivers each message to its organization's function, in this process."""

    organizations: Mapping[int, Callable[[Message], Message | None]]
    sent: list[Message] = field(default_factory=list)

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> list[Message]:
        delivered = [sent(message) for message in messages]
        self.sent += delivered
        replies = [self.organizations[m.metadata.dst_node_id](m) for m in delivered]
        # Replies arrive in any order.
        return [reply for reply in reversed(replies) if reply is not None]

    def set_run(self, run: Any) -> None:
        raise NotImplementedError

    @property
    def run(self) -> Any:
        raise NotImplementedError

    def create_message(self, *arguments: Any, **more: Any) -> Message:
        raise NotImplementedError

    def get_node_ids(self) -> list[int]:
        return list(self.organizations)

    def push_messages(self, messages: Iterable[Message]) -> list[str]:
        raise NotImplementedError

    def pull_messages(self, message_ids: Iterable[str]) -> list[Message]:
        raise NotImplementedError


def honest_update(rule: Any, round_number: int, name: str, rank: int) -> dict[str, Any]:
    """The update of an organization in a round, the same every time.

    Each organization moves the weights of its own stripe towards one, so that each has something
    to give that no other has; the rest is noise.
    """
    seed = int.from_bytes(hashlib.sha256(f"{round_number} {name}".encode()).digest()[:8], "big")
    rng = np.random.default_rng(seed)
    update = {}
    for array, shape in rule.expected_shapes(round_number, rank).items():
        values = rng.normal(scale=0.02, size=shape)
        values.reshape(-1)[NAMES.index(name) :: len(NAMES)] += 0.4
        update[array] = values.astype(np.float32)
    return update


def examples_of(name: str) -> int:
    """Records an organization uses in a round: a different number for each."""
    return 8 * (1 + NAMES.index(name))


#: An attestor's answer to a message, given the federation and its own name.
Answer = Callable[["Federation", str, RecordDict], RecordDict | Error | None]


def made_up_loss(adapter: Mapping[str, Any]) -> float:
    """A loss in the place of a model's, nats: how far the weights are from one."""
    return float(np.mean([((a.astype(np.float64) - 1) ** 2).mean() for a in adapter.values()]))


def scored(federation: "Federation", content: RecordDict) -> tuple[RoundOutcome, ScoreTable]:
    """What an honest attestor finds: the round made again, and scored."""
    settings, context = federation.settings, federation.context
    evidence = RoundEvidence.from_records(content)
    terms = RewardTerms.of(settings)
    made = recompute(evidence, federation.rule, federation.chain, context, terms)
    number = evidence.outcome.round
    round_to_score = ScoredRound(federation.rule, made.state, number, made.contributions)
    limits = ScoreLimits.of(settings)
    found = leave_one_out(round_to_score, made_up_loss, limits) if made.contributions else {}
    table = score_table(
        found,
        NAMES,
        task=context.task,
        round=number,
        validation=bytes(32),
        method="leave-one-out",
    )
    return evidence.outcome, table


def signed_scores(
    federation: "Federation", name: str, outcome: RoundOutcome, table: ScoreTable
) -> RecordDict:
    """An attestor's answer: scores, and its signature of them and the round."""
    digest = attestation_of(outcome, federation.task, name, table).digest(federation.context.domain)
    header = {
        "scores": canonical_json(table.to_json()),
        "signature": sign_digest(digest, account_of(name)),
    }
    return RecordDict({protocol.HEADER: protocol.header_record(header)})


def honest_attestor(federation: "Federation", name: str, content: RecordDict) -> RecordDict:
    """Answer as an attestor on the same processor does."""
    outcome, table = scored(federation, content)
    return signed_scores(federation, name, outcome, table)


class Federation:
    """A run of four organizations under one folder; made again on it, it is a new process.

    Parameters
    ----------
    home : Path
        Its home folder.
    chain : LightChain or PublicChain
        Where rounds are sealed.
    settings : RunSettings, optional
        The run's settings.
    behaviours : mapping of str to Behaviour, optional
        What organizations do instead of the honest thing.
    killed_at : str, optional
        Stage of round 2 at which the coordinator dies, one of `STAGES`.
    attestors : mapping of str to Answer, optional
        Who attests, and how each answers: `honest_attestor` does as the real one, with a made-up
        loss in the model's place.
    """

    STAGES = (
        "round opened",
        "updates stored",
        "adapter half written",
        "prepared",
        "sealed on chain",
        "seal noted",
    )

    def __init__(
        self,
        home: Path,
        chain: Any,
        settings: RunSettings | None = None,
        behaviours: Mapping[str, Behaviour] | None = None,
        killed_at: str | None = None,
        attestors: Mapping[str, Answer] | None = None,
    ) -> None:
        self.settings = settings or small_settings()
        self.chain = chain
        self.archive = RunArchive(home / "runs" / "treaty")
        self.rule = aggregation_rule(self.settings, SHAPES)
        self.events: list[tuple[str, dict[str, Any]]] = []
        self._behaviours = dict(behaviours or {})
        self._attestors = {
            name: partial(answer, self, name) for name, answer in (attestors or {}).items()
        }
        self._killed_at = killed_at
        terms = terms_of(self.settings, run=self.archive.name, model_fingerprint="ab" * 32)
        genesis = hash_arrays(arrays_from_adapter(self.rule.adapter(self.rule.initial_state())))
        self.task = chain.open_task(terms_hash(terms), genesis, DISPUTES).task
        self.context = TaskContext(self.task, terms_hash(terms), chain.domain)
        self.archive.write_run(
            {
                "settings": self.settings.to_run_config(),
                "terms": terms,
                "task": self.task.hex(),
                "status": "running",
            }
        )
        self.notary = RoundNotary(chain, self.context, account_of("coordinator"))
        self.nodes = {name: 100 + number for number, name in enumerate(NAMES)}
        self.grid = LocalGrid({self.nodes[name]: self._organization(name) for name in NAMES})
        self.strategy = FederatedLora(
            rule=self.rule,
            archive=self.archive,
            notary=self.notary,
            terms=RoundTerms(
                min_organizations=self.settings.min_organizations,
                max_examples=self.settings.records_per_round,
                norm_bound=self.settings.norm_bound,
                deadline=60.0,
                attestors=frozenset(self._attestors),
                rewards=RewardTerms.of(self.settings),
            ),
            save_adapter=self._save_adapter,
            listener=self._listen,
        )
        self.strategy.admit(
            Participant(name, self.nodes[name], self.settings.rank_of(name)) for name in NAMES
        )
        if killed_at is not None:
            self._arm(killed_at)

    def run(self) -> "Federation":
        """Begin or resume, go on to the last round, and seal what it earned."""
        done = self.strategy.resume()
        if done < self.settings.rounds:
            self.strategy.start(
                grid=self.grid,
                initial_arrays=protocol.array_record(self.strategy.adapter_arrays()),
                num_rounds=self.settings.rounds - done,
                timeout=60.0,
            )
        if self._attestors:
            self.strategy.close_rewards(self.grid)
        return self

    def events_of(self, kind: str) -> list[dict[str, Any]]:
        """The particulars of every event of one kind."""
        return [particulars for event, particulars in self.events if event == kind]

    def manifest_entries(self, round_number: int) -> dict[str, dict[str, Any]]:
        """The manifest's line of each organization that replied."""
        updates = self.archive.manifest(round_number)["updates"]
        return {entry["organization"]: entry for entry in updates}

    def files(self) -> dict[str, bytes]:
        """Everything that a round leaves, but for timings and the seal's block."""
        return {
            path.relative_to(self.archive.folder).as_posix(): path.read_bytes()
            for path in sorted(self.archive.folder.rglob("*"))
            if path.is_file() and path.name not in _TIMED
        }

    def _organization(self, name: str) -> Callable[[Message], Message | None]:
        def answer(message: Message) -> Message | None:
            if message.metadata.message_type == protocol.ATTEST:
                reply = self._attestors[name](message.content)
                return None if reply is None else reply_to(message, reply)
            round_number = int(message.metadata.group_id)
            update = honest_update(self.rule, round_number, name, self.settings.rank_of(name))
            parent = message.content[protocol.HEADER]["adapter-hash"]

            def sign(arrays: Mapping[str, Any] | None) -> RecordDict:
                if arrays is None:
                    return decline_reply(self.context, name, round_number, parent)
                examples = examples_of(name)
                return signed_reply(self.context, name, round_number, parent, arrays, examples)

            content = sign(update)
            behaviour = self._behaviours.get(name)
            reply = content if behaviour is None else behaviour(content, round_number, sign)
            return None if reply is None else reply_to(message, reply)

        return answer

    def _save_adapter(self, round_number: int, arrays: Any, folder: Path) -> None:
        if self._killed_at == "adapter half written" and round_number == 2:
            folder.mkdir()
            (folder / "adapter_model.safetensors").write_bytes(b"half")
            raise KilledError
        save_adapter(folder, adapter_at_scale(arrays, self.settings), base_model="tiny")

    def _listen(self, event: str, particulars: Mapping[str, Any]) -> None:
        self.events.append((event, dict(particulars)))
        dies = {"round opened": "round-opened", "seal noted": "round-sealed"}
        if dies.get(self._killed_at or "") == event and particulars["round"] == 2:
            raise KilledError

    def _arm(self, stage: str) -> None:
        """Let the second call of one step be the last thing the process does."""
        place, step = {
            "updates stored": (self.archive, "prepare_round"),
            "prepared": (self.notary, "seal"),
            "sealed on chain": (self.archive, "write_seal"),
        }.get(stage, (None, ""))
        if place is None:
            return
        real = getattr(place, step)

        def until_round_two(*arguments: Any, **more: Any) -> Any:
            first = arguments[0]
            number = first if isinstance(first, int) else first.round
            if number == 2:
                raise KilledError
            return real(*arguments, **more)

        setattr(place, step, until_round_two)
