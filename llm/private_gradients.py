"""Gradients that say little of any one record: each is shortened, and noise is added to their sum.

DP-SGD: Abadi et al., "Deep Learning with Differential Privacy", arXiv 1607.00133. Which batch a
record is in depends on its own id alone, so that another record in its place changes the sums of at
most two batches, and those together by no more than twice the bound: the noise is counted in that.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import ChaCha20
from numpy.typing import NDArray
from scipy.special import ndtri

from llm.keyed_hash import keyed_hash
from llm.privacy_settings import PrivacySettings
from llm.tokenization import EncodedRecord
from llm.trained_factors import TrainedFactors, euclidean_norm

_BATCHES: Final = "foedus/private-batches/v1"
#: Values of noise made at once: 8 bytes each.
_AT_ONCE: Final = 1 << 18


@dataclass(frozen=True)
class Noise:
    """Normal noise from a secret key: nobody without it can tell it from any other.

    Whoever learns the key can take the noise off again. Two updates of different data must never
    have the same key.

    Parameters
    ----------
    key : bytes
        32 bytes.
    """

    key: bytes

    def normal(self, step: int, size: int) -> NDArray[np.float32]:
        """Return standard normal values, the same for the same key and step.

        ChaCha20's stream (RFC 8439), 53 bits for a value, through the inverse of the normal
        distribution's cumulative function.

        Parameters
        ----------
        step : int
            Counted from 0.
        size : int
            How many.
        """
        stream = Cipher(
            ChaCha20(self.key, bytes(8) + step.to_bytes(8, "little")), mode=None
        ).encryptor()
        values = np.empty(size, np.float32)
        for start in range(0, size, _AT_ONCE):
            count = min(_AT_ONCE, size - start)
            bits = np.frombuffer(stream.update(bytes(8 * count)), "<u8") >> np.uint64(11)
            values[start : start + count] = ndtri((bits + 0.5) / 2.0**53)
        return values


def private_batches(
    records: Sequence[EncodedRecord], *, batch_size: int, seed: int, epoch: int
) -> list[list[EncodedRecord]]:
    """Return one epoch's batches, each record in the one that its own id says.

    Parameters
    ----------
    records : sequence of EncodedRecord
        Every one comes out exactly once; their order does not matter.
    batch_size : int
        Records in a batch, on average: a batch may hold more, fewer, or none.
    seed, epoch : int
        Another pair gives other batches.
    """
    batches: list[list[EncodedRecord]] = [[] for _ in range(math.ceil(len(records) / batch_size))]
    valued = sorted((keyed_hash(b"", _BATCHES, str(seed), epoch, r.id), r.id, r) for r in records)
    for value, _, record in valued:
        batches[int.from_bytes(value[:8], "big") % len(batches)].append(record)
    return batches


class ClippedSum:
    """The sum of records' gradients, each shortened to a bound.

    Parameters
    ----------
    factors : TrainedFactors
        Whose gradients are taken.
    privacy : PrivacySettings
        The bound, and the noise.
    """

    def __init__(self, factors: TrainedFactors, privacy: PrivacySettings) -> None:
        self._factors, self._privacy = factors, privacy
        self._sums = [torch.zeros_like(flat) for flat in factors.parameters]

    def take(self, gradients: Sequence[torch.Tensor]) -> None:
        """Add records' gradients, each shortened.

        Parameters
        ----------
        gradients : sequence of Tensor, shape (records, values)
            For each flat vector, each record's own.

        Raises
        ------
        FloatingPointError
            If one is not finite.
        """
        for record in range(len(gradients[0])):
            own = [gradient[record] for gradient in gradients]
            norm = euclidean_norm(own)
            if not math.isfinite(norm):
                # One record would decide whether there is an update at all.
                raise FloatingPointError(f"gradient norm {norm}")
            share = 1.0 if norm <= self._privacy.clip else self._privacy.clip / norm
            for total, gradient in zip(self._sums, own, strict=True):
                total.add_(gradient, alpha=share)

    def put(self, noise: Noise, step: int, batch_size: int) -> None:
        """Make the noised mean the gradients that the next step is taken by.

        Parameters
        ----------
        noise : Noise
            From which the step's is taken.
        step : int
            Counted from 0 over all epochs: none is noised like another.
        batch_size : int
            What the sum is divided by, however many records there were.
        """
        size = sum(total.numel() for total in self._sums)
        drawn = torch.from_numpy(noise.normal(step, size))
        start = 0
        for total, flat in zip(self._sums, self._factors.parameters, strict=True):
            own: Any = drawn[start : start + total.numel()].to(total.device).view_as(total)
            start += total.numel()
            flat.grad = total.add_(own, alpha=self._privacy.deviation).div_(batch_size)
