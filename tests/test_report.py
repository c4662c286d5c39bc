"""The pages of `foedus report`: what they show of what was gathered, and what they never do."""

import re
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blockchain.anchors import Anchor
from blockchain.chain_records import Phase
from blockchain.private.anchoring import Stretch
from blockchain.unlearning_messages import Request, UnlearningScope
from client_app.ledger_view import Overview
from client_app.own_request import OwnRequest
from client_app.report.ledger_contents import LedgerContents, TrainedLine
from client_app.report.page import ledger_page, request_plots, run_page
from client_app.report.plots import bars, lines
from client_app.report.request_contents import Figure, RequestLine
from client_app.report.run_contents import OrganizationLine, RoundLine, RunContents
from strategies.assurance import Assurance
from strategies.audit_check import Check

NOW = 1_796_000_000
NAMES = ("east", "north")


def did(number: int, what: str) -> dict[str, Any]:
    return {"round": number, "did": what, "effort": 100, "tokens": 50, "earned_gwei": 7000}


def a_run(**changes: Any) -> RunContents:
    organizations = [
        OrganizationLine(
            name, f"texts of {name}", 40, 15, 0.5, 0.875, 2.5, 0.25, 100, 3000, 14000,
            [did(1, "high"), did(2, "declined")],
        )
        for name in NAMES
    ]  # fmt: skip
    rounds = [
        RoundLine(
            number=number,
            adapter=f"{number:064x}",
            verdicts={"east": "accepted", "north": "norm exceeded"},
            assurance=Assurance(number, "attested", Phase.SEALED, NOW, "nobody has made it final"),
            transaction=f"{number + 16:064x}",
            block=number + 10,
            gas={"open": 60_000, "seal": 106_000, "attest": 95_000},
            chain_seconds=0.5,
            waited_seconds=12.0,
            scores={"east": 0.02, "north": 0.0},
            attestors=("east",),
        )
        for number in (1, 2)
    ]
    return replace(
        RunContents(
            name="treaty",
            status="finished",
            started="2026-11-29T12:00:00+00:00",
            task="ab" * 32,
            simulated=True,
            settings={"aggregation": "ffa", "seed": 42},
            contracts={"Rounds": "0x" + "cd" * 20},
            kept="",
            summary={
                "mean_accuracy": 0.875,
                "mean_base_accuracy": 0.5,
                "general_text_loss": {"base": 3.5, "adapter": 3.25},
            },
            organizations=organizations,
            rounds=rounds,
            received={
                "accuracy": {name: [(0.0, 0.5), (1.0, 0.75)] for name in NAMES},
                "loss": {name: [(0.0, 2.5), (1.0, 0.5)] for name in NAMES},
            },
            checks=[Check(0, "terms", holds=True), Check(2, "aggregate", holds=True)],
            requests=[],
        ),
        **changes,
    )


def a_request(label: str = "EXACT_REPLAY", **changes: Any) -> RequestLine:
    return replace(
        RequestLine(
            id="12" * 32,
            organization="north",
            scope="records",
            state="completed",
            requested_at=NOW - 500,
            deadline=NOW + 500,
            closed_at=NOW - 100,
            label=label,
            meaning="what that means",
            reference="none trained",
            exact=label == "EXACT_REPLAY",
            rounds=(1, 3),
            figures=(
                Figure("east", "accuracy", 15, 0.5, 0.75),
                Figure("east", "loss", 15, 0.5, 0.25),
            ),
            purged=("treaty from round 1: 29 files",),
            checked=("the request is the one on the chain",),
        ),
        **changes,
    )


def a_ledger(**changes: Any) -> LedgerContents:
    request = Request(b"\x01" * 32, b"\x02" * 32, b"\x03" * 32, UnlearningScope.RECORDS, NOW + 500)
    own = OwnRequest(request, "exact", (4, 5), b"\x04" * 32, 9, 2, None)
    decision = {
        "round": 1,
        "action": "high",
        "probability": 0.96,
        "tokens": 50,
        "cost_gwei": 1500,
        "paid_wei": "5000000000000",
        "reward": 0.5,
    }
    return replace(
        LedgerContents(
            organization="north",
            figures=Overview(5, 35, 44, (19,), (), Stretch(3, 60)),
            root="ef" * 32,
            problem="",
            records_by_type={"training-run": 2, "genesis": 1},
            anchors=[Anchor(30, b"\x05" * 32, 77)],
            trained=[
                TrainedLine("treaty", 1, 8, 188, 6.5, 6.25, "accepted", included=True),
                TrainedLine("treaty", 2, 8, 188, 6.0, 5.5, "", included=None),
            ],
            decisions=[decision, {**decision, "round": 2, "paid_wei": None, "reward": None}],
            requests=[(own, None)],
            now=NOW,
        ),
        **changes,
    )


