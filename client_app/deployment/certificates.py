"""The coordinator's own certificate authority, and the certificate that its door shows.

Organizations are handed the authority's certificate with their invitation, and trust no other
here: no name has to be bought, and nobody else's authority can vouch for the coordinator.

Files, in the folder given::

    ca.pem      certificate of the authority: goes to the organizations
    ca.key      its key, readable by its owner alone
    server.pem  certificate of the door
    server.key  its key, readable by its owner alone
"""

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from blockchain.durable_file import write_durably

CA_DAYS: Final = 3650
#: What browsers accept at most; renewed by `foedus up` in its last month.
SERVER_DAYS: Final = 397
RENEWED_DAYS: Final = 30

_PRIVATE: Final = 0o600
_LOOPBACK: Final = ("localhost", "127.0.0.1", "::1")
#: Clocks of two machines differ.
_BACKDATED: Final = timedelta(minutes=10)


class CertificateError(Exception):
    """A certificate or its key is missing, malformed, or not the other's; one line says which."""


@dataclass(frozen=True)
class Certificates:
    """Paths of a coordinator's certificates and keys.

    Parameters
    ----------
    folder : Path
        Where they lie.
    """

    folder: Path

    @property
    def authority(self) -> Path:
        """The authority's certificate."""
        return self.folder / "ca.pem"

    @property
    def authority_key(self) -> Path:
        """The authority's key."""
        return self.folder / "ca.key"

    @property
    def server(self) -> Path:
        """The door's certificate."""
        return self.folder / "server.pem"

    @property
    def server_key(self) -> Path:
        """The door's key."""
        return self.folder / "server.key"


def make_authority(folder: Path, now: datetime | None = None) -> Certificates:
    """Make a certificate authority, unless there is one.

    Parameters
    ----------
    folder : Path
        Made if it does not exist, for its owner alone.
    now : datetime, optional
        From when it holds; the clock's time unless told otherwise.

    Raises
    ------
    CertificateError
        If there is half of one.
    """
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    files = Certificates(folder)
    if files.authority.exists() and files.authority_key.exists():
        _authority(files)
        return files
    if files.authority.exists() or files.authority_key.exists():
        raise CertificateError(
            f"{folder}: of ca.pem and ca.key there is but one; bring the other back from a backup, "
            "or remove it and invite all organizations again"
        )
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Foedus coordinator")])
    certificate = (
        _certificate(name, name, key.public_key(), now or datetime.now(UTC), CA_DAYS)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    # The certificate last: where it is, its key is.
    write_durably(files.authority_key, _pem(key), _PRIVATE)
    write_durably(files.authority, certificate.public_bytes(serialization.Encoding.PEM))
    return files


def issue_server(
    files: Certificates, addresses: Sequence[str], now: datetime | None = None
) -> None:
    """Issue a certificate for the addresses by which organizations reach the coordinator.

    It holds for this machine's own loopback addresses as well.

    Parameters
    ----------
    files : Certificates
        With an authority.
    addresses : sequence of str
        Host names or IP addresses, without ports.
    now : datetime, optional
        From when it holds; the clock's time unless told otherwise.

    Raises
    ------
    CertificateError
        If the authority is missing or malformed.
    """
    authority, authority_key = _authority(files)
    key = ec.generate_private_key(ec.SECP256R1())
    names = [_general_name(one) for one in dict.fromkeys([*addresses, *_LOOPBACK])]
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, addresses[0][:64])])
    issuer = x509.SubjectKeyIdentifier.from_public_key(authority_key.public_key())
    certificate = (
        _certificate(
            subject, authority.subject, key.public_key(), now or datetime.now(UTC), SERVER_DAYS
        )
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(issuer), critical=False
        )
        .sign(authority_key, hashes.SHA256())
    )
    write_durably(files.server_key, _pem(key), _PRIVATE)
    write_durably(files.server, certificate.public_bytes(serialization.Encoding.PEM))


def server_is_due(files: Certificates, addresses: Sequence[str]) -> bool:
    """Whether the door's certificate is missing, ends soon, or lacks one of the addresses."""
    if not (files.server.exists() and files.server_key.exists()):
        return True
    certificate = read_certificate(files.server)
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    wanted = {_general_name(address) for address in addresses}
    left = certificate.not_valid_after_utc - datetime.now(UTC)
    return left < timedelta(days=RENEWED_DAYS) or not wanted <= set(names)


def read_certificate(path: Path) -> x509.Certificate:
    """Read a certificate.

    Raises
    ------
    CertificateError
        If there is none.
    """
    try:
        return x509.load_pem_x509_certificate(path.read_bytes())
    except (OSError, ValueError) as error:
        raise CertificateError(f"{path}: no certificate in PEM ({error})") from None


def check_authority(files: Certificates) -> x509.Certificate:
    """Return the authority's certificate, once its key is known to be there; nothing is made.

    Raises
    ------
    CertificateError
        If one is missing, malformed, or not the other's.
    """
    return _authority(files)[0]


def _authority(files: Certificates) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    certificate = read_certificate(files.authority)
    try:
        key = serialization.load_pem_private_key(files.authority_key.read_bytes(), None)
    except (OSError, ValueError, TypeError):
        # What it says of a key is not repeated.
        raise CertificateError(f"{files.authority_key}: no private key in PEM") from None
    if not isinstance(key, ec.EllipticCurvePrivateKey) or (
        key.public_key() != certificate.public_key()
    ):
        raise CertificateError(f"{files.authority_key} is not the key of {files.authority}")
    return certificate, key


def _certificate(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, now: datetime, days: int
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _BACKDATED)
        .not_valid_after(now + timedelta(days=days))
    )


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _general_name(address: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(address))
    except ValueError:
        return x509.DNSName(address)


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
