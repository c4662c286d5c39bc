"""Has a SuperLink know a SuperNode by its key, through the Control API on this machine."""

from pathlib import Path

import httpx
from cryptography.hazmat.primitives import serialization
from flwr.proto.control_pb2 import ListNodesRequest, RegisterNodeRequest
from flwr.supercore.control import ControlHttpClient
from flwr.supercore.interceptors import RuntimeVersionHttpInterceptor

from strategies.node_key import read_public_key


class RegistrarError(Exception):
    """The SuperLink did not answer, or did not take a node's key."""


class NodeRegistrar:
    """Registers nodes.

    Parameters
    ----------
    address : str
        Of the SuperLink, host and port: on this machine, since whoever reaches its Control API can
        start runs.
    authority : Path
        Who issued its certificate, in PEM.
    """

    def __init__(self, address: str, authority: Path) -> None:
        self._address = address
        self._authority = authority

    def register(self, organization: str, node_key: str) -> int:
        """Return Flower's id of a node, registering its key where that is not known yet.

        Parameters
        ----------
        organization : str
            What the node is called in Flower's lists.
        node_key : str
            In OpenSSH's form.

        Raises
        ------
        RegistrarError
            If the SuperLink does not answer or refuses.
        """
        # The very bytes by which Flower compares.
        key = read_public_key(node_key).public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        try:
            with ControlHttpClient.from_server_address(
                self._address,
                insecure=False,
                root_certificates=str(self._authority),
                interceptors=[RuntimeVersionHttpInterceptor(component_name="Foedus")],
            ) as client:
                known = {
                    bytes(node.public_key): int(node.node_id)
                    for node in client.ListNodes(ListNodesRequest()).nodes_info
                    if not node.unregistered_at
                }
                if key in known:
                    return known[key]
                request = RegisterNodeRequest(public_key=key, name=organization)
                return int(client.RegisterNode(request).node_id)
        except (httpx.HTTPError, RuntimeError) as error:
            raise RegistrarError(
                f"the SuperLink at {self._address} did not register the node of {organization}: "
                f"{type(error).__name__}: {error}"
            ) from error
