"""The contracts as they ship: ABI, bytecode and compiler settings, one JSON file each.

The files travel in Flower's application bundle, where there is no compiler. After a change to a
contract, ``python -m blockchain.artifacts --write`` compiles and writes them anew;
``--check`` compares them with a fresh build and exits 1 on a difference.
"""

import argparse
import functools
import json
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from eth_utils.hexadecimal import decode_hex

from blockchain.errors import ArtifactError, ChainError
from blockchain.toolchain import hardhat_command, hardhat_folder

#: Contracts that the application deploys.
CONTRACTS: Final = ("Registry", "Rounds", "Anchors", "Rewards", "Unlearning")

_SHIPPED: Final = Path(__file__).parent / "abi"


@dataclass(frozen=True)
class Artifact:
    """One compiled contract.

    Parameters
    ----------
    contract : str
        Name of the contract.
    compiler : dict
        Compiler version and the settings that decide its output.
    abi : list of dict
        The contract's interface, in Solidity's JSON form.
    bytecode : str
        Code that creates the contract, ``0x`` and hexadecimal.
    deployed_bytecode : str
        Code that then lies on the chain, ``0x`` and hexadecimal, with zeros where the constructor
        puts the contract's immutable values.
    immutable_ranges : list of [int, int]
        Where these stand: first byte and length of each, ascending.
    """

    contract: str
    compiler: dict[str, Any]
    abi: list[dict[str, Any]]
    bytecode: str
    deployed_bytecode: str
    immutable_ranges: list[list[int]]

    def is_code(self, code: bytes) -> bool:
        """Whether code on a chain is this contract's, whatever its immutable values are."""
        masked = bytearray(code)
        for start, length in self.immutable_ranges:
            masked[start : start + length] = bytes(len(masked[start : start + length]))
        return bytes(masked) == decode_hex(self.deployed_bytecode)


@functools.cache
def load(contract: str) -> Artifact:
    """Read a shipped artifact.

    Raises
    ------
    ArtifactError
        There is none, or it is not what `Artifact` describes.
    """
    path = _SHIPPED / f"{contract}.json"
    try:
        return Artifact(**json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise ArtifactError(
            f"{path} is not a contract artifact ({error}): "
            "run `python -m blockchain.artifacts --write`"
        ) from error


def compiled() -> dict[str, Artifact]:
    """Build the contracts with Hardhat and return them by name, as they come from the compiler."""
    build = subprocess.run(
        hardhat_command("build", "--force", "--no-tests", "--quiet"),
        cwd=hardhat_folder(),
        capture_output=True,
        text=True,
        check=False,
    )
    if build.returncode != 0:
        raise ArtifactError(f"the contracts do not compile:\n{build.stdout}{build.stderr}")
    return {contract: _built(contract) for contract in CONTRACTS}


def _built(contract: str) -> Artifact:
    artifacts = hardhat_folder() / "artifacts"
    output = json.loads((artifacts / f"contracts/{contract}.sol/{contract}.json").read_text())
    info = json.loads((artifacts / f"build-info/{output['buildInfoId']}.json").read_text())
    settings = info["input"]["settings"]
    return Artifact(
        contract=contract,
        compiler={
            "version": info["solcLongVersion"],
            **{name: settings[name] for name in ("evmVersion", "metadata", "optimizer")},
        },
        abi=output["abi"],
        bytecode=output["bytecode"],
        deployed_bytecode=output["deployedBytecode"],
        immutable_ranges=sorted(
            [place["start"], place["length"]]
            for places in output["immutableReferences"].values()
            for place in places
        ),
    )


def main(arguments: list[str] | None = None) -> int:
    """Write or check the shipped artifacts; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m blockchain.artifacts", description=__doc__)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--write", action="store_true", help="write abi/*.json from a fresh build")
    what.add_argument("--check", action="store_true", help="compare abi/*.json with a fresh build")
    write = parser.parse_args(arguments).write
    try:
        for contract, fresh in compiled().items():
            if write:
                text = json.dumps(asdict(fresh), indent=1, sort_keys=True) + "\n"
                (_SHIPPED / f"{contract}.json").write_text(text, encoding="utf-8")
            elif load(contract) != fresh:
                raise ArtifactError(
                    f"blockchain/abi/{contract}.json is not what hardhat/contracts compile to: "
                    "run `python -m blockchain.artifacts --write` and commit the result"
                )
    except ChainError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
