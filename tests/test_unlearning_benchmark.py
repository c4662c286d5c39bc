"""The benchmark of unlearning, on the tiny model: what it makes, asks, keeps and concludes."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.results_file import ResultsFile, key_of
from benchmarks.unlearning.__main__ import main
from benchmarks.unlearning.adapter_store import AdapterStore
from benchmarks.unlearning.cells import Cell, Variant
from benchmarks.unlearning.deep import FURTHER
from benchmarks.unlearning.estimates import Estimates
from benchmarks.unlearning.fast import never_seen
from benchmarks.unlearning.federation import Federation
from benchmarks.unlearning.groups import groups_of
from benchmarks.unlearning.holdings import as_completion, holdings
from benchmarks.unlearning.judgements import conclusion, forget_quality, judged, priv_leak
from benchmarks.unlearning.measurement import columns, measured
from benchmarks.unlearning.models import Models
from benchmarks.unlearning.questions import questions_of
from benchmarks.unlearning.report import sheets_of
from benchmarks.unlearning.requests import all_gone, first_affected, requests_of
from benchmarks.unlearning.setting import Setting, run_settings
from llm.factors import B_SUFFIX
from llm.records import Record
from tests.organization_cases import write_reviews
from tests.tiny_model import build_tiny_model
from tests.verification_cases import rows
from unlearning.verification import Evidence, as_good_as_retrained
from unlearning.verification import forget_quality_p_value as quality_of_evidence
from unlearning.verification import priv_leak as leak_of_evidence

pytestmark = pytest.mark.usefixtures("one_thread")

NAMES = ("east", "north", "south", "west")
ROUNDS = 3
RECORDS_A_ROUND = 12


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What differs from a run's settings: the tiny model, small files."""
    folder = tmp_path_factory.mktemp("unlearning")
    for name in NAMES:
        write_reviews(folder / f"{name}.jsonl", rows=120)
    return {
        "home": str(folder / "home"),
        "organizations": ",".join(NAMES),
        "data": str(folder / "{organization}.jsonl"),
        "data_fields": "id=id",
        "model": str(build_tiny_model(folder / "model")),
        "quantization": "none",
        "compute_dtype": "float32",
        "rank": 4,
        "alpha": 8.0,
        "rounds": ROUNDS,
        "records_per_round": RECORDS_A_ROUND,
        "batch_size": 8,
        "micro_batch_size": 8,
        "learning_rate": 0.01,
        "max_tokens": 96,
        "threads": 1,
    }


SMALL = {
    "records": 30,
    "canaries": 2,
    "references": 7,
    "hold_out_rows": 6,
    "retain_rows": 5,
    "test_rows": 4,
}


@pytest.fixture(scope="module")
def setting(config: dict[str, Any]) -> Setting:
    return Setting(run=run_settings(**config), form="completion", **SMALL)


@pytest.fixture(scope="module")
def models(setting: Setting, tmp_path_factory: pytest.TempPathFactory) -> Models:
    federation = Federation(setting, 42)
    return Models(federation, AdapterStore(tmp_path_factory.mktemp("models"), federation.rule))


def cell(model: str, case: str = "records-10", **others: Any) -> Cell:
    values: dict[str, Any] = {"organization": "east", "index": 0, "seed": 42, "form": "completion"}
    variant = QUICK if model == "fast" else None
    return Cell(model, case, **{**values, "variant": variant, **others})


QUICK = Variant(projection=True, recovery_rounds=1, epochs=1, stop_rows=0)


# What is forgotten


def test_sets_are_disjoint_and_hold_records_and_canaries_that_were_used(setting: Setting) -> None:
    held = holdings(setting, 42)
    used = held["east"].used(ROUNDS)
    seen: set[str] = set()
    canaries = []
    for index in range(10):
        [request] = requests_of(cell("trained", index=index), held, ROUNDS)
        forgotten = request.forgotten["east"]
        ids = {record.id for record in forgotten.records}
        assert 0 < len(ids) <= 3
        assert ids <= used
        assert not ids & seen
        seen |= ids
        canaries += forgotten.canaries
    assert seen == {record.id for record in held["east"].records} & used
    assert sorted(canaries, key=str) == sorted(held["east"].canaries, key=str)


