"""The coordinator's door: what organizations need passes, and nothing else reaches a SuperLink."""

import asyncio
import string
from dataclasses import dataclass, field

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

import server_app.gateway
from server_app.gateway import (
    FEDERATION_PATH,
    FLEET_CALLS,
    JOIN_PATH,
    MAX_ANSWER_BYTES,
    PUBLIC_PATH,
    gateway,
)
from server_app.node_registrar import RegistrarError
from strategies.joining import JoiningError
from strategies.run_chain import DOOR_PATH

PASSED = {f"/v1/fleet/{call}" for call in FLEET_CALLS}
CONTROL = ("/v1/control/start-run", "/v1/control/register-node", "/v1/runtime/acquire-task")


@dataclass
class Behind:
    """A server behind the door that notes what reaches it."""

    seen: list[tuple[str, str, bytes, dict[str, str]]] = field(default_factory=list)
    status: int = 200

    def client(self) -> httpx.AsyncClient:
        async def answer(request: Request) -> Response:
            content = await request.body()
            headers = dict(request.headers)
            self.seen.append((request.method, request.url.path, content, headers))
            return Response(b"answer:" + content, self.status, {"x-flower": "yes"})

        methods = ["GET", "POST", "PUT", "DELETE"]
        app = Starlette(routes=[Route("/{path:path}", answer, methods=methods)])
        transport = httpx.ASGITransport(app=app)
        return httpx.AsyncClient(transport=transport, base_url="http://behind")


def asked(
    method,
    path,
    *,
    content=b"",
    headers=None,
    superlink=None,
    chain=None,
    join=None,
    federation=None,
    public=None,
):
    """Ask the door, and return its answer."""

    async def ask() -> httpx.Response:
        door = gateway(
            (superlink or Behind()).client(),
            chain.client() if chain is not None else None,
            join,
            federation,
            public,
        )
        transport = httpx.ASGITransport(app=door)
        async with httpx.AsyncClient(transport=transport, base_url="https://door") as client:
            # As it was given: httpx would tidy a path with dots in it.
            request = client.build_request(method, "/", content=content, headers=headers)
            request.url = request.url.copy_with(raw_path=path.encode("ascii"))
            return await client.send(request)

    return asyncio.run(ask())


@pytest.mark.parametrize("path", sorted(PASSED))
def test_a_supernodes_call_arrives_as_it_was_sent_and_its_answer_comes_back(path):
    behind = Behind(status=202)
    headers = {"content-type": "application/x-protobuf", "flwr-signature": "abc"}
    answer = asked("POST", path, content=b"\x00\xff", headers=headers, superlink=behind)
    assert (answer.status_code, answer.content) == (202, b"answer:\x00\xff")
    assert answer.headers["x-flower"] == "yes"
    [(method, arrived, content, found)] = behind.seen
    assert (method, arrived, content) == ("POST", path, b"\x00\xff")
    assert headers.items() <= found.items()
    assert found["host"] == "behind"


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
@pytest.mark.parametrize("path", [*CONTROL, "/docs", "/openapi.json", "/v1/fleet/register-node"])
def test_what_starts_runs_registers_nodes_or_takes_tasks_is_not_behind_this_door(method, path):
    behind = Behind()
    assert asked(method, path, content=b"x", superlink=behind).status_code == 404
    assert behind.seen == []


def detours(path):
    """Ways to write a path that a careless proxy would take for one that passes."""
    good = "/v1/fleet/pull-messages"
    yield f"{good}/../../../{path.strip('/')}"
    yield f"/v1/fleet/..{path}"
    yield f"/v1/fleet/%2e%2e{path}"
    yield f"/v1/fleet/%2e%2e%2f{path.strip('/')}"
    yield f"{good}/..%2f..%2f..{path}"
    yield f"{good};{path}"
    yield f"{good}%00{path}"
    yield f"/{path}"
    yield f"{path}?x={good}"
    yield path.upper()
    yield f"{good}/"


@pytest.mark.parametrize("path", [way for control in CONTROL for way in detours(control)])
def test_no_detour_leads_to_another_call(path):
    behind = Behind()
    assert asked("POST", path, content=b"x", superlink=behind).status_code == 404
    assert behind.seen == []


@given(path=st.text(alphabet=string.printable.replace("?", ""), max_size=60).map("/".__add__))
def test_only_paths_that_are_listed_reach_the_superlink(path):
    behind = Behind()
    try:
        path.encode("ascii")
        answer = asked("POST", path, superlink=behind)
    except httpx.InvalidURL:
        return
    assert answer.status_code == (200 if path in PASSED else 404)
    assert {seen[1] for seen in behind.seen} <= PASSED


