"""How a machine reaches the coordinator's door, by the authority of the invitation alone."""

import ssl
from pathlib import Path
from typing import Any, Final

import httpx

_TIMEOUT_SECONDS: Final = 60.0


class DoorError(Exception):
    """The coordinator does not answer, is another, or refuses; one line says which."""


class Door:
    """A coordinator's door.

    Parameters
    ----------
    address : str
        Host and port.
    authority : str
        Certificate, in PEM, of the authority that its own is issued by; no other is trusted.
    """

    def __init__(self, address: str, authority: str) -> None:
        self.address = address
        try:
            self._trusted = ssl.create_default_context(cadata=authority)
        except (ssl.SSLError, ValueError) as error:
            raise DoorError(f"the authority's certificate is none: {error}") from None

    @classmethod
    def of(cls, address: str, authority: Path) -> "Door":
        """Return the door of a coordinator whose authority's certificate lies in a file."""
        try:
            return cls(address, authority.read_text(encoding="ascii"))
        except (OSError, UnicodeError) as error:
            raise DoorError(f"{authority}: {error}: join first (`foedus join`)") from None

    def join(self, answer: str) -> dict[str, Any]:
        """Answer an invitation, and return what is said to it."""
        return self._asked("POST", "/join", answer)

    def federation(self) -> dict[str, Any]:
        """Return what everybody may know of the federation."""
        return self._asked("GET", "/federation")

    def public(self, sha256: str, most: int) -> bytes:
        """Return the file that is handed out under a hash; it is for the caller to check.

        Parameters
        ----------
        sha256 : str
            Hash of its bytes, hexadecimal.
        most : int
            So many bytes are taken at most.
        """
        content = bytearray()
        try:
            with (
                self._client() as client,
                client.stream(
                    "GET",
                    f"https://{self.address}/public/{sha256}",
                    headers={"accept-encoding": "identity"},
                ) as answer,
            ):
                if not answer.is_success:
                    raise DoorError(
                        f"the coordinator at {self.address} hands out no file of SHA-256 {sha256} "
                        f"(status {answer.status_code})"
                    )
                for piece in answer.iter_raw():
                    content += piece
                    if len(content) > most:
                        raise DoorError(
                            f"the coordinator at {self.address} sends more than {most:,} bytes"
                        )
        except httpx.HTTPError as error:
            raise self._silent(error) from None
        return bytes(content)

    def healthy(self) -> None:
        """Make sure that the SuperLink answers behind it.

        Raises
        ------
        DoorError
            If not.
        """
        self._answer("GET", "/health")

    def status(self, method: str, path: str) -> int:
        """Return the status with which a path is answered, whichever it is."""
        return self._sent(method, path).status_code

    def _asked(self, method: str, path: str, content: str | None = None) -> dict[str, Any]:
        answer = self._answer(method, path, content)
        try:
            return dict(answer.json())
        except (ValueError, TypeError):
            raise DoorError(f"{self.address}{path} answers with no JSON object") from None

    def _answer(self, method: str, path: str, content: str | None = None) -> httpx.Response:
        answer = self._sent(method, path, content)
        if answer.is_success:
            return answer
        raise DoorError(f"the coordinator at {self.address} refuses: {_reason(answer)}")

    def _sent(self, method: str, path: str, content: str | None = None) -> httpx.Response:
        try:
            with self._client() as client:
                return client.request(method, f"https://{self.address}{path}", content=content)
        except httpx.HTTPError as error:
            raise self._silent(error) from None

    def _client(self) -> httpx.Client:
        # Around no proxy: what its certificate proves is who is at the other end.
        return httpx.Client(verify=self._trusted, timeout=_TIMEOUT_SECONDS, trust_env=False)

    def _silent(self, error: httpx.HTTPError) -> DoorError:
        return DoorError(
            f"the coordinator at {self.address} does not answer ({type(error).__name__}: {error})"
        )


def _reason(answer: httpx.Response) -> str:
    try:
        said = answer.json()["error"]
    except (ValueError, TypeError, KeyError):
        said = answer.text
    # Of another's words, one printable line.
    line = " ".join(str(said).split())[:300]
    return "".join(c for c in line if c.isprintable()) or f"status {answer.status_code}"