@pytest.mark.parametrize(
    ("case", "index", "organization"),
    [("records-10", 10, "east"), ("withdrawal", 1, "east"), ("records-1", 0, "nowhere")],
)
def test_a_set_or_organization_that_is_not_there_is_refused(
    setting: Setting, case: str, index: int, organization: str
) -> None:
    asked = cell("trained", case, index=index, organization=organization)
    with pytest.raises(ValueError, match="expected"):
        requests_of(asked, holdings(setting, 42), ROUNDS)


def test_a_round_draws_the_same_records_but_those_gone_and_as_many(setting: Setting) -> None:
    holding = holdings(setting, 42)["east"]
    whole = holding.round(1)
    gone = {whole[0].id, whole[3].id}
    without = holding.round(1, gone)
    assert len(without) == len(whole) == holding.drawn
    assert [one for one in whole if one.id not in gone] == list(without[: len(whole) - 2])


def test_canaries_are_dealt_to_those_they_are_planted_in(setting: Setting) -> None:
    held = holdings(replace(setting, canaries=5, planted=("north", "west")), 42)
    assert [len(held[name].canaries) for name in NAMES] == [0, 3, 0, 2]
    # Four passes stay four passes.
    copies = sum(canary.repeats for canary in held["north"].canaries)
    assert held["north"].drawn == round(RECORDS_A_ROUND * (30 + copies) / 30)
    assert held["east"].drawn == RECORDS_A_ROUND


def test_a_classified_text_becomes_the_text_itself() -> None:
    labelled = Record("a", "Tweet: so it goes\nSentiment:", " negative", (" negative", " positive"))
    assert as_completion(labelled, "Tweet: ", "\nSentiment:") == Record(
        "a", "Tweet:", " so it goes"
    )
    assert as_completion(replace(labelled, prompt="so it goes"), "", "").prompt == "Text:"


def test_models_are_asked_about_rows_that_do_not_overlap(setting: Setting) -> None:
    held = holdings(setting, 42)
    for case in ("records-1", "records-10", "withdrawal", "together", "sequence"):
        asked = cell("trained", case)
        requests = requests_of(asked, held, ROUNDS)
        questions = questions_of(requests, held, setting)
        sets = (questions.forget, questions.retain, questions.hold_out, questions.others)
        ids = [record.id for one in sets for record in one]
        assert len(set(ids)) == len(ids)
        trained_on = {record.id for holding in held.values() for record in holding.pool}
        assert not trained_on & {r.id for one in sets[2:] for r in one}
        assert {one.id for one in questions.forget} <= all_gone(requests).ids
        assert not {one.id for one in questions.retain} & all_gone(requests).ids
        assert all(sets)


# Models


def test_a_replay_from_the_first_affected_round_has_the_hash_of_the_retrained(
    models: Models, setting: Setting
) -> None:
    held = models.federation.holdings
    # A set that no early round drew, so that there is something to keep.
    for index in range(10):
        asked = cell("exact", "records-1", index=index)
        first = first_affected(held, all_gone(models.requests(asked)), ROUNDS)
        if first > 1:
            break
    assert first > 1
    exact = models.of(asked)
    retrained = models.of(replace(asked, model="retrained"))
    assert exact.details["same_as_retrained"]
    assert exact.hash == retrained.hash != models.of(cell("trained")).hash
    assert exact.rounds == retrained.rounds[first - 1 :]
    assert exact.cost.trained_tokens < retrained.cost.trained_tokens
    counted = Estimates(setting, 42)
    for made, one in ((exact, asked), (retrained, replace(asked, model="retrained"))):
        assert made.cost.trained_tokens == counted.tokens(one)


def test_training_goes_on_where_it_was_cut_off(models: Models, tmp_path: Path) -> None:
    whole = models.of(cell("trained"))
    other = replace(models, store=AdapterStore(tmp_path, models.federation.rule))
    found = models.store.round("completion/42/trained", 1)
    assert found is not None
    other.store.write_round("completion/42/trained", 1, *found)
    told: list[str] = []
    resumed = replace(other, tell=told.append).of(cell("trained"))
    assert len(told) == ROUNDS - 1
    assert (resumed.hash, resumed.cost.tokens) == (whole.hash, whole.cost.tokens)


