"""What each organization holds: its records, the canaries among them, and rows never trained on."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache

from benchmarks.unlearning.setting import Setting
from client_app.own_data import load_own_data
from llm.draw import draw
from llm.embedded_data import ORGANIZATIONS
from llm.records import Record
from strategies.setting_values import EMBEDDED_DATA
from unlearning.verification import Canary, draw_canaries


@dataclass(frozen=True)
class Holding:
    """An organization's records.

    Parameters
    ----------
    name : str
        The organization.
    seed : int
        Of its draws.
    records : tuple of Record
        What it trains on, without canaries.
    canaries : tuple of Canary
        What is planted among them.
    drawn : int
        Records of a round. Canaries make it more, so that every record has as many passes as
        without them; that some are forgotten does not.
    validation, test : tuple of Record
        Rows never trained on.
    """

    name: str
    seed: int
    records: tuple[Record, ...]
    canaries: tuple[Canary, ...]
    drawn: int
    validation: tuple[Record, ...]
    test: tuple[Record, ...]

    @cached_property
    def pool(self) -> tuple[Record, ...]:
        """All it trains on, copies of canaries included."""
        return (*self.records, *(copy for canary in self.canaries for copy in canary.records))

    def round(self, number: int, gone: Collection[str] = ()) -> tuple[Record, ...]:
        """Draw a round's records: where some are gone, the next ones take their place."""
        there = [record for record in self.pool if record.id not in gone]
        return draw(there, self.drawn, seed=self.seed, round=number, organization=self.name)

    def used(self, rounds: int) -> frozenset[str]:
        """Return the ids of what is drawn in any of the rounds."""
        return frozenset(
            record.id for number in range(1, rounds + 1) for record in self.round(number)
        )

    def some(self, records: Collection[Record], count: int) -> tuple[Record, ...]:
        """Draw the same ones of some records, whoever asks."""
        return draw(records, count, seed=self.seed, round=0, organization=self.name)


@lru_cache(maxsize=8)
def holdings(setting: Setting, seed: int) -> Mapping[str, Holding]:
    """Return what every organization holds, by name; another seed trains on other records."""
    names = setting.run.organization_names
    planted = setting.planted or tuple(names)
    canaries = draw_canaries(setting.canaries, seed=seed)
    return {
        name: _holding(
            setting,
            seed,
            name,
            canaries[planted.index(name) :: len(planted)] if name in planted else (),
        )
        for name in names
    }


def _holding(setting: Setting, seed: int, name: str, canaries: tuple[Canary, ...]) -> Holding:
    data = load_own_data(setting.run, name, setting.cache)
    train, validation, test = (
        tuple(_in_form(setting, name, record) for record in part)
        for part in (data.train, data.validation, data.test)
    )
    records = draw(train, setting.records, seed=seed, round=0, organization=name)
    copies = sum(canary.repeats for canary in canaries)
    drawn = round(setting.run.records_per_round * (len(records) + copies) / len(records))
    return Holding(name, seed, records, canaries, drawn, validation, test)


def _in_form(setting: Setting, name: str, record: Record) -> Record:
    # Files of several organizations may use the same ids; here all records lie side by side.
    if not record.id.startswith(f"{name}-"):
        record = replace(record, id=f"{name}-{record.id}")
    if setting.form == "label" or not record.choices:
        return record
    before, after = _frame(setting, name)
    return as_completion(record, before, after)


def _frame(setting: Setting, name: str) -> tuple[str, str]:
    """Return what stands before and after the text in a classified record's prompt."""
    if setting.run.data == EMBEDDED_DATA:
        before, _, after = ORGANIZATIONS[name].prompt("{text}").partition("{text}")
    else:
        before, _, after = setting.run.data_template.partition("{text}")
    return before, after


def as_completion(record: Record, before: str, after: str) -> Record:
    """Turn a classified text into one that is learned itself.

    Parameters
    ----------
    record : Record
        Its prompt is the text within a frame.
    before, after : str
        The frame; what stands before is kept for a prompt.
    """
    if not isinstance(record.prompt, str):
        raise TypeError(f"record {record.id} is a chat: expected a text to be completed")
    text = record.prompt.removeprefix(before).removesuffix(after).strip()
    return Record(record.id, before.strip() or "Text:", f" {text}", group=record.group)
