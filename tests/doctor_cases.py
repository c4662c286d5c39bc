"""Machines for the doctor: homes as `foedus init` and `join` leave them, and a door to ask."""

import asyncio
import contextlib
import json
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from client_app.deployment.certificates import Certificates, issue_server, make_authority
from client_app.deployment.coordinator import (
    CoordinatorConfiguration,
    certificates,
    write_configuration,
)
from client_app.deployment.node import NodeConfiguration, node_key_folder, write_node
from client_app.doctor.check import Check, Finding, Status
from client_app.doctor.examination import examine
from client_app.doctor.machine import Machine
from client_app.doctor.registry import COORDINATOR, ORGANIZATION
from server_app.gateway import gateway
from strategies.node_key import make_node_key
from strategies.organization_key import SIGNING, key_folder
from tests.chain_samples import free_port
from tests.signing_cases import account_of
from tests.travelling_chain import store_key

BUNDLE = "ab" * 32


def coordinator_machine(home: Path, now: Any = None, **changes: Any) -> Machine:
    """A coordinator's machine after `foedus init`, its door's certificate issued at some moment."""
    fields = {"organizations": ["north", "south"], "addresses": ["127.0.0.1"], "port": free_port()}
    made = CoordinatorConfiguration(**{**fields, **changes})
    issue_server(make_authority(certificates(home).folder), made.addresses, now)
    write_configuration(home, made)
    return Machine(home)


def organization_machine(
    home: Path, authority: Certificates | None = None, **changes: Any
) -> Machine:
    """The machine of the organization `north`; after `foedus join`, where there is an authority."""
    name = str(changes.pop("name", "north"))
    joined = {"coordinator": f"127.0.0.1:{free_port()}", "chain_id": 31337, "bundles": [BUNDLE]}
    write_node(
        home, NodeConfiguration(organization=name, **{**(joined if authority else {}), **changes})
    )
    store_key(key_folder(home, name), SIGNING, account_of(name).key)
    make_node_key(node_key_folder(home, name))
    if authority is not None:
        (home / "chain").mkdir(exist_ok=True)
        (home / "chain" / "ca.pem").write_bytes(authority.authority.read_bytes())
    return Machine(home, name)


def checks_of(machine: Machine) -> tuple[Check, ...]:
    return COORDINATOR if machine.organization is None else ORGANIZATION


def finding(machine: Machine, name: str) -> Finding:
    """What one check finds, on whose machine it stands in the registry."""
    [check] = [one for one in checks_of(machine) if one.name == name]
    [found] = examine(fresh(machine), [check])
    return found.finding


def fresh(machine: Machine) -> Machine:
    """The same machine, of which nothing is known yet."""
    return Machine(machine.home, machine.organization)


def holds(machine: Machine, name: str, *said: str) -> None:
    _expected(machine, name, Status.HOLDS, said, ())


def warns(machine: Machine, name: str, said: str, *remedy: str) -> None:
    _expected(machine, name, Status.WARNS, (said,), remedy)


def fails(machine: Machine, name: str, said: str, *remedy: str) -> None:
    """A check fails, says this, and names what to do."""
    assert remedy, "what to do has to be asserted"
    _expected(machine, name, Status.FAILS, (said,), remedy)


def _expected(machine, name, status, said, remedy) -> None:
    found = finding(machine, name)
    assert found.status is status, found
    for words in said:
        assert words in found.found
    for words in remedy:
        assert words in found.remedy
    assert bool(found.remedy) == (status is not Status.HOLDS)


@dataclass
class SaysOf:
    """What a door says of the federation; to be changed while it is open."""

    answer: Any


def told(**changes: Any) -> dict[str, Any]:
    versions = {"foedus": "0.1.0", "flwr": "1.41.0"}
    return {"deployment": None, **versions, "time": time.time(), "run": {}, **changes}


@contextlib.contextmanager
def open_door(
    files: Certificates,
    port: int,
    says: SaysOf,
    chain: str | None = None,
    host: str = "127.0.0.1",
) -> Iterator[None]:
    """The coordinator's door at a port, before a SuperLink that is well and a chain's node."""

    async def well(_: Request) -> Response:
        return Response(b"well")

    superlink = httpx.ASGITransport(app=Starlette(routes=[Route("/health", well)]))
    app = gateway(
        httpx.AsyncClient(transport=superlink, base_url="http://superlink"),
        httpx.AsyncClient(base_url=chain, trust_env=False) if chain else None,
        federation=lambda: says.answer() if callable(says.answer) else says.answer,
    )
    with serving(app, files, port, host):
        yield


@contextlib.contextmanager
def serving(app: Any, files: Certificates, port: int, host: str = "127.0.0.1") -> Iterator[None]:
    """Serve an application over TLS."""
    server = uvicorn.Server(
        uvicorn.Config(
            app,
            host=host,
            port=port,
            ssl_certfile=files.server,
            ssl_keyfile=files.server_key,
            log_level="critical",
        )
    )
    thread = threading.Thread(target=lambda: asyncio.run(server.serve()))
    thread.start()
    try:
        deadline = time.monotonic() + 20
        while not server.started:
            assert time.monotonic() < deadline
            assert thread.is_alive()
            time.sleep(0.02)
        yield
    finally:
        # Connections that are kept open for another question are not waited for.
        server.should_exit = server.force_exit = True
        thread.join()


def write_rows(path: Path, rows: int = 60, **renamed: str) -> Path:
    """Reviews, with fields of other names where told."""
    text, label = renamed.get("text", "text"), renamed.get("label", "label")
    lines = [
        json.dumps({text: f"a wise film, number {n}", label: ("positive", "negative")[n % 2]})
        for n in range(rows)
    ]
    path.write_text("\n".join(lines) + "\n")
    return path