def test_what_was_made_is_read_back_with_its_bits(models: Models) -> None:
    made = models.of(cell("fast"))
    again = models.of(cell("fast"))
    assert again is not made
    assert (again.hash, again.cost, again.details) == (made.hash, made.cost, made.details)
    assert sorted(again.states) == [ROUNDS + 1, ROUNDS + 2]


def test_no_recovery_update_opposes_the_unlearning_where_it_is_projected(models: Models) -> None:
    plain = models.of(cell("fast", variant=replace(QUICK, projection=False)))
    projected = models.of(cell("fast"))
    trained = models.of(cell("trained")).state
    # Up to the recovery both are the same.
    after = projected.states[ROUNDS + 1]
    same = models.federation.moved(after, plain.states[ROUNDS + 1])
    assert not any(np.any(array) for array in same.values())
    direction = models.federation.moved(after, trained)

    def along(state: Any) -> list[float]:
        step = models.federation.moved(state, after)
        return [float((step[name] * direction[name]).sum()) for name in step]

    size = max(float(np.square(one).sum()) for one in direction.values())
    assert min(along(projected.state)) > -1e-5 * size
    assert min(along(plain.state)) < -1e-5 * size
    assert all(name.endswith(B_SUFFIX) for name in direction)


def test_the_stop_rule_compares_with_as_many_strings_as_there_are_canaries(
    models: Models,
) -> None:
    [request] = models.requests(cell("fast", organization="north"))
    forgotten = request.forgotten["north"]
    # A canary beside its records; its four copies count once.
    assert (len(forgotten.records), len(forgotten.training)) == (3, 7)
    found = never_seen(models.federation, "north", forgotten, 7)
    strings = [record.id for record in found if record.id.startswith("reference-")]
    assert len(found) == 7
    # Exposures are ranked among the others.
    assert strings == ["reference-7", "reference-8"]
    assert never_seen(models.federation, "north", forgotten, 0) == ()


def test_requests_in_a_row_are_served_each_on_the_last_and_bar_all_that_was_asked(
    models: Models,
) -> None:
    made = models.of(cell("fast", "sequence"))
    assert len(made.details["requests"]) == 10
    # Ten times one round of unlearning and one of recovery.
    assert sorted(made.states) == [ROUNDS + 19, ROUNDS + 20]


def test_three_who_ask_at_once_unlearn_a_round_each_and_recover_once(models: Models) -> None:
    made = models.of(cell("fast", "together"))
    [request] = made.details["requests"]
    assert set(request) == {"east", "north", "south"}
    assert sorted(made.states) == [ROUNDS + one for one in range(1, 5)]


def test_one_who_leaves_is_taken_out_before_it_unlearns(models: Models) -> None:
    made = models.of(cell("fast", "withdrawal"))
    # The updates of every round must have been kept for it.
    parameters = sum(a.size for a in made.state.arrays.values())
    assert made.cost.stored_bytes == ROUNDS * len(NAMES) * parameters * 4
    retrained = models.of(cell("retrained", "withdrawal"))
    assert 0 < made.cost.trained_tokens < retrained.cost.trained_tokens * 2
    otherwise = models.of(cell("fast", "withdrawal", variant=replace(QUICK, renormalized=True)))
    assert otherwise.hash != made.hash


def test_isolated_adapters_without_one_are_those_of_the_others_alone(models: Models) -> None:
    dropped = models.of(cell("isolated", "withdrawal"))
    whole = models.of(cell("isolated-all", "withdrawal"))
    assert dropped.hash != whole.hash
    assert dropped.cost.trained_tokens == 0 < whole.cost.trained_tokens
    rule = models.federation.rule
    weights = {n: models.federation.holdings[n].drawn for n in NAMES if n != "east"}
    name = next(iter(dropped.state.arrays))
    expected = sum(
        weights[n]
        * rule.restore(models._alone(cell("isolated", "withdrawal"), n).state.arrays)
        .arrays[name]
        .astype(np.float32)
        .astype(np.float64)
        for n in weights
    ) / sum(weights.values())
    assert np.allclose(dropped.state.arrays[name], expected, atol=1e-12)


# Measures and judgements


def evidence_of(losses: tuple[float, float, float], seed: int) -> Evidence:
    """A model's answers by the mean loss of what it forgot, kept and never saw."""
    random = np.random.default_rng(seed)
    forget, retain, hold_out = (
        rows(f"{name}-{seed}", list(mean + random.normal(scale=0.2, size=40)))
        for name, mean in zip(("forget", "retain", "hold-out"), losses, strict=True)
    )
    return Evidence(forget, retain, hold_out)


