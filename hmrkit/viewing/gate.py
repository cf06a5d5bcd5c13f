"""Who may read a served page: only who has its address, whose path begins with a secret word.

A page from elsewhere that a browser shows can reach servers on this machine, also under a name of its own that it lets
point here (DNS rebinding). It does not know the word; Host and Origin are checked as well, so that the word alone, from
a history or a log, is of no use to it. All else gets 403, before viser sees it.
"""

from __future__ import annotations

import contextlib
import hmac
import ipaddress
import secrets
from collections.abc import Callable, Iterator, Mapping
from http import HTTPStatus
from typing import Any
from urllib.parse import urlsplit


class Gate:
    """The check of every request for a page served at `host`; `token` is the secret word."""

    def __init__(self, host: str) -> None:
        self.host, self.token = host.strip("[]").lower(), secrets.token_urlsafe(16)
        self.guards = False  # whether a server was started behind it

    def admits(self, path: str, headers: Mapping[str, str]) -> bool:
        """Whether a request (its path, its headers by lower-case name) may pass."""
        host, origin = headers.get("host", ""), headers.get("origin")
        word = path.partition("?")[0].removeprefix("/").partition("/")[0]
        return (
            hmac.compare_digest(word.encode(), self.token.encode())
            and self._is_own(host)
            and (origin is None or origin.lower() == f"http://{host.lower()}")
        )

    def _is_own(self, host: str) -> bool:
        """Whether a Host header means this server: by number, by the name it was given, or as localhost.

        Numbers cannot be made to point elsewhere. Served to everybody, they are all that is known of its address.
        """
        try:
            name = (urlsplit(f"//{host}").hostname or "").lower()
        except ValueError:
            return False
        if name in (self.host, "localhost"):
            return bool(name)
        try:
            number = ipaddress.ip_address(name)
        except ValueError:
            return False
        return number.is_loopback or self.host in ("0.0.0.0", "::")

    @contextlib.contextmanager
    def before_viser(self) -> Iterator[None]:
        """A server that viser starts in this block stands behind the gate (viser has no setting for it)."""
        import websockets.asyncio.server as sockets

        serve = sockets.serve

        def guarded(*args: Any, process_request: Callable[..., Any] | None = None, **settings: Any) -> Any:
            self.guards = True
            return serve(*args, process_request=self._checked(process_request), **settings)

        sockets.serve = guarded  # type: ignore[assignment, misc]
        try:
            yield
        finally:
            sockets.serve = serve  # type: ignore[misc]

    def _checked(self, answer: Callable[..., Any] | None) -> Callable[..., Any]:
        def check(connection: Any, request: Any) -> Any:
            headers = {name.lower(): value for name, value in request.headers.raw_items()}
            if not self.admits(request.path, headers):
                return connection.respond(HTTPStatus.FORBIDDEN, "403: open the address that hmrkit view printed\n")
            request.path = "/" + request.path.removeprefix(f"/{self.token}").removeprefix("/")
            return answer(connection, request) if answer else None

        return check