class Elements(HTMLParser):
    """Names and attributes of all elements, and the text between them; refuses broken nesting."""

    VOID = frozenset({"meta", "br", "hr", "img", "link", "input"})

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self._open: list[str] = []
        self.feed(page)
        self.close()
        assert not self._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).split())


PAGES = {
    "run": lambda: run_page(a_run(requests=[a_request(), a_request("EMPIRICAL")]), NOW),
    "ledger": lambda: ledger_page(a_ledger(), NOW),
}


@pytest.fixture(params=list(PAGES))
def page(request: pytest.FixtureRequest) -> str:
    return PAGES[request.param]()


def test_a_page_loads_nothing_from_anywhere_and_runs_nothing(page: str) -> None:
    elements = Elements(page)
    assert not {tag for tag, _ in elements.found} & {"script", "link", "img", "iframe", "object"}
    for tag, attributes in elements.found:
        for name in ("src", "href", "xlink:href", "action", "data"):
            # An SVG's parts refer to one another, within the page.
            assert (attributes.get(name) or "#").startswith("#"), (tag, attributes)
        assert not any(name.startswith("on") for name in attributes)
    assert not re.search(r"url\((?!#)", page)
    assert "@import" not in page
    (policy,) = [a["content"] for tag, a in elements.found if "http-equiv" in a]
    assert policy == "default-src 'none'; style-src 'unsafe-inline'"


def test_the_same_contents_make_the_same_page(page: str, request: pytest.FixtureRequest) -> None:
    assert PAGES[request.node.callspec.params["page"]]() == page


def test_a_page_fits_a_phone_and_says_its_language_and_what_its_plots_show(page: str) -> None:
    elements = Elements(page)
    assert ("html", {"lang": "en"}) in elements.found
    assert any(a.get("name") == "viewport" for _, a in elements.found)
    plots = [attributes for tag, attributes in elements.found if tag == "svg"]
    assert plots
    for plot in plots:
        assert plot["role"] == "img"
        assert plot["aria-label"]
        # As wide as its place, whatever that is.
        assert "width" not in plot
        assert plot["viewbox"]


def test_a_run_shows_its_organizations_rounds_and_chain() -> None:
    shown = Elements(run_page(a_run(), NOW)).text
    for expected in ("treaty", "0.875", "texts of east", "attested", "high", "declined", "14,000"):
        assert expected in shown
    assert "norm exceeded (2)" in shown
    assert f"{60_000 + 106_000 + 95_000:,}" in shown
    assert "All 2 checks hold" in shown
    assert "base 3.500, federated 3.250" in shown


def test_a_run_that_goes_on_shows_what_there_is() -> None:
    unknown = dict.fromkeys(("rows", "test_rows", "base_accuracy", "accuracy", "base_loss", "loss"))
    contents = a_run(
        status="",
        summary=None,
        organizations=[replace(one, domain="", **unknown) for one in a_run().organizations],
        rounds=[],
        received={"accuracy": {}, "loss": {}},
    )
    shown = Elements(run_page(contents, NOW)).text
    assert "under way" in shown
    assert "known once the run has ended" in shown
    assert "None" not in shown


def test_a_check_that_fails_is_said_first_and_shown_open() -> None:
    failing = Check(2, "adapter", holds=False, detail="found 0x01, expected 0x02")
    page = run_page(a_run(checks=[*a_run().checks, failing]), NOW)
    elements = Elements(page)
    assert "1 of 3 checks do not hold" in elements.text
    assert "found 0x01, expected 0x02" in elements.text
    assert [a for tag, a in elements.found if tag == "details"] == [{}, {"open": None}]