def records_of(evidence: Evidence) -> dict[str, Any]:
    return {
        "forget": columns(evidence.forget, attacked=False)
        | {n: c for n, c in attacked(evidence.forget).items() if n != "id"},
        "retain": columns(evidence.retain, attacked=False),
        "hold_out": attacked(evidence.hold_out),
    }


def attacked(of_set: Any) -> dict[str, Any]:
    with_reference = {name: replace(row, reference=row.statistics) for name, row in of_set.items()}
    return columns(with_reference, attacked=True)


def test_judgements_of_columns_are_those_of_the_evidence_itself() -> None:
    retrained = [evidence_of((3.0, 2.0, 3.0), seed) for seed in range(3)]
    before = [evidence_of((2.7, 2.0, 3.0), seed) for seed in range(3)]
    unlearned = [evidence_of((3.02, 2.001, 3.0), seed) for seed in range(3)]
    theirs = as_good_as_retrained(
        unlearned, retrained, before, generator=np.random.default_rng(0), draws=200
    )
    three = [[records_of(one) for one in models] for models in (unlearned, retrained, before)]
    ours = judged(*three, draws=200)
    for name in ("forget/loss", "membership/loss", "membership/min_k_plus_plus"):
        assert ours[name].verdict == theirs[name].verdict
        assert ours[name].interval.estimate == pytest.approx(theirs[name].interval.estimate)
    assert ours["forget/loss"].verdict == "within"
    assert ours["forget/loss"].interval.low == pytest.approx(theirs["forget/loss"].interval.low)
    assert ours["retain/utility"].interval.estimate == pytest.approx(
        theirs["retain/utility"].interval.estimate
    )
    one, other = three[0][0], three[2][0]
    assert priv_leak(one, other) == pytest.approx(leak_of_evidence(unlearned[0], before[0]).value)
    assert forget_quality([one], [other]) == pytest.approx(
        quality_of_evidence(unlearned[0].forget, before[0].forget).value
    )


def test_no_claim_is_made_on_few_rows_or_without_a_respect() -> None:
    three = [
        [records_of(evidence_of(losses, seed)) for seed in range(3)]
        for losses in ((3.0, 2.0, 3.0), (3.0, 2.0, 3.0), (1.0, 2.0, 3.0))
    ]
    for models in three:
        for one in models:
            one["others"] = one["retain"]
    judgements = judged(*three, draws=100)
    assert {judgement.verdict for judgement in judgements.values()} <= {"within", "not measurable"}
    clear = {name: one for name, one in judgements.items() if one.verdict == "within"}
    assert conclusion(clear, seeds=3, rows=800) == "as good as retrained"
    assert conclusion(clear, seeds=2, rows=800) == "within all margins, on too little for a claim"
    assert conclusion(clear, seeds=3, rows=799) == "within all margins, on too little for a claim"
    del clear["others/utility"]
    assert conclusion(clear, seeds=3, rows=800) == "not defined: others/utility"


def test_a_model_that_never_differed_makes_nothing_measurable() -> None:
    same = [records_of(evidence_of((3.0, 2.0, 3.0), seed)) for seed in range(3)]
    judgements = judged(same, same, same, draws=100)
    assert judgements["forget/loss"].verdict == "not measurable"
    assert judgements["retain/utility"].verdict == "within"


def test_a_model_is_asked_about_every_set_and_record(models: Models, tmp_path: Path) -> None:
    asked = cell("trained", index=0)
    requests = models.requests(asked)
    setting = models.federation.setting
    questions = questions_of(requests, models.federation.holdings, setting)
    made = models.of(asked)
    found = measured(models.federation, models.federation.adapter(made.state), questions, tmp_path)
    assert found["records"]["forget"]["id"] == [record.id for record in questions.forget]
    assert found["metrics"]["hold_out/loss"]["n"] == len(questions.hold_out) == 6
    assert found["metrics"]["others/loss"]["n"] == 12
    assert set(found["metrics"]) >= {"membership/reference", "retain/extraction_strength"}
    shown = found["canaries"]["exposures"]
    assert sum(map(len, shown.values())) == len(questions.canaries)
    # Readings of the base are kept.
    assert list(tmp_path.glob("base-*.safetensors"))


