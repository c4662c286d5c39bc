"""Unlearning on the real model: the records go, what was learned with them stays."""

import pytest

from llm.adapters import LoraAdapter
from llm.base_model import load_base_model
from llm.draw import draw
from llm.embedded_data import embedded_organization
from llm.factors import A_SUFFIX
from llm.model_source import BaseModelSettings
from llm.records import Record
from llm.repeated_loss import repeated_loss
from llm.training import TrainedPart, train
from llm.training_settings import TrainingSettings
from tests.real_model import application_cache
from tests.test_forgetting import moved
from tests.tiny_model import start_adapter
from unlearning.forgetting import ForgettingSettings, forget


def continued(record: Record) -> Record:
    """A rated text as one half to be continued by the other: its own words are what is learned."""
    words = str(record.prompt).removesuffix("\nSentiment:").split(" ")
    half = len(words) // 2
    return Record(record.id, " ".join(words[:half]), " " + " ".join(words[half:]))


@pytest.mark.real
def test_the_real_model_forgets_what_it_is_told_to_and_keeps_the_rest() -> None:
    cache = application_cache()
    base = load_base_model(BaseModelSettings(), cache)
    rated = (r for r in embedded_organization("cinema", cache).train if 50 < len(r.prompt) < 70)
    drawn = draw(rated, 32, seed=1, round=1, organization="cinema")
    known = [continued(record) for record in drawn]
    forget_set, retain_set = known[:16], known[16:]
    start = start_adapter(base, rank=16, alpha=32.0)
    silent = LoraAdapter(
        {n: x if n.endswith(A_SUFFIX) else x * 0 for n, x in start.arrays.items()}, 32.0
    )
    part = TrainedPart(train_a=False, train_b=True, rank=16)
    settings = TrainingSettings(learning_rate=3e-3, warmup_steps=0, epochs=3, threads=1)
    learned = moved(silent, train(base, known, silent, part, settings, seed=1).arrays)
    how = ForgettingSettings(method="npo", epochs=3, threads=1)
    result = forget(base, learned, part, forget_set, retain_set, how, seed=1)
    first, last = result.checks
    rise = last.forget_loss - first.forget_loss
    assert rise > 1.0
    with repeated_loss(base, retain_set) as loss:
        assert loss(moved(learned, result.arrays)) - loss(learned) < 0.2 * rise
