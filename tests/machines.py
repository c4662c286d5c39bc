"""A federation as its users have it: a coordinator and three organizations, each with a home.

Everything is done by the ``foedus`` command, typed on the machine where a user would type it.
"""

import contextlib
import json
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from tests.foedus_home import BIN, FoedusHome
from tests.network import Network, Site, network
from tests.tiny_model import build_tiny_model
from tests.whole_federation import write_data

NAMES = ("north", "south", "east")

_COORDINATOR_PORTS = ("port", "superlink-port", "chain-port")
NODE_PORTS = ("runtime-port",)

#: Of a federation that is quick to run.
_RUN = {
    "rounds": 1,
    "records-per-round": 32,
    "validation-records": 4,
    "quantization": "none",
    "compute-dtype": "float32",
    "rank": 4,
    "learning-rate": 0.02,
    "batch-size": 4,
    "micro-batch-size": 4,
    "max-tokens": 64,
    "challenge-window": 1,
    "response-window": 1,
    "data-fields": "id=id",
}


class Machine(FoedusHome):
    """A machine with a home, and the command on it.

    Parameters
    ----------
    path : Path
        The home.
    site : Site
        Where it stands.
    """

    def __init__(self, path: Path, site: Site) -> None:
        super().__init__(path)
        self.site = site

    @property
    def name(self) -> str:
        """Of the organization, or ``coordinator``."""
        return self.site.name

    def foedus(self, *arguments: str, seconds: float = 900) -> "subprocess.CompletedProcess[str]":
        """Run the command to its end."""
        return subprocess.run(
            [*self.site.entry, BIN / "foedus", *arguments],
            env=self.environment,
            cwd=self.path.parent,
            capture_output=True,
            text=True,
            check=False,
            timeout=seconds,
        )

    def json(self, *arguments: str, seconds: float = 900) -> Any:
        """Return what a command that has to succeed prints."""
        done = self.foedus(*arguments, "--json", seconds=seconds)
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]
        return json.loads(done.stdout)

    def begun(self, *arguments: str) -> "subprocess.Popen[str]":
        """Start the command."""
        return subprocess.Popen(
            [*self.site.entry, BIN / "foedus", *arguments],
            env=self.environment,
            cwd=self.path.parent,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def processes(self, command: str = "") -> list[psutil.Process]:
        """Return what runs with this home as Flower's, and has a word in its command line."""
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                ours = process.environ().get("FLWR_HOME") == str(self.flower_home)
                if ours and command in " ".join(process.cmdline()):
                    found.append(process)
        return found

    def signal(self, number: signal.Signals, command: str = "") -> None:
        """Signal all of them."""
        for process in self.processes(command):
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(number)

    def kill(self, command: str = "") -> None:
        """End all of them at once, as a power cut would."""
        processes = self.processes(command)
        self.signal(signal.SIGKILL, command)
        psutil.wait_procs(processes, timeout=20)

    def close(self) -> None:
        """Stop whatever still runs."""
        self.signal(signal.SIGCONT)
        self.foedus("down")
        super().close()


@dataclass(frozen=True)
class Federation:
    """Machines of one federation, all of them up.

    Parameters
    ----------
    folder : Path
        For homes and the model.
    data : Path
        Each organization's rows.
    net : Network
        Where they stand.
    coordinator : Machine
        The coordinator's.
    organizations : dict of str to Machine
        The organizations', by name.
    """

    folder: Path
    data: Path
    net: Network
    coordinator: Machine
    organizations: dict[str, Machine]

    def run(self, name: str, **settings: Any) -> dict[str, Any]:
        """Carry out a run, and return its summary."""
        return dict(self.coordinator.json("run", *_told(name, settings)))

    def begin(self, name: str, **settings: Any) -> "subprocess.Popen[str]":
        """Start a run."""
        return self.coordinator.begun("run", *_told(name, settings))

    def happened(self, run: str, event: str, **particulars: Any) -> bool:
        """Tell whether an event stands in a run's log."""
        return any(
            one["event"] == event and particulars.items() <= one.items()
            for one in self.coordinator.events(run)
        )

    def await_event(
        self, run: str, event: str, *, seconds: float = 240, **particulars: Any
    ) -> None:
        """Wait for an event in a run's log."""
        deadline = time.monotonic() + seconds
        while not self.happened(run, event, **particulars):
            events = [one["event"] for one in self.coordinator.events(run)]
            assert time.monotonic() < deadline, f"no {event} {particulars} after {events}"
            time.sleep(0.02)


def _told(name: str, settings: Mapping[str, Any]) -> list[str]:
    given = {"run-name": name, **{key.replace("_", "-"): v for key, v in settings.items()}}
    return [part for key, value in given.items() for part in ("-c", f"{key}={json.dumps(value)}")]


@contextlib.contextmanager
def federation(folder: Path, **settings: Any) -> Iterator[Federation]:
    """Set a federation up by its commands, or go on with the folder's; it ends with the context."""
    net = network()
    with contextlib.ExitStack() as ended:
        ended.callback(net.close)
        model, data = folder / "tiny", write_data(folder / "data")
        if not model.exists():
            build_tiny_model(model)
        coordinator = Machine(folder / "coordinator", net.site("coordinator", _COORDINATOR_PORTS))
        organizations = {name: Machine(folder / name, net.site(name, NODE_PORTS)) for name in NAMES}
        for machine in (coordinator, *organizations.values()):
            ended.callback(machine.close)
        fed = Federation(folder, data, net, coordinator, organizations)
        configuration = coordinator.path / "coordinator" / "coordinator.toml"
        if not configuration.exists():
            coordinator.json(
                *("init", "coordinator", "--organizations", ",".join(NAMES)),
                *("--address", coordinator.site.address),
            )
            public = str(data / "public.jsonl")
            _append(
                configuration,
                {**_RUN, "model": str(model), "public-validation": public, **settings},
            )
        changed(configuration, coordinator.site.ports)
        assert set(coordinator.json("up")["started"]) == {"chain", "superlink", "door"}
        yield fed


def join(fed: Federation, reached: Mapping[str, str] | None = None) -> None:
    """Have all organizations invited, join, and start their nodes.

    Parameters
    ----------
    fed : Federation
        The federation.
    reached : mapping of str to str, optional
        Address at which an organization reaches the coordinator, where that is another than its
        own.
    """
    for name, machine in fed.organizations.items():
        if node_toml(machine).exists():
            continue
        invitation = fed.folder / f"{name}.json"
        fed.coordinator.json("invite", name, "--output", str(invitation))
        if reached and name in reached:
            told = {**json.loads(invitation.read_text()), "address": reached[name]}
            invitation.write_text(json.dumps(told))
        rows = str(fed.data / f"{name}.jsonl")
        machine.json("init", "organization", "--org", name, "--data", rows)
        machine.json("join", str(invitation))
    fed.coordinator.json("deploy")
    for machine in fed.organizations.values():
        # Whoever declines a round cannot be told from who is kept from it.
        changed(node_toml(machine), {**machine.site.ports, "participation": "always"})
        assert machine.json("up") == {"started": ["supernode"]}


def node_toml(machine: Machine) -> Path:
    """Return an organization's configuration."""
    return machine.path / "organizations" / machine.name / "node.toml"


def changed(path: Path, values: Mapping[str, object]) -> None:
    """Edit a configuration, as its owner would."""
    lines = path.read_text().splitlines()
    for key, value in values.items():
        [at] = [n for n, line in enumerate(lines) if line.startswith(f"{key} = ")]
        lines[at] = f"{key} = {json.dumps(value)}"
    path.write_text("\n".join(lines) + "\n")


def _append(path: Path, run: Mapping[str, object]) -> None:
    text = path.read_text().rstrip()
    assert text.endswith("[run]")
    lines = [f"{key} = {json.dumps(value)}" for key, value in run.items()]
    path.write_text("\n".join((text, *lines)) + "\n")