# The command, the file and the tables


def command(config: dict[str, Any], folder: Path, *arguments: str) -> list[str]:
    changes = [f"{key.replace('_', '-')}={value}" for key, value in config.items()]
    sizes = [part for key, v in SMALL.items() for part in (f"--{key.replace('_', '-')}", str(v))]
    name, *others = arguments
    fast = ["--recovery-rounds", "1", "--unlearning-epochs", "1"]
    where = ["--output", str(folder / "results.json"), "--width", "200"]
    chosen = ["--organization", "east", "--adapters", str(folder / "adapters")]
    return [name, *where, *chosen, *others, *fast, *sizes, "--config", *changes]


def test_cells_are_made_once_and_everything_shown_follows_from_the_file(
    config: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fast = ["fast", "--method", "npo", "--projection", "yes"]
    cells = ["--model", "trained", "retrained", *fast]
    asked = ["--form", "label", "--case", "records-10", *cells]
    main(command(config, tmp_path, "list", *asked))
    assert capsys.readouterr().err.count("missing") >= 3
    assert main(command(config, tmp_path, "cell", *asked)) == 0
    plain = ResultsFile(tmp_path / "results.json").read()["cells"]
    # What was measured stays; what it lacks is added.
    deeper = [*asked[:4], "--model", *fast, "--deep"]
    assert main(command(config, tmp_path, "cell", *deeper)) == 0
    for name, known in ResultsFile(tmp_path / "results.json").read()["cells"].items():
        assert known["records"] == plain[name]["records"]
        assert ("deep" in known) == (known["model"] == "fast")
    capsys.readouterr()
    before = (tmp_path / "results.json").read_text()
    main(command(config, tmp_path, "cell", *asked))
    assert (tmp_path / "results.json").read_text() == before
    assert capsys.readouterr().err.count("is there") == 3
    main(["report", "--output", str(tmp_path / "results.json"), "--width", "250"])
    written = (tmp_path / "results.md").read_text()
    results = ResultsFile(tmp_path / "results.json").read()
    headings = {line.removeprefix("### ") for line in written.splitlines()}
    assert {sheet.title for sheet in sheets_of(results)} <= headings
    [group] = groups_of(results)
    [fast] = group.cells("fast npo+projection+recovery=1+epochs=1")
    assert set(fast["deep"]) == {"quantized", "resurfacing", "relearning"}
    # One that unlearned, one of recovery, and further ones.
    rounds = [one["round"] for one in fast["deep"]["resurfacing"]]
    assert rounds == list(range(ROUNDS + 1, ROUNDS + 3 + FURTHER))
    assert "correct" in fast["records"]["forget"]
    # What was not measured is missing, and nowhere guessed.
    assert "| fast simnpo | 0 | missing |" in written
    assert group.lacking("exact") == "42/east/0"
    assert "on too little for a claim" in written or "undecided" in written or "outside" in written


def test_cells_of_other_settings_lie_side_by_side(tmp_path: Path) -> None:
    results = ResultsFile(tmp_path / "folder" / "results.json")
    for digest, loss in (("a", 1), ("b", 2), ("a", 3)):
        results.put(digest, {"rounds": loss}, {"name": "one", "loss": loss})
    found = json.loads(results.path.read_text())
    assert found["cells"][key_of("one", "a")]["loss"] == 3
    assert found["cells"][key_of("one", "b")]["loss"] == 2
    assert found["settings"]["a"] == {"rounds": 3}


def test_a_variant_says_how_it_differs_from_the_defaults() -> None:
    assert Variant().label == "npo"
    assert replace(QUICK, projection=False).label == "npo+recovery=1+epochs=1+stop-rows=0"
    assert cell("fast").name.startswith("completion/42/records-10/east/0/fast npo")


@pytest.mark.parametrize(
    ("model", "case", "variant"),
    [("fast", "records-1", None), ("exact", "records-1", QUICK), ("isolated", "sequence", None)],
)
def test_a_cell_that_means_nothing_is_refused(
    model: str, case: str, variant: Variant | None
) -> None:
    with pytest.raises(ValueError, match=model):
        Cell(model, case, "east", 0, 42, "label", variant)
