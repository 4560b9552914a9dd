"""Who may enter a server: its own hosts and origins alone, and where it has no password of its own, who knows one."""

import base64
import binascii
import hmac
from collections.abc import Collection
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocketClose

from waymark.system.addresses import LOOPBACK

HEALTH = ("/health", "/version")


class Guard:
    """Refuses requests before they reach the server that it wraps.

    A foreign `Host` is how a page elsewhere, whose name was made to point here, would reach the server; a foreign
    `Origin` means that a page elsewhere sent the request, which browsers do without asking anybody for some of them.

    Args:
        app: the server.
        hosts: names by which it is reached, besides those of the loopback and the address that a connection came to.
        origins: of other pages that may use it, such as `https://example.org`.
        auth: the user:password to ask for; None where the server asks itself.
    """

    def __init__(self, app: ASGIApp, hosts: Collection[str], origins: Collection[str], auth: str | None) -> None:
        self.app, self.auth = app, auth
        self.hosts, self.origins = {*LOOPBACK, *hosts}, set(origins)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve or refuse a request."""
        refused = self._refused(scope) if scope["type"] in ("http", "websocket") else None
        if refused is None:
            return await self.app(scope, receive, send)
        answer = refused if scope["type"] == "http" else WebSocketClose(1008, "refused")
        return await answer(scope, receive, send)

    def _refused(self, scope: Scope) -> PlainTextResponse | None:
        headers = Headers(scope=scope)
        host, origin = headers.get("host", ""), headers.get("origin")
        if not self._is_own(host, scope):
            return PlainTextResponse(f"this server is not {host!r}; WAYMARK_ALLOWED_HOSTS names it\n", 403)
        if origin is not None and origin not in self.origins and _place(origin) != host.lower():
            return PlainTextResponse(f"a page of {origin!r} may not use this server\n", 403)
        if self.auth is None or scope["path"] in HEALTH or self._signed_in(headers.get("authorization", "")):
            return None
        ask = {"WWW-Authenticate": 'Basic realm="waymark"'}
        return PlainTextResponse("user and password are needed, see docs/operations.md\n", 401, ask)

    def _is_own(self, host: str, scope: Scope) -> bool:
        try:
            parts = urlsplit(f"//{host}")
        except ValueError:
            return False
        name = parts.hostname if parts.netloc == host and "@" not in host else None
        return name is not None and (name in self.hosts or name == (scope.get("server") or ("",))[0])

    def _signed_in(self, header: str) -> bool:
        scheme, _, credentials = header.partition(" ")
        try:
            given = base64.b64decode(credentials, validate=True)
        except binascii.Error:
            return False
        return scheme.lower() == "basic" and hmac.compare_digest(given, str(self.auth).encode())


def _place(origin: str) -> str | None:
    """Return host and port of a page; None where it has none, as `null`."""
    scheme, _, place = origin.partition("://")
    return place.lower() if scheme in ("http", "https") else None
