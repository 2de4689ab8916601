"""The local server of listening sessions: this machine's browser and nobody else.

It listens on 127.0.0.1 alone. A request is answered only if its Host is this machine (a name that an attacker's DNS
points here is refused), if it has the cookie that the printed address sets, so that other users of the machine are
kept out, and, where the system tells, if it comes from a process of this user: who finds the address in a log, or the
cookie as the server of another port of this machine, gets no further. What changes something also needs a token that
only the page knows, and an Origin that is the page's. Clips go by their number; no path comes from a request.
"""

from __future__ import annotations

import hmac
import http.server
import re
import secrets
import socketserver
import sys
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qs, urlsplit

from s3prl_metaperser.errors import UserError
from s3prl_metaperser.listener.peer import is_another_users
from s3prl_metaperser.listener.routes import Refused, Reply, Routes
from s3prl_metaperser.listener.session import ListeningSession

HOST = "127.0.0.1"
HOSTS = (HOST, "localhost", "[::1]")
LARGEST_FORM = 8192
_POLICY = (
    "default-src 'none'; style-src 'self'; script-src 'self'; media-src 'self'; connect-src 'self'; img-src data:; "
    "form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)
_RANGE = re.compile(r"bytes=([0-9]{0,18})-([0-9]{0,18})")


class ListeningServer(http.server.ThreadingHTTPServer):
    """Serves one session or several, each to who has its address.

    Args:
        sessions: started by who makes them, each of another listener.
        port: 0 for any that is free.

    Attributes:
        urls: what each listener is to open, in the order of ``sessions``; it holds the listener's key.

    Raises:
        UserError: the port is in use.
    """

    daemon_threads = True

    def __init__(self, *sessions: ListeningSession, port: int = 0):
        self.routes = {secrets.token_urlsafe(24): Routes(each, secrets.token_urlsafe(24)) for each in sessions}
        try:
            super().__init__((HOST, port), _Handler)
        except (OSError, OverflowError) as error:
            raise UserError(
                f"--port {port} cannot be used ({error}). Choose another, or 0 for any free port."
            ) from None
        self.cookie = f"metaperser-{self.server_port}"
        self.urls = [f"http://{HOST}:{self.server_port}/?key={key}" for key in self.routes]

    def server_bind(self) -> None:
        """As the base class, but without asking DNS for this machine's name."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = HOST, self.server_address[1]

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Nothing for a connection that broke, which anybody can make; the traceback of a fault of this program."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)


class _Handler(http.server.BaseHTTPRequestHandler):
    server: ListeningServer
    protocol_version = "HTTP/1.1"
    server_version, sys_version = "metaperser", ""
    timeout = 60

    def do_GET(self) -> None:
        self._answer(self._get)

    def do_POST(self) -> None:
        self._answer(self._post)

    def log_message(self, format: str, *args) -> None:
        """Log nothing: the terminal is for people."""

    def _answer(self, handle) -> None:
        try:
            self._check_host()
            self._check_user()
            handle()
        except Refused as refused:
            self.close_connection = True
            self._send(refused.text.encode(), "text/plain; charset=utf-8", refused.status)
        except (BrokenPipeError, ConnectionResetError):  # the browser went on to another clip
            self.close_connection = True

    # -- reading -------------------------------------------------------------------------------------------------

    def _get(self) -> None:
        try:
            address = urlsplit(self.path)
            query = parse_qs(address.query, max_num_fields=8)
        except ValueError:
            raise Refused(HTTPStatus.BAD_REQUEST, "This address cannot be read.") from None
        if address.path == "/" and "key" in query:
            self._let_in(query["key"][0])
            return
        reply = self._routes().get(address.path, query)
        if reply.kind == "audio/wav":
            self._sound(reply.body)
        else:
            self._reply(reply)

    def _let_in(self, key: str) -> None:
        if self._known(key) is None:
            raise Refused(
                HTTPStatus.FORBIDDEN, "This link is from an earlier session. Open the one shown in the terminal."
            )
        cookie = f"{self.server.cookie}={key}; HttpOnly; SameSite=Lax; Path=/"
        self._send(b"", "text/plain", HTTPStatus.SEE_OTHER, {"Location": "/", "Set-Cookie": cookie})

    def _sound(self, sound: bytes) -> None:
        found = _RANGE.fullmatch(self.headers.get("Range", ""))
        if not found or found.groups() == ("", ""):
            self._send(sound, "audio/wav", HTTPStatus.OK, {"Accept-Ranges": "bytes"})
            return
        first, last = found.groups()
        begin = int(first) if first else max(len(sound) - int(last), 0)
        end = min(int(last), len(sound) - 1) if first and last else len(sound) - 1
        if begin > end:
            self._send(
                b"", "audio/wav", HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, {"Content-Range": f"bytes */{len(sound)}"}
            )
            return
        more = {"Accept-Ranges": "bytes", "Content-Range": f"bytes {begin}-{end}/{len(sound)}"}
        self._send(sound[begin : end + 1], "audio/wav", HTTPStatus.PARTIAL_CONTENT, more)

    # -- changing ------------------------------------------------------------------------------------------------

    def _post(self) -> None:
        routes = self._routes()
        self._reply(routes.post(self.path, self._form(routes.token)))

    def _form(self, token: str) -> dict[str, list[str]]:
        """The form's fields, if it comes from this server's own page."""
        origin = self.headers.get("Origin")
        if origin is not None and origin != f"http://{self.headers['Host']}":
            raise Refused(HTTPStatus.FORBIDDEN, "This form comes from another page.")
        if self.headers.get("Sec-Fetch-Site", "same-origin") not in ("same-origin", "none"):
            raise Refused(HTTPStatus.FORBIDDEN, "This form comes from another page.")
        length = self.headers.get("Content-Length", "")
        if not (length.isascii() and length.isdecimal()) or int(length) > LARGEST_FORM:
            raise Refused(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "This form is too large.")
        try:
            text = self.rfile.read(int(length)).decode("utf-8")
            form = parse_qs(text, max_num_fields=32)
        except ValueError:
            raise Refused(HTTPStatus.BAD_REQUEST, "This form cannot be read.") from None
        if not hmac.compare_digest(form.get("token", [""])[0].encode(), token.encode()):
            raise Refused(HTTPStatus.FORBIDDEN, "This page is from an earlier session. Reload it.")
        return form

    # -- guarding ------------------------------------------------------------------------------------------------

    def _check_host(self) -> None:
        name = re.sub(r":\d{1,5}$", "", self.headers.get("Host", ""))
        if name not in HOSTS:
            raise Refused(HTTPStatus.MISDIRECTED_REQUEST, "This server accepts local connections only.")

    def _check_user(self) -> None:
        if is_another_users(self.client_address[:2], self.connection.getsockname()[:2]):
            raise Refused(HTTPStatus.FORBIDDEN, "This page belongs to another user of this machine.")

    def _routes(self) -> Routes:
        """What the cookie is the key of.

        Raises:
            Refused: nothing.
        """
        pairs = [pair.strip().partition("=") for pair in self.headers.get("Cookie", "").split(";")]
        mine = [value for name, _, value in pairs if name == self.server.cookie]  # others' may be of any form
        found = next(filter(None, map(self._known, mine)), None)
        if found is None:
            raise Refused(HTTPStatus.FORBIDDEN, "Open the link shown in the terminal: it holds this page's key.")
        return found

    def _known(self, key: str) -> Routes | None:
        """Whose key it is; all keys are compared, each in constant time."""
        found = [
            routes for each, routes in self.server.routes.items() if hmac.compare_digest(key.encode(), each.encode())
        ]
        return found[0] if found else None

    # -- answering -----------------------------------------------------------------------------------------------

    def _reply(self, reply: Reply) -> None:
        self._send(reply.body, reply.kind, reply.status, reply.headers)

    def _send(
        self, body: bytes, kind: str, status: HTTPStatus = HTTPStatus.OK, more: dict[str, str] | None = None
    ) -> None:
        self.send_response(status)
        headers = {
            "Content-Type": kind,
            "Content-Length": str(len(body)),
            "Cache-Control": "no-store",
            "Content-Security-Policy": _POLICY,
            "Referrer-Policy": "same-origin",
            "X-Content-Type-Options": "nosniff",
            "Cross-Origin-Resource-Policy": "same-origin",
            **(more or {}),
        }
        for name, value in headers.items():
            self.send_header(name, value)
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)
