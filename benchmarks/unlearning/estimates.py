"""What missing cells would take: tokens are counted, seconds follow from the cells measured."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from statistics import fmean
from typing import Any

from benchmarks.unlearning.cells import Cell
from benchmarks.unlearning.holdings import Holding, holdings
from benchmarks.unlearning.requests import Gone, Request, all_gone, first_affected, requests_of
from benchmarks.unlearning.setting import Setting
from llm.base_model import load_tokenizer
from llm.records import Record
from llm.tokenization import training_tokens
from strategies.run_parts import base_model_settings


@dataclass(frozen=True)
class Estimates:
    """Counts a seed's tokens without loading the model.

    Parameters
    ----------
    setting : Setting
        What all cells have in common.
    seed : int
        The run's.
    """

    setting: Setting
    seed: int

    @cached_property
    def _tokens(self) -> Mapping[str, int]:
        tokenizer = load_tokenizer(base_model_settings(self.setting.run), self.setting.cache)
        limit = self.setting.run.max_tokens
        return {
            record.id: training_tokens(record, tokenizer, max_tokens=limit)
            for holding in self._held.values()
            for record in holding.pool
        }

    @property
    def _held(self) -> Mapping[str, Holding]:
        return holdings(self.setting, self.seed)

    def tokens_a_record(self) -> float:
        """Return the mean over all records, canaries included."""
        return fmean(self._tokens.values())

    def tokens(self, cell: Cell) -> int:
        """Return the tokens that a cell's model is trained on, what it starts from left out.

        Of a fast one at most: the stop rule may end it sooner, and what it reads is not counted.
        """
        rounds = self.setting.run.rounds
        requests = requests_of(cell, self._held, rounds)
        gone = all_gone(requests)
        match cell.model:
            case "trained":
                return self._of_rounds(1, rounds, Gone())
            case "isolated-all":
                # Everybody's rounds by itself draw the same records.
                return self._of_rounds(1, rounds, Gone())
            case "isolated":
                return 0
            case "retrained":
                return self._of_rounds(1, rounds, gone)
            case "exact":
                return self._of_rounds(first_affected(self._held, gone, rounds), rounds, gone)
            case _:
                return self._of_fast(cell, requests)

    def _of_fast(self, cell: Cell, requests: list[Request]) -> int:
        if cell.variant is None:
            raise ValueError(f"{cell.name}: expected a variant")
        tokens, number, gone = 0, self.setting.run.rounds + 1, Gone()
        for request in requests:
            gone |= request.gone
            # Whoever leaves has its round, and trains nothing in it.
            number += request.withdrawn
            for name, one in () if request.withdrawn else request.forgotten.items():
                kept = self._mean(self._held[name], gone)
                forgotten = [self._tokens[record.id] for record in one.training]
                pass_over = sum(forgotten) + round(kept * len(forgotten))
                tokens += cell.variant.epochs * pass_over
                number += 1
            rounds = cell.variant.recovery(self.setting.run, withdrawn=request.withdrawn)
            last = number + rounds - 1
            tokens += self._of_rounds(number, last, gone)
            number = last + 1
        return tokens

    def _mean(self, holding: Holding, gone: Gone) -> float:
        return fmean(self._tokens[one.id] for one in holding.pool if one.id not in gone.ids)

    def _of_rounds(self, first: int, last: int, gone: Gone) -> int:
        return self.setting.run.epochs * sum(
            self._of_records(holding.round(number, gone.ids))
            for number in range(first, last + 1)
            for name, holding in self._held.items()
            if name not in gone.organizations
        )

    def _of_records(self, records: tuple[Record, ...]) -> int:
        return sum(self._tokens[record.id] for record in records)


def tokens_a_second(results: Mapping[str, Any], digest: str) -> float | None:
    """Return how fast the measured cells of a setting were trained; None where there are none."""
    costs = [one["cost"] for one in results["cells"].values() if one["setting"] == digest]
    seconds = sum(cost["seconds"] for cost in costs if cost["trained_tokens"])
    tokens = sum(cost["trained_tokens"] for cost in costs)
    return tokens / seconds if seconds else None