def test_what_others_write_is_shown_as_text_wherever_it_stands() -> None:
    hostile = "<script>alert(1)</script>\"'><img src=x onerror=alert(1)> $x_1$ {{ 7 * 7 }}"
    line = replace(a_run().organizations[0], domain=hostile)
    request = a_request(organization=hostile, problem=hostile, meaning=hostile)
    contents = a_run(
        name=hostile,
        organizations=[line],
        checks=[Check(0, hostile, holds=False, detail=hostile)],
        requests=[request],
        received={"accuracy": {hostile: [(0.0, 0.5)]}, "loss": {}},
        settings={"model": hostile},
    )
    elements = Elements(run_page(contents, NOW))
    assert not {tag for tag, _ in elements.found} & {"script", "img"}
    assert elements.text.count("alert(1)") > 6
    assert "{{ 7 * 7 }}" in elements.text


@pytest.mark.filterwarnings("ignore:Glyph")
@given(text=st.text(st.characters(codec="utf-8", exclude_categories=["C"]), min_size=1))
def test_whatever_a_name_holds_a_plot_is_well_formed(text: str) -> None:
    drawn = lines({text: [(0.0, 1.0)]}, title=text, x_label="rounds", y_label=text)
    assert next(tag for tag, _ in Elements(str(drawn)).found) == "svg"


def test_a_receipt_says_what_it_claims_and_compares_with_retraining_only_where_that_is_true() -> (
    None
):
    exact = Elements(run_page(a_run(requests=[a_request()]), NOW)).text
    assert "EXACT_REPLAY : what that means" in exact
    assert "what is served is what retraining gives" in exact
    assert "after, as retrained" in exact
    measured = Elements(run_page(a_run(requests=[a_request("EMPIRICAL")]), NOW)).text
    assert "retrained model compared with none trained" in measured
    assert "as retrained" not in measured
    broken = a_request(problem="the chain keeps another completion than the evidence makes")
    assert "FAILS the chain keeps" in Elements(run_page(a_run(requests=[broken]), NOW)).text
    unread = a_request(label="", meaning="", problem="not readable JSON")
    assert (
        "cannot be read: not readable JSON"
        in Elements(run_page(a_run(requests=[unread]), NOW)).text
    )


def test_a_receipt_of_training_shows_the_forgotten_beside_hold_out_rows_and_the_attacks() -> None:
    figures = {
        "accuracy": 0.5,
        "forget-loss": 3.5,
        "hold-out-loss": 4.0,
        "membership-loss": 0.6,
        "membership-loss-error": 0.1,
        "forget-probability": 0.1,
    }
    request = a_request(
        "EMPIRICAL",
        figures=tuple(Figure("north", name, 5, v, v) for name, v in figures.items()),
    )
    accuracy, losses, attacks = (Elements(str(plot)).text for plot in request_plots(request))
    assert "north" in accuracy
    assert "forgotten" in losses
    assert "hold-out" in losses
    assert "loss" in attacks
    assert "error" not in attacks


def test_a_ledger_shows_its_rounds_decisions_and_requests_and_whether_it_holds() -> None:
    contents = a_ledger()
    shown = Elements(ledger_page(contents, NOW)).text
    for expected in ("treaty", "included", "none yet", "waiting", "5,000", "+0.50", "lack"):
        assert expected in shown
    assert f"2 records, exact: {contents.requests[0][0].standing_in_words(NOW)}" in shown
    assert "holds" in shown
    problem = "block 3, field root: found another"
    assert problem in Elements(ledger_page(a_ledger(problem=problem), NOW)).text


def test_an_empty_ledger_says_so() -> None:
    contents = a_ledger(trained=[], decisions=[], requests=[], anchors=[])
    shown = Elements(ledger_page(contents, NOW)).text
    assert "None yet" in shown
    assert "It has decided nothing yet" in shown
    assert "Nothing was asked to be forgotten" in shown


@pytest.mark.parametrize("groups", [{}, {"a": {}}, {"a": {"x": 0.0}}])
def test_bars_that_nobody_would_see_are_not_drawn(groups: dict[str, dict[str, float]]) -> None:
    assert not bars(groups, title="nothing", y_label="nothing")
    assert not lines({name: [] for name in groups}, title="", x_label="", y_label="")
