"""The checks of each kind of machine, in order, with what to do about errors that do not say it."""

from typing import Final

from client_app.doctor import (
    chain,
    clocks,
    configuration,
    data,
    disk,
    funds,
    ledger,
    model,
    reachability,
    registration,
    secret_files,
    trust,
    versions,
)
from client_app.doctor.check import Check

_UP: Final = "`foedus up`"
_SET_UP: Final = "`make setup` in the clone"
_EDIT_COORDINATOR: Final = "edit coordinator.toml; each setting stands under what it means"
_EDIT_NODE: Final = "edit node.toml; each setting stands under what it means"
_ASK: Final = "have the coordinator call `foedus doctor` on its machine"
_NODE_KEY: Final = "bring the node's key back from a backup"
_CHAIN: Final = "try again; if it stays so, look at the chain's node"

#: Of a coordinator's machine.
COORDINATOR: Final[tuple[Check, ...]] = (
    Check("configuration", configuration.configuration, _EDIT_COORDINATOR),
    Check("versions", versions.installed, _SET_UP),
    Check("node", versions.node_js, _SET_UP, ("configuration",)),
    Check("disk", disk.disk, "make room"),
    Check("cache", disk.cache, "make room"),
    Check("secret files", secret_files.secret_files, "`chmod 600` them"),
    Check(
        "authority",
        trust.authority,
        "bring ca.pem and ca.key back from a backup, both; without one, move the tls folder away, "
        "`foedus up`, and invite everybody again",
    ),
    Check("processes", reachability.processes, _UP, ("configuration",)),
    Check(
        "certificate",
        trust.door_certificate,
        _UP,
        ("configuration", "authority", "processes"),
    ),
    Check(
        "superlink",
        reachability.superlink,
        "`foedus down` and `foedus up`; see coordinator/processes/superlink.log",
        ("authority", "processes"),
    ),
    Check(
        "door",
        reachability.door,
        "`foedus down` and `foedus up`; see coordinator/processes/door.log",
        ("certificate", "superlink"),
    ),
    Check("control", reachability.control, _UP, ("certificate",)),
    Check(
        "federation",
        reachability.federation,
        "`foedus down` and `foedus up`; see coordinator/processes/door.log",
        ("door",),
    ),
    Check(
        "chain",
        chain.chain,
        "correct chain-url and chain-id in coordinator.toml",
        ("configuration",),
    ),
    Check("chain clock", clocks.chain_clock, _CHAIN, ("chain",)),
    Check(
        "joined",
        registration.answered,
        "invite it again (`foedus invite`), and have it answer",
        ("configuration",),
    ),
    Check(
        "kept contracts",
        chain.kept_contracts,
        "`foedus deploy`, once all have joined",
        ("configuration", "joined"),
    ),
    Check(
        "contracts",
        chain.contracts,
        "the chain, or its journal in chain/, is another than the federation was founded on: bring "
        "it back, or found it anew with all members (`foedus deploy`)",
        ("chain", "kept contracts"),
    ),
    Check("members", registration.members, _CHAIN, ("contracts",)),
    Check("role", registration.role, "bring the coordinator's key back", ("contracts",)),
    Check("funds", funds.funds, _CHAIN, ("role",)),
    Check(
        "model",
        model.model,
        "name another by model under [run] in coordinator.toml",
        ("configuration", "cache"),
    ),
)

#: Of an organization's machine.
ORGANIZATION: Final[tuple[Check, ...]] = (
    Check("configuration", configuration.configuration, _EDIT_NODE),
    Check("versions", versions.installed, _SET_UP),
    Check("disk", disk.disk, "make room"),
    Check("cache", disk.cache, "make room"),
    Check("secret files", secret_files.secret_files, "`chmod 600` them"),
    Check("data", data.data, "correct the file, or data in node.toml", ("configuration",)),
    Check(
        "ledger",
        ledger.ledger,
        "`foedus ledger verify` says more; `foedus ledger restore` brings a backup back",
        ("configuration",),
    ),
    Check("joined", configuration.joined, _EDIT_NODE, ("configuration",)),
    Check("bundle", versions.bundle, _EDIT_NODE, ("joined",)),
    Check(
        "authority",
        trust.authority,
        "`foedus join` writes it: ask the coordinator for a new invitation",
        ("joined",),
    ),
    Check("certificate", trust.door_certificate, _ASK, ("authority",)),
    Check("door", reachability.door, _ASK, ("certificate",)),
    Check("federation", reachability.federation, _ASK, ("door",)),
    Check("coordinator's versions", versions.coordinators, _ASK, ("federation",)),
    Check("clock", clocks.clock, _ASK, ("federation",)),
    Check(
        "chain",
        chain.chain,
        "correct chain-url and chain-id in node.toml",
        ("joined", "authority"),
    ),
    Check("chain clock", clocks.chain_clock, _CHAIN, ("chain",)),
    Check("founded", chain.founded, _ASK, ("federation",)),
    Check("kept contracts", chain.kept_contracts, f"{_UP} fetches them", ("founded",)),
    Check("told contracts", chain.told_contracts, _ASK, ("federation", "kept contracts")),
    Check(
        "contracts",
        chain.contracts,
        "the chain's node serves another chain than the federation was founded on: correct "
        "chain-url in node.toml; where it is empty, ask the coordinator and the other members",
        ("chain", "kept contracts"),
    ),
    Check(
        "blocks",
        chain.blocks,
        "keep the file, and ask the other members what they noted",
        ("contracts",),
    ),
    Check("registered", registration.registered, _NODE_KEY, ("contracts", "secret files")),
    Check("funds", funds.funds, _CHAIN, ("contracts", "secret files")),
    Check(
        "anchored",
        ledger.anchored,
        "an older ledger was put in place, or it was rewritten: `foedus ledger restore` the newest "
        "backup",
        ("contracts", "ledger"),
    ),
    Check("processes", reachability.processes, _UP, ("configuration", "joined")),
    Check(
        "model",
        model.model,
        "have the coordinator name a model that is there on all machines",
        ("federation", "cache"),
    ),
    Check(
        "records",
        data.records,
        "correct the file, or agree with the coordinator on data-form, data-fields and data-labels",
        ("federation", "data"),
    ),
)