def test_a_query_does_not_travel():
    behind = Behind()
    assert asked("POST", "/v1/fleet/get-run?x=1", superlink=behind).status_code == 200
    assert behind.seen[0][1] == "/v1/fleet/get-run"


def test_a_call_by_another_method_is_refused():
    behind = Behind()
    assert asked("GET", "/v1/fleet/get-run", superlink=behind).status_code == 405
    assert behind.seen == []


def test_the_chain_stands_behind_the_door_where_the_coordinator_runs_it():
    superlink, chain = Behind(), Behind()
    answer = asked("POST", DOOR_PATH, content=b"{}", superlink=superlink, chain=chain)
    assert answer.content == b"answer:{}"
    assert [(method, path) for method, path, _, _ in chain.seen] == [("POST", "/")]
    assert superlink.seen == []
    assert asked("POST", DOOR_PATH, content=b"{}", superlink=superlink).status_code == 404


def test_a_request_that_is_too_long_is_refused_before_it_is_passed_on(monkeypatch):
    monkeypatch.setattr(server_app.gateway, "MAX_REQUEST_BYTES", 1000)
    behind, path = Behind(), "/v1/fleet/push-object"
    assert asked("POST", path, content=b"x" * 1000, superlink=behind).status_code == 200
    answer = asked("POST", path, content=b"x" * 1001, superlink=behind)
    assert (answer.status_code, answer.text) == (413, "a request of more than 1000 bytes")
    assert len(behind.seen) == 1


def test_while_the_superlink_is_away_organizations_are_told_to_wait():
    class Away(Behind):
        def client(self):
            def refuse(request):
                raise httpx.ConnectError("refused at 10.0.0.7")

            transport = httpx.MockTransport(refuse)
            return httpx.AsyncClient(transport=transport, base_url="http://behind")

    answer = asked("POST", "/v1/fleet/pull-messages", superlink=Away())
    assert (answer.status_code, answer.text) == (502, "not reachable at the moment")


def test_an_answer_to_an_invitation_is_taken_at_the_door(monkeypatch):
    seen = []

    def join(content):
        seen.append(content)
        if content == b"bad":
            raise JoiningError("shop: not the invitation")
        if content == b"early":
            raise RegistrarError("the SuperLink at 10.0.0.7 did not answer")
        return {"node": 7}

    answer = asked("POST", JOIN_PATH, content=b"good", join=join)
    assert (answer.status_code, answer.json()) == (200, {"node": 7})
    answer = asked("POST", JOIN_PATH, content=b"bad", join=join)
    assert (answer.status_code, answer.json()) == (403, {"error": "shop: not the invitation"})
    answer = asked("POST", JOIN_PATH, content=b"x" * (MAX_ANSWER_BYTES + 1), join=join)
    assert answer.status_code == 413
    answer = asked("POST", JOIN_PATH, content=b"early", join=join)
    assert (answer.status_code, answer.text) == (502, "not reachable at the moment")
    assert seen == [b"good", b"bad", b"early"]
    assert asked("POST", JOIN_PATH, content=b"good").status_code == 404


def test_everybody_may_know_which_contracts_the_federation_has():
    answer = asked("GET", FEDERATION_PATH, federation=lambda: {"deployment": None})
    assert (answer.status_code, answer.json()) == (200, {"deployment": None})
    assert asked("GET", FEDERATION_PATH).status_code == 404


HELD = "ab" * 32


def test_a_file_is_handed_out_by_its_hash_and_nothing_else_is_asked_for():
    seen = []

    def public(wanted):
        seen.append(wanted)
        return b"rows" if wanted == HELD else None

    answer = asked("GET", f"{PUBLIC_PATH}/{HELD}", public=public)
    assert (answer.status_code, answer.content) == (200, b"rows")
    assert asked("GET", f"{PUBLIC_PATH}/{'cd' * 32}", public=public).status_code == 404
    assert asked("POST", f"{PUBLIC_PATH}/{HELD}", public=public).status_code == 405
    assert seen == [HELD, "cd" * 32]
    assert asked("GET", f"{PUBLIC_PATH}/{HELD}").status_code == 404


@pytest.mark.parametrize(
    "wanted",
    [
        "",
        "..",
        "../coordinator/tls/ca.key",
        "..%2fcoordinator%2ftls%2fca.key",
        "%2e%2e/%2e%2e/etc/passwd",
        "/etc/passwd",
        f"{HELD}.jsonl",
        f"{HELD}/",
        f"{HELD}%0a",
        f"{HELD}%00",
        HELD.upper(),
        HELD[:-1],
        HELD + "a",
    ],
)
def test_what_is_no_hash_is_not_looked_for(wanted):
    def public(_):
        raise AssertionError

    assert asked("GET", f"{PUBLIC_PATH}/{wanted}", public=public).status_code == 404
