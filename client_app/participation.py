"""Whether an organization joins a round, and with how much effort: decided, recorded, paid for.

What stands between a message and the agent: it sees to it that what was earned is claimed, that the
agent learns from what arrived, and that it sees the round as it is.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from blockchain.errors import ChainError
from blockchain.private.ledger import Ledger
from blockchain.public_chain import PublicChain
from client_app.agent.action_space import SKIP, ActionSpace
from client_app.agent.agent_file import OpenDecision
from client_app.agent.agent_start import agent_start
from client_app.agent.own_agent import OwnAgent, agent_records, read_records
from client_app.agent.replay import Brought
from client_app.agent.situation import REMEMBERED_ROUNDS, Outcome, Situation
from client_app.agent.superseded import first_superseded, learned_before
from client_app.own_earnings import OwnEarnings, RoundEarning
from client_app.own_record import OwnRecord, OwnReply
from client_app.request import Request
from llm.base_model import load_tokenizer
from llm.draw import draw
from llm.records import Record
from llm.tokenization import training_tokens
from strategies.home import cache_folder, organization_folder
from strategies.replies import VERDICTS_OF_SOUND_UPDATES
from strategies.rewards import WEI_PER_GWEI
from strategies.run_parts import base_model_settings
from strategies.settings import RunSettings

FULL_EFFORT: Final = 100


@dataclass(frozen=True)
class Share:
    """What an organization does in a round.

    Parameters
    ----------
    percent : int
        Its effort; 0 where it declines.
    records : tuple of Record
        What it trains on.
    rank : int
        The rank that it trains.
    """

    percent: int
    records: tuple[Record, ...]
    rank: int

    @property
    def declines(self) -> bool:
        """Whether it stays away."""
        return self.percent == 0


class Participation:
    """One organization's part in a run's rounds.

    Parameters
    ----------
    settings : RunSettings
        The run's settings, with what is the organization's own.
    name : str
        The organization.
    chain : PublicChain
        A connection that can read.
    paying : callable
        Returns the chain with an account that can pay for transactions.
    """

    def __init__(
        self,
        settings: RunSettings,
        name: str,
        chain: PublicChain,
        paying: Callable[[], PublicChain],
    ) -> None:
        self._settings = settings
        self._name = name
        self._chain = chain
        self._paying = paying
        self._folder = organization_folder(settings.home_path, name)
        self._space = ActionSpace(settings.effort)
        self._price = settings.token_price_of(name) * WEI_PER_GWEI

    def settle(self, request: Request, record: OwnRecord, ledger: Ledger) -> None:
        """Keep what was earned, claim what can be, and let the agent learn from what arrived."""
        problems = self._earnings(request.task).take(request.rewards)
        if problems:
            record.claimed(problems[0])
        kept = self._settings.kept_rounds
        record.goes_on_from(kept)
        if self._settings.participation == "always" or self._settings.isolation:
            self._collect(request.task)
        elif kept.spans:
            self._learn_again(request, ledger)
        else:
            self.learn(ledger, request.task)

    def learn(self, ledger: Ledger, *tasks: bytes) -> list[int]:
        """Claim what decisions that wait have earned, and learn from what arrived.

        A claim that fails is kept and asked again at the next message: it keeps no round waiting.

        Parameters
        ----------
        ledger : Ledger
            The private ledger.
        *tasks : bytes
            Ids of tasks to claim for beside those that decisions wait for, 32 bytes each.

        Returns
        -------
        list of int
            Numbers of the records of rewards.
        """
        agent = self.agent(ledger)
        waiting = [bytes.fromhex(decision.task) for decision in agent.state.open]
        for task in dict.fromkeys([*tasks, *waiting]):
            self._collect(task)
        return agent.settle(self._brought(agent.state.open))

    def _learn_again(self, request: Request, ledger: Ledger) -> None:
        """Learn from what had been learned by then in the run whose rounds are made again."""
        kept, number = self._settings.kept_rounds, self._settings.logical_round(request.round)
        records = read_records(ledger, agent_records(ledger))
        known = learned_before(records, kept, request.task, number)
        if known is None:
            self.learn(ledger, request.task)
            return
        self._collect(request.task)
        # What was decided before is known already; of what follows the agent is put back first.
        if first_superseded(records, kept) is None:
            agent = self.agent(ledger)
            waiting = [decision for decision in agent.state.open if known(decision)]
            brought = self._brought(waiting, request.task)
            agent.settle(lambda one: brought(one) if known(one) else None)

    def agent(self, ledger: Ledger) -> OwnAgent:
        """Return the organization's agent, beside its open ledger."""
        start = agent_start(self._space, seed=self._settings.seed, organization=self._name)
        return OwnAgent(self._folder, ledger, self._space, start)

    def decide(
        self, request: Request, record: OwnRecord, ledger: Ledger, training: Sequence[Record]
    ) -> Share:
        """Decide about a round, on the records that the organization may train on.

        Parameters
        ----------
        request : Request
            The coordinator's message.
        record : OwnRecord
            What we keep of the task.
        ledger : Ledger
            The private ledger, where the decision is written before anything is done about it.
        training : sequence of Record
            Those not forgotten.
        """
        settings, effort = self._settings, self._settings.effort
        drawn = draw(
            training,
            settings.records_per_round,
            seed=settings.seed,
            round=settings.logical_round(request.round),
            organization=self._name,
        )
        # In isolation nothing may depend on what others earned: no agent decides.
        if settings.participation == "always" or settings.isolation:
            # Whoever had everything forgotten has nothing to train on.
            return Share(FULL_EFFORT if drawn else 0, drawn, request.rank)
        counts = [
            0 if percent == 0 else effort.records(percent, settings.records_per_round)
            for percent in map(self._space.percent, range(len(effort.percents) + 1))
        ]
        records = read_records(ledger, agent_records(ledger)) if settings.lineage else []
        decision = self.agent(ledger).decide(
            request.task,
            self._situation(request, record, self._costs(drawn, counts)),
            price=self._price,
            mode=settings.participation,
            put_back=first_superseded(records, settings.kept_rounds),
        )
        percent = self._space.percent(decision.action)
        return share_at(percent, drawn, request.rank, settings)

    # What the agent sees

    def _costs(self, drawn: Sequence[Record], counts: Sequence[int]) -> tuple[int, ...]:
        """Return the tokens that training on so many of the drawn records takes, exactly."""
        settings = self._settings
        tokenizer = load_tokenizer(base_model_settings(settings), cache_folder(settings.home_path))
        tokens = [training_tokens(one, tokenizer, max_tokens=settings.max_tokens) for one in drawn]
        return tuple(settings.epochs * sum(tokens[:count]) for count in counts)

    def _situation(self, request: Request, record: OwnRecord, costs: tuple[int, ...]) -> Situation:
        settings, number = self._settings, self._settings.logical_round(request.round)
        epoch = settings.budget_epoch
        replies = self._replies(request, record, max(epoch, REMEMBERED_ROUNDS))
        since = (number - 1) // epoch * epoch
        spent = sum(_tokens(one) for round_number, one in replies.items() if round_number > since)
        last = replies.get(number - 1)
        return Situation(
            round=number,
            rounds=settings.rounds,
            budget=settings.token_budget,
            spent=spent,
            outcomes=self._outcomes(request, replies),
            last_action=SKIP if last is None else self._space.action(_percent(last)),
            costs=costs,
        )

    def _replies(self, request: Request, record: OwnRecord, most: int) -> dict[int, OwnReply]:
        """Return our last replies before a round, by logical round, kept ones among them."""
        kept = self._settings.kept_rounds
        found = {
            kept.after + one.signed.update.round: one
            for one in record.replies_before(request.round, most)
        }
        for number in range(kept.after, 0, -1):
            if len(found) >= most:
                break
            task, place = kept.place_of(number)
            reply = OwnRecord(self._folder, task).reply_in(place)
            if reply is not None:
                found[number] = reply
        return found

    def _outcomes(self, request: Request, replies: Mapping[int, OwnReply]) -> list[Outcome]:
        """Return what is known of the rounds joined, oldest first.

        What a round earned is sealed with the next one, and told with the message after: of a kept
        round, more may be known by now than a run that had gone on would have known.
        """
        kept, number = self._settings.kept_rounds, self._settings.logical_round(request.round)
        places = {
            joined: kept.place_of(joined)
            if joined <= kept.after
            else (request.task, joined - kept.after)
            for joined, one in sorted(replies.items())
            # An effort of none: it unlearned, which no agent decided.
            if joined <= number - 2 and not one.signed.declines and _percent(one)
        }
        earned = {
            task: self._earnings(task).by_round(min(n for one, n in places.values() if one == task))
            for task in {task for task, _ in places.values()}
        }
        return [
            Outcome(earned[task][place].wei, _tokens(replies[joined]) * self._price)
            for joined, (task, place) in places.items()
            if place in earned[task]
        ]

    # What came of it

    def _collect(self, task: bytes) -> None:
        """Claim what can be claimed; what keeps it from arriving is kept beside it."""
        record = OwnRecord(self._folder, task)
        try:
            wei = self._earnings(task).collect(self._paying)
        except ChainError as error:
            record.claimed(f"{type(error).__name__}: {error}")
            return
        if wei:
            record.claimed(f"{wei} wei arrived")

    def _brought(
        self, waiting: Sequence[OpenDecision], task_made_again: bytes = b""
    ) -> Callable[[OpenDecision], Brought | None]:
        """Return what looks up what a decision brought: ``None`` until it has arrived.

        In a task that makes rounds again it counts as soon as it is sealed: when it arrives is
        taken from the record.
        """
        after = {
            task: OwnRecord(self._folder, bytes.fromhex(task)).kept_rounds().after
            for task in {decision.task for decision in waiting}
        }
        earned: dict[str, dict[int, RoundEarning]] = {
            task: dict(
                self._earnings(bytes.fromhex(task)).by_round(
                    min(one.round - before for one in waiting if one.task == task)
                )
            )
            for task, before in after.items()
        }

        def brought(decision: OpenDecision) -> Brought | None:
            number = decision.round - after[decision.task]
            earning, task = earned[decision.task].get(number), bytes.fromhex(decision.task)
            if earning is None or not (earning.arrived or task == task_made_again):
                return None
            reply = OwnRecord(self._folder, task).reply_in(number)
            receipt = None if reply is None else reply.round_receipt()
            failed = receipt is None or receipt.verdict not in VERDICTS_OF_SOUND_UPDATES
            return Brought(earning.wei, failed=failed)

        return brought

    def _earnings(self, task: bytes) -> OwnEarnings:
        return OwnEarnings(self._folder, task, self._name, self._chain)


def share_at(percent: int, drawn: Sequence[Record], rank: int, settings: RunSettings) -> Share:
    """Return what an effort makes of a round.

    Parameters
    ----------
    percent : int
        The effort; 0 to stay away.
    drawn : sequence of Record
        What full effort trains on, in the order of the draw.
    rank : int
        The rank at full effort.
    settings : RunSettings
        The run's.
    """
    if percent == 0:
        return Share(0, (), rank)
    count = settings.effort.records(percent, settings.records_per_round)
    return Share(percent, tuple(drawn[:count]), settings.effort.rank(percent, rank))


def _tokens(reply: OwnReply) -> int:
    return int(reply.metrics.get("tokens", 0.0))


def _percent(reply: OwnReply) -> int:
    return int(reply.metrics.get("effort", 0.0))
