"""A handshake with whoever listens at an address: the certificate shown, or why there is none."""

import socket
import ssl
from pathlib import Path
from typing import Final

from cryptography import x509

_SECONDS: Final = 20.0

# Numbers of OpenSSL's X509_V_ERR_*, which Python names nowhere.
NOT_YET_VALID: Final = 9
EXPIRED: Final = 10
OTHER_NAMES: Final = frozenset({62, 64})


class HandshakeError(Exception):
    """There was none.

    Parameters
    ----------
    said : str
        Why, in one line.
    code : int
        OpenSSL's number for what is wrong with the certificate; 0 where none was shown.
    """

    def __init__(self, said: str, code: int = 0) -> None:
        self.said = said
        self.code = code
        super().__init__(said)


def shown_certificate(host: str, port: int, authority: Path, name: str) -> x509.Certificate:
    """Shake hands, and return the certificate shown.

    Parameters
    ----------
    host, port
        Where.
    authority : Path
        Certificate of the only authority that is trusted.
    name : str
        Host name or IP address that the certificate has to be for.

    Raises
    ------
    HandshakeError
        If nothing listens there, or its certificate is not to be trusted.
    """
    trusted = ssl.create_default_context(cafile=str(authority))
    try:
        with (
            socket.create_connection((host, port), timeout=_SECONDS) as plain,
            trusted.wrap_socket(plain, server_hostname=name) as secured,
        ):
            shown = secured.getpeercert(binary_form=True)
    except ssl.SSLCertVerificationError as error:
        raise HandshakeError(error.verify_message, error.verify_code) from None
    except (OSError, ValueError) as error:
        # Names that no host can have are errors of the value.
        raise HandshakeError(str(error) or type(error).__name__) from None
    if shown is None:
        raise HandshakeError("no certificate was shown")
    return x509.load_der_x509_certificate(shown)
