"""Canaries: random strings trained on a known number of times, and how exposed they are after.

Nothing but training on it makes a random string likely, so whatever a model knows of a canary is
memory. Canaries that were never trained on, drawn in the same way, say what no memory looks like.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from llm.adapters import LoraAdapter
from llm.base_model import BaseModel
from llm.records import Record
from unlearning.verification.metric import MetricResult, mean_result
from unlearning.verification.token_statistics import (
    FloatArray,
    VerificationError,
    gather_statistics,
)

_ALPHABET: Final = "abcdefghijklmnopqrstuvwxyz0123456789"
_SECRET_CHARACTERS: Final = 12

#: What an untrained canary is exposed by on average, bits: the mean of ``-log2`` of a uniform rank.
CHANCE_EXPOSURE: Final = 1 / math.log(2)


@dataclass(frozen=True)
class Canary:
    """A random string and how often it is trained on.

    Parameters
    ----------
    id : str
        Such as ``canary-7``.
    prompt : str
        What comes before, with a random number of its own.
    secret : str
        What is to be memorized.
    repeats : int
        Records with this text; 0 for a string that is never trained on.
    """

    id: str
    prompt: str
    secret: str
    repeats: int

    @property
    def records(self) -> tuple[Record, ...]:
        """Records to train on, ``canary-7-0``, ``canary-7-1``, ...: one id each, one text."""
        return tuple(
            Record(f"{self.id}-{copy}", self.prompt, self.secret) for copy in range(self.repeats)
        )

    @property
    def probe(self) -> Record:
        """The same text as one record, to measure with."""
        return Record(self.id, self.prompt, self.secret)


def draw_canaries(
    count: int, *, seed: int, repeats: Sequence[int] = (1, 4, 16)
) -> tuple[Canary, ...]:
    """Draw canaries to train on; the numbers of repeats take turns.

    Parameters
    ----------
    count : int
        Canaries, all different.
    seed : int
        Another seed gives other canaries; at least 0.
    repeats : sequence of int, optional
        Canary i is repeated ``repeats[i % len(repeats)]`` times.
    """
    texts = _texts(count, np.random.default_rng([seed, 0]))
    return tuple(
        Canary(f"canary-{index}", prompt, secret, repeats[index % len(repeats)])
        for index, (prompt, secret) in enumerate(texts)
    )


def draw_references(count: int, *, seed: int) -> tuple[Canary, ...]:
    """Draw canaries never to be trained on, in the same way from another stream of the seed."""
    texts = _texts(count, np.random.default_rng([seed, 1]))
    return tuple(
        Canary(f"reference-{index}", prompt, secret, 0)
        for index, (prompt, secret) in enumerate(texts)
    )


def _texts(count: int, generator: np.random.Generator) -> list[tuple[str, str]]:
    # By the secret: 62 bits each, so a second draw is hardly ever needed.
    texts: dict[str, str] = {}
    while len(texts) < count:
        letters = generator.integers(len(_ALPHABET), size=_SECRET_CHARACTERS)
        secret = " " + "".join(_ALPHABET[letter] for letter in letters)
        texts[secret] = f"The access code of unit {generator.integers(10**6):06d} is"
    return [(prompt, secret) for secret, prompt in texts.items()]


@dataclass(frozen=True)
class Exposures:
    """How exposed canaries are.

    Parameters
    ----------
    by_canary : mapping of str to float
        Exposure by the canary's id, bits.
    references : int
        Strings each was ranked among.
    """

    by_canary: Mapping[str, float]
    references: int

    @property
    def highest(self) -> float:
        """Exposure of a canary above all references, bits: what lies beyond is not resolved.

        The next lower value is 1 bit less, the one after 1.6 bits.
        """
        return math.log2(self.references + 1)


def measure_exposures(
    base: BaseModel,
    adapter: LoraAdapter | None,
    inserted: Sequence[Canary],
    references: Sequence[Canary],
    *,
    max_tokens: int = 512,
) -> Exposures:
    """Rank canaries among strings that were never trained on.

    Parameters
    ----------
    base : BaseModel
        The base; unchanged afterwards.
    adapter : LoraAdapter or None
        The model in question.
    inserted : sequence of Canary
        What was trained on.
    references : sequence of Canary
        What was not, from :func:`draw_references`; shared by all canaries. N of them resolve up
        to ``log2(N + 1)`` bits: 1,023 up to 10.
    max_tokens : int, optional
        Longest record.

    Raises
    ------
    VerificationError
        If there is no canary or no reference.
    """
    probes = [canary.probe for canary in (*inserted, *references)]
    statistics = gather_statistics(base, probes, adapter, max_tokens=max_tokens)
    losses = {name: one.loss for name, one in statistics.items()}
    among = np.array([losses[reference.id] for reference in references])
    return Exposures(
        {canary.id: exposure(losses[canary.id], among) for canary in inserted}, len(references)
    )


def exposure(loss: float, reference_losses: FloatArray) -> float:
    """Return the exposure of a string by its rank, bits.

    ``log2 |R| - log2 rank`` (Carlini et al. 2019, arXiv 1802.08232), the rank by log-perplexity,
    the summed loss of the string. There R are all strings of the format, too many to score; here
    the string itself and the N references. Under a model that never saw it, the string's rank among
    them is uniform, because all were drawn alike. Of equal losses the string's counts as lowest.

    Parameters
    ----------
    loss : float
        The string's, nats.
    reference_losses : ndarray of float64, shape (references,)
        The references', nats.

    Raises
    ------
    VerificationError
        If there is no reference.
    """
    if not len(reference_losses):
        raise VerificationError("no reference string to rank a canary among: expected some")
    rank = 1 + int((reference_losses < loss).sum())
    return math.log2((len(reference_losses) + 1) / rank)


def exposure_by_repeats(
    inserted: Sequence[Canary], exposures: Exposures
) -> dict[int, MetricResult]:
    """Return the mean exposure of the canaries of each number of repeats, bits, fewest first."""
    numbers = sorted({canary.repeats for canary in inserted})
    return {
        repeats: mean_result(
            {
                canary.id: exposures.by_canary[canary.id]
                for canary in inserted
                if canary.repeats == repeats
            }
        )
        for repeats in numbers
    }
