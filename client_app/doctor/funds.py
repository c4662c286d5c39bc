"""Whether the account that sends the machine's transactions can pay for them."""

from blockchain.keys import account_address
from client_app.doctor.check import Finding, fails, holds, warns
from client_app.doctor.machine import Machine
from strategies.chain_standing import LOW_WEI
from strategies.organization_key import signing_address
from strategies.run_accounts import COORDINATOR_KEY


def funds(machine: Machine) -> Finding:
    """Ask the chain what the account has."""
    if machine.organization is None:
        own = account_address(machine.home / "chain" / "keys", COORDINATOR_KEY)
        pays = "opens and seals rounds"
    else:
        own = signing_address(machine.home, machine.name)
        pays = "anchors the ledger and claims rewards"
    wei = machine.chain.balance(own)
    found = f"{own}, which {pays}, has {wei / 1e18:.6g} ether on chain {machine.settings.chain_id}"
    if machine.managed:
        # Of one that has just joined, or has another key since.
        return holds(found) if wei else warns(found, "the next `foedus run` gives it some")
    if not wei:
        return fails(found, "send it some of that chain's currency")
    if wei < LOW_WEI:
        return warns(f"{found}: less than {LOW_WEI / 1e18:g}", "send it some more")
    return holds(found)
