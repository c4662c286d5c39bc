"""How each model comes about; what it starts from is made first where it is missing."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from benchmarks.unlearning.adapter_store import AdapterStore, Made
from benchmarks.unlearning.cells import Cell, Variant
from benchmarks.unlearning.cost import Cost, total
from benchmarks.unlearning.fast import Start, unlearned
from benchmarks.unlearning.federation import NOTHING_GONE, Federation, size_of
from benchmarks.unlearning.requests import Gone, Request, all_gone, first_affected, requests_of
from llm.factors import Float32Array
from strategies.aggregation import AggregationState, Contribution, without_organization

Tell = Callable[[str], None]


@dataclass(frozen=True)
class Models:
    """A seed's models, made when they are asked for.

    Parameters
    ----------
    federation : Federation
        Whose.
    store : AdapterStore
        Where they are kept.
    tell : callable
        Told of every round.
    """

    federation: Federation
    store: AdapterStore
    tell: Tell = lambda _: None

    def of(self, cell: Cell, *, again: bool = False) -> Made:
        """Return a cell's model.

        Parameters
        ----------
        cell : Cell
            Which.
        again : bool, optional
            Make it again where it is there; not what it starts from.
        """
        name = self.name(cell)
        known = None if again else self.store.read(name)
        if known is not None:
            return known
        made = self._made(cell, again=again)
        self.store.write(name, made)
        return made

    def name(self, cell: Cell) -> str:
        """Return the name a cell's model is kept under; all cells of a seed share the trained."""
        if cell.is_shared:
            return f"{cell.form}/{cell.seed}/{cell.model}"
        return cell.name.replace(" ", "-")

    def requests(self, cell: Cell) -> list[Request]:
        """Return what is forgotten in a cell's case."""
        return requests_of(cell, self.federation.holdings, self.federation.rounds)

    def _made(self, cell: Cell, *, again: bool) -> Made:
        match cell.model:
            case "trained":
                return self._trained(self.name(cell), again=again)
            case "retrained":
                return self._retrained(cell)
            case "exact":
                return self._exact(cell)
            case "fast":
                return self._fast(cell)
            case _:
                return self._isolated(cell)

    # Rounds of everybody

    def _trained(self, name: str, *, again: bool) -> Made:
        """Train on everything; rounds that an earlier try finished are taken from it."""
        rule, state = self.federation.rule, self.federation.rule.initial_state()
        rounds, costs = [], []
        for number in range(1, self.federation.rounds + 1):
            kept = None if again else self.store.round(name, number)
            if kept is None:
                done = self.federation.round(number, state)
                kept, state = (list(done.contributions), done.cost), done.state
                self.store.write_round(name, number, *kept)
                self.tell(f"round {number}/{self.federation.rounds}: {done.cost.seconds:.0f} s")
            else:
                state = rule.aggregate(state, number, kept[0]).state
            rounds.append({"round": number, "tokens": kept[1].trained_tokens})
            costs.append(kept[1])
        return Made(state, total(costs), rounds)

    def _retrained(self, cell: Cell) -> Made:
        gone = all_gone(self.requests(cell))
        made = self._from_round(1, self.federation.rule.initial_state(), gone)
        return replace(made, details={"first_affected": self._first_affected(gone)})

    def _first_affected(self, gone: Gone) -> int:
        return first_affected(self.federation.holdings, gone, self.federation.rounds)

    def _from_round(self, first: int, state: AggregationState, gone: Gone) -> Made:
        rounds, costs = [], []
        for number in range(first, self.federation.rounds + 1):
            done = self.federation.round(number, state, gone)
            state = done.state
            rounds.append({"round": number, "tokens": done.cost.trained_tokens})
            costs.append(done.cost)
            self.tell(f"round {number}/{self.federation.rounds}: {done.cost.seconds:.0f} s")
        return Made(state, total(costs), rounds)

    def _exact(self, cell: Cell) -> Made:
        """Make the rounds again from the first that changes, and compare with the retrained."""
        gone = all_gone(self.requests(cell))
        first = self._first_affected(gone)
        made = self._from_round(first, self._before(cell, first), gone)
        retrained = self.of(replace(cell, model="retrained"))
        return replace(
            made,
            # Of each round before the first affected one nothing more is needed than its state;
            # which one that will be, nobody knows beforehand.
            cost=made.cost + Cost(stored_bytes=self.federation.rounds * size_of(made.state.arrays)),
            details={
                "first_affected": first,
                "hash": made.hash,
                "same_as_retrained": made.hash == retrained.hash,
            },
        )

    def _before(self, cell: Cell, first: int) -> AggregationState:
        """Return the state before a round, from the trained model's updates."""
        trained = replace(cell, model="trained", variant=None)
        self.of(trained)
        state = self.federation.rule.initial_state()
        for number, updates in self.store.rounds(self.name(trained), range(1, first)):
            state = self.federation.rule.aggregate(state, number, updates).state
        return state

    # Unlearning

    def _fast(self, cell: Cell) -> Made:
        """Serve the requests one after the other, each on what the last one left."""
        trained = replace(cell, model="trained", variant=None)
        before = self.of(trained).state
        if cell.variant is None:
            raise ValueError(f"{cell.name}: expected a variant")
        number, gone = self.federation.rounds + 1, NOTHING_GONE
        state, costs, details = before, [], []
        states: Mapping[int, AggregationState] = {}
        for request in self.requests(cell):
            gone |= request.gone
            if request.withdrawn:
                state, cost = self._taken_out(trained, request, cell.variant)
                costs.append(cost)
            start = Start(state, before, number, gone)
            made = unlearned(self.federation, request, start, cell.variant, self.tell)
            before = state = made.state
            states = made.states
            number = max(states) + 1
            costs.append(made.cost)
            details.append(made.details)
        return Made(state, total(costs), details={"requests": details}, states=states)

    def _taken_out(
        self, trained: Cell, request: Request, variant: Variant
    ) -> tuple[AggregationState, Cost]:
        """Aggregate what is stored without the organization that leaves."""
        started = time.perf_counter()
        [leaving] = request.forgotten
        name, rule = self.name(trained), self.federation.rule
        numbers = range(1, self.federation.rounds + 1)
        if variant.renormalized:
            state = rule.initial_state()
            for number, updates in self.store.rounds(name, numbers):
                others = [one for one in updates if one.organization != leaving]
                state = rule.aggregate(state, number, others).state
        else:
            state = without_organization(rule, self.store.rounds(name, numbers), leaving)
        seconds = time.perf_counter() - started
        stored = sum(
            size_of(one.arrays)
            for _, updates in self.store.rounds(name, numbers)
            for one in updates
        )
        return state, Cost(seconds=seconds, stored_bytes=stored)

    # Each by itself

    def _isolated(self, cell: Cell) -> Made:
        """Add up adapters that were trained apart, but for those of who left: no training."""
        gone = NOTHING_GONE if cell.model == "isolated-all" else all_gone(self.requests(cell))
        alone = {name: self._alone(cell, name) for name in self.federation.holdings}
        started = time.perf_counter()
        rule = self.federation.rule
        if rule.name != "ffa":
            raise ValueError(f"isolated adapters under {rule.name}: expected ffa, B alone moves")
        start = rule.initial_state()
        kept: dict[str, Mapping[str, Float32Array]] = {
            name: self.federation.moved(made.state, start) for name, made in alone.items()
        }
        state = rule.aggregate(
            start,
            1,
            [
                Contribution(name, self.federation.holdings[name].drawn, arrays)
                for name, arrays in kept.items()
                if name not in gone.organizations
            ],
        ).state
        cost = Cost(
            seconds=time.perf_counter() - started,
            stored_bytes=sum(map(size_of, kept.values())),
        )
        if cell.model == "isolated-all":
            cost += total(made.cost for made in alone.values())
        return Made(state, cost)

    def _alone(self, cell: Cell, name: str) -> Made:
        """Train an organization's adapter on its own data, from the base."""
        kept_as = f"{cell.form}/{cell.seed}/isolated-of-{name}"
        known = self.store.read(kept_as)
        if known is not None:
            return known
        self.tell(f"{name} by itself")
        others = frozenset(self.federation.holdings) - {name}
        made = self._from_round(1, self.federation.rule.initial_state(), Gone(frozenset(), others))
        self.store.write(kept_as, made)
        return made
