"""What hostile organizations send instead of what they trained."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final

import numpy as np

from benchmarks.experiments.experiment import Attack
from llm.embedded_data import ORGANIZATIONS
from llm.factors import B_SUFFIX, Arrays, Float32Array
from llm.records import Record
from strategies.aggregation import Contribution

#: How many times as large as trained a scaled update is.
SCALE: Final = 1000.0
#: Size of the noise, in root mean squares of what the sender trained, array by array.
NOISE: Final[Mapping[str, float]] = {"noise": 1.0, "loud-noise": 10.0}


def hostile_names(attack: Attack | None, seed: int) -> tuple[str, ...]:
    """Return who is hostile: halves of as many domains, other ones by each seed.

    Every domain keeps one honest half, so that it can be learned whatever they do.
    """
    if attack is None:
        return ()
    domains = list(ORGANIZATIONS)
    return tuple(
        f"{domains[(seed + 2 * place) % len(domains)]}-b" for place in range(attack.hostile)
    )


def flipped(records: Sequence[Record]) -> tuple[Record, ...]:
    """Return the records with another answer each: the next of the choices."""
    return tuple(
        replace(
            record,
            completion=record.choices[
                (record.choices.index(record.completion) + 1) % len(record.choices)
            ],
        )
        for record in records
    )


def spoiled(
    contributions: Sequence[Contribution],
    attack: Attack | None,
    hostile: Sequence[str],
    *,
    in_place: bool,
    seed: int,
    number: int,
) -> list[Contribution]:
    """Replace what hostile organizations send.

    Parameters
    ----------
    contributions : sequence of Contribution
        As trained; of those who flip labels, on flipped ones.
    attack : Attack, optional
        What they do.
    hostile : sequence of str
        Who they are.
    in_place : bool
        Whether updates are steps of the adapter; else each is a pair, whose product is scaled by
        scaling its B.
    seed, number : int
        Of the run, and its round: noise is drawn by both and by the sender's name.

    Returns
    -------
    list of Contribution
        In the same order; without those who are absent.
    """
    if attack is None or attack.kind == "flipped-labels":
        return list(contributions)
    if attack.kind == "absent":
        return [one for one in contributions if one.organization not in hostile]
    honest = [one for one in contributions if one.organization not in hostile]
    sent = []
    for one in contributions:
        if one.organization not in hostile:
            sent.append(one)
        elif attack.kind == "copied":
            sent += [replace(other, organization=one.organization) for other in honest[:1]]
        elif attack.kind == "scaled":
            sent.append(replace(one, arrays=_scaled(one.arrays, in_place=in_place)))
        else:
            rng = np.random.default_rng([seed, number, *one.organization.encode()])
            sent.append(replace(one, arrays=_noise(one.arrays, NOISE[attack.kind], rng)))
    return sent


def _scaled(arrays: Mapping[str, Float32Array], *, in_place: bool) -> Arrays:
    return {
        name: array * np.float32(SCALE) if in_place or name.endswith(B_SUFFIX) else array
        for name, array in arrays.items()
    }


def _noise(arrays: Mapping[str, Float32Array], size: float, rng: np.random.Generator) -> Arrays:
    return {
        name: rng.normal(
            scale=size * float(np.sqrt(np.mean(np.square(array, dtype=np.float64)))),
            size=array.shape,
        ).astype(np.float32)
        for name, array in sorted(arrays.items())
    }
