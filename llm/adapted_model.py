"""The base model with an adapter on it, for as long as a context lasts."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import psutil
import torch
from torch import Tensor, nn

from llm.adapters import LoraAdapter
from llm.base_model import BaseModel
from llm.completion_loss import (
    cross_entropies,
    summed_cross_entropy,
    target_log_probabilities,
)
from llm.factors import adapter_from_arrays
from llm.linear_shapes import target_linears
from llm.llama_layer import LlamaLayer
from llm.lora_linear import AdaptedLinear, standing_in
from llm.memory import give_back_freed_memory
from llm.tokenization import Batch

#: Share of the free memory that dequantized weights may take.
_MEMORY_SHARE = 0.25

Factors = Mapping[str, tuple[Tensor, Tensor]]


class AdaptedModel:
    """The base model under :func:`adapted`; its low-rank factors can be changed at any time."""

    def __init__(self, base: BaseModel, layers: dict[str, AdaptedLinear]) -> None:
        self._base = base
        self._layers = layers

    def wear(self, adapter: LoraAdapter | None) -> None:
        """Take off whatever adapter is on the model, and put on another, or none.

        Raises
        ------
        AdapterError
            If it does not fit the base model.
        """
        if adapter is not None:
            adapter.check_fits(self._base.linear_shapes())
        for layer in self._layers.values():
            layer.take_off()
        if adapter is not None:
            self.put(scaled_factors(adapter, self._base))

    def put(self, factors: Factors) -> None:
        """Set the low-rank path of every named layer.

        Parameters
        ----------
        factors : mapping of str to (Tensor, Tensor)
            PEFT module name to ``a`` (rank, in_features) and scaled ``b`` (out_features, rank), in
            the compute type. Gradients flow to whatever they were computed from.
        """
        for name, (a, b) in factors.items():
            self._layers[name].put(a, b)

    def loss(self, batch: Batch) -> Tensor:
        """Return the summed cross entropy of a batch's targets, in nats; differentiable."""
        if self._base.has_plain_head:
            return summed_cross_entropy(self._hidden_states(batch), self._base.head, batch.targets)
        return nn.functional.cross_entropy(
            self._logits(batch).float(), batch.targets, reduction="sum"
        )

    def row_losses(self, batch: Batch) -> Tensor:
        """Return the summed cross entropy of each row's targets; differentiable.

        Returns
        -------
        Tensor of float32, shape (rows,)
            In nats; they add up to :meth:`loss`.
        """
        if self._base.has_plain_head:
            losses = cross_entropies(self._hidden_states(batch), self._base.head, batch.targets)
        else:
            losses = nn.functional.cross_entropy(
                self._logits(batch).float(), batch.targets, reduction="none"
            )
        # Not index_add: on a GPU its additions come in any order.
        return torch.stack([row.sum() for row in losses.split_with_sizes(batch.target_counts)])

    def log_probabilities(self, batch: Batch, candidates: Tensor) -> Tensor:
        """Return the log-probability of candidate tokens at a batch's positions; differentiable.

        Parameters
        ----------
        batch : Batch
            The rows.
        candidates : Tensor of int64, shape (targets, candidates)
            Token ids for each position.

        Returns
        -------
        Tensor of float32, shape (targets, candidates)
            In nats.
        """
        if self._base.has_plain_head:
            return target_log_probabilities(self._hidden_states(batch), self._base.head, candidates)
        return self._logits(batch).float().log_softmax(-1).gather(1, candidates)

    def _hidden_states(self, batch: Batch) -> Tensor:
        """Return the last hidden states at the batch's positions, (targets, width), contiguous."""
        hidden: Tensor = self._base.body(input_ids=batch.tokens, use_cache=False).last_hidden_state
        # 2-D and contiguous: anything else makes the head a batched product that copies the
        # vocabulary matrix once a row.
        return hidden.flatten(0, 1).index_select(0, batch.positions)

    def _logits(self, batch: Batch) -> Tensor:
        logits: Tensor = self._base.model(input_ids=batch.tokens, use_cache=False).logits
        return logits.flatten(0, 1).index_select(0, batch.positions)


@contextmanager
def adapted(
    base: BaseModel, adapter: LoraAdapter | None = None, *, keep_weights: bool | None = None
) -> Iterator[AdaptedModel]:
    """Put an adapter on the base model until the context ends.

    Parameters
    ----------
    base : BaseModel
        The base; locked meanwhile, and as it was afterwards.
    adapter : LoraAdapter, optional
        What to put on it; none for the base alone.
    keep_weights : bool, optional
        Hold quantized weights dequantized meanwhile (same bits, two bytes a weight in bfloat16).
        By default where that takes at most a quarter of the free memory.

    Raises
    ------
    AdapterError
        If the adapter does not fit the base model.
    """
    linears = target_linears(base.model, "all-linear")
    if keep_weights is None:
        keep_weights = _room_for(linears, base)
    with base.lock:
        layers = {
            name: AdaptedLinear(linear, base.compute_dtype, keep_weight=keep_weights)
            for name, linear in linears.items()
        }
        model = AdaptedModel(base, layers)
        model.wear(adapter)
        replacements: dict[nn.Module, AdaptedLinear] = {
            linears[name]: layer for name, layer in layers.items()
        }
        decoder_layers = {
            module: LlamaLayer(module, replacements)
            for module in base.model.modules()
            if LlamaLayer.takes(module, replacements)
        }
        try:
            with standing_in(replacements | decoder_layers):
                yield model
        finally:
            # The context's weights are still held here; what the caller did in it is not.
            give_back_freed_memory()


def scaled_factors(adapter: LoraAdapter, base: BaseModel) -> dict[str, tuple[Tensor, Tensor]]:
    """Return an adapter's factors as the layers take them: scale in b, in the compute type."""
    scale = adapter.scale
    return {
        module: (
            torch.from_numpy(factors.a).to(base.device, base.compute_dtype),
            (torch.from_numpy(factors.b) * scale).to(base.device, base.compute_dtype),
        )
        for module, factors in adapter_from_arrays(adapter.arrays).items()
    }


def _room_for(linears: Mapping[str, nn.Linear], base: BaseModel) -> bool:
    weights = sum(linear.out_features * linear.in_features for linear in linears.values())
    free = (
        torch.cuda.mem_get_info(base.device)[0]
        if base.device.type == "cuda"
        else psutil.virtual_memory().available
    )
    return weights * base.compute_dtype.itemsize <= _MEMORY_SHARE * free
