"""The local server of a listening session: this machine's browser and nobody else.

It listens on 127.0.0.1 alone. A request is answered only if its Host is this machine (a name that an attacker's DNS
points here is refused), if it has the cookie that the printed address sets, so that other users of the machine are
kept out, and, where the system tells, if it comes from a process of this user: who finds the address in a log, or the
cookie as the server of another port of this machine, gets no further. What changes something also needs a token that
only the page knows, and an Origin that is the page's. Clips go by their number; no path comes from a request.
"""

from __future__ import annotations

import hmac
import http.server
import json
import re
import secrets
import socketserver
import sys
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qs, urlsplit

from s3prl_metaperser.errors import UserError
from s3prl_metaperser.listener.page import asset, busy_words, clip_page, missing, news, version
from s3prl_metaperser.listener.peer import is_another_users
from s3prl_metaperser.listener.session import ListeningSession

HOST = "127.0.0.1"
HOSTS = (HOST, "localhost", "[::1]")
LARGEST_FORM = 8192
#: Seconds that the answer to a label waits for adaptation, so that what it shows is new.
PATIENCE = 1.5
_POLICY = (
    "default-src 'none'; style-src 'self'; script-src 'self'; media-src 'self'; connect-src 'self'; img-src data:; "
    "form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)
_RANGE = re.compile(r"bytes=([0-9]{0,18})-([0-9]{0,18})")


class ListeningServer(http.server.ThreadingHTTPServer):
    """Serves one session.

    Args:
        session: started by who makes it.
        port: 0 for any that is free.

    Attributes:
        url: what to open; it holds the key.

    Raises:
        UserError: the port is in use.
    """

    daemon_threads = True

    def __init__(self, session: ListeningSession, port: int = 0):
        self.session = session
        self.key, self.token = secrets.token_urlsafe(24), secrets.token_urlsafe(24)
        try:
            super().__init__((HOST, port), _Handler)
        except (OSError, OverflowError) as error:
            raise UserError(
                f"--port {port} cannot be used ({error}). Choose another, or 0 for any free port."
            ) from None
        self.cookie = f"metaperser-{self.server_port}"
        self.url = f"http://{HOST}:{self.server_port}/?key={self.key}"

    def server_bind(self) -> None:
        """As the base class, but without asking DNS for this machine's name."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = HOST, self.server_address[1]

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Nothing for a connection that broke, which anybody can make; the traceback of a fault of this program."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)


class _Refused(Exception):
    def __init__(self, status: HTTPStatus, text: str):
        super().__init__(text)
        self.status, self.text = status, text


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
        except _Refused as refused:
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
            raise _Refused(HTTPStatus.BAD_REQUEST, "This address cannot be read.") from None
        if address.path == "/" and "key" in query:
            self._let_in(query["key"][0])
            return
        self._check_cookie()
        path, last = address.path, self._number(query.get("last", [""])[0])
        if path == "/":
            first = self.server.session.next_after(-1)
            self._page(first or 0, last)
        elif path.startswith("/clip/"):
            self._page(self._clip(path.removeprefix("/clip/")), last)
        elif path.startswith("/audio/"):
            self._sound(self._clip(path.removeprefix("/audio/")))
        elif path == "/news":
            self._html(news(self.server.session, self.server.session.view(), last, self.server.token))
        elif path == "/status":
            view = self.server.session.view()
            self._send(json.dumps({"busy": busy_words(view), "version": version(view)}).encode(), "application/json")
        elif path in ("/page.css", "/page.js"):
            kind = "css" if path.endswith("css") else "javascript"
            self._send(asset(path.removeprefix("/")), f"text/{kind}; charset=utf-8")
        else:
            raise _Refused(HTTPStatus.NOT_FOUND, "There is no such page.")

    def _page(self, index: int, last: int | None, message: str = "", status: HTTPStatus = HTTPStatus.OK) -> None:
        session = self.server.session
        view = session.view()
        if last is None and index in view.answers:
            last = index
        self._html(clip_page(session, view, index, self.server.token, last, message), status)

    def _let_in(self, key: str) -> None:
        if not hmac.compare_digest(key.encode(), self.server.key.encode()):
            raise _Refused(
                HTTPStatus.FORBIDDEN, "This link is from an earlier session. Open the one shown in the terminal."
            )
        cookie = f"{self.server.cookie}={self.server.key}; HttpOnly; SameSite=Lax; Path=/"
        self._send(b"", "text/plain", HTTPStatus.SEE_OTHER, {"Location": "/", "Set-Cookie": cookie})

    def _number(self, text: str) -> int | None:
        """A clip's number; None where it is none."""
        known = text.isascii() and text.isdecimal() and len(text) < 9 and int(text) < len(self.server.session.clips)
        return int(text) if known else None

    def _clip(self, text: str) -> int:
        """A clip's number.

        Raises:
            _Refused: there is no such clip.
        """
        if (number := self._number(text)) is None:
            raise _Refused(HTTPStatus.NOT_FOUND, "There is no such clip.")
        return number

    def _sound(self, index: int) -> None:
        try:
            sound = self.server.session.sound(index)
        except UserError:
            raise _Refused(HTTPStatus.NOT_FOUND, "This clip cannot be read.") from None
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
        self._check_cookie()
        form = self._form()
        path, session = self.path, self.server.session
        if path == "/adapt":
            session.adapt_now()
            session.wait(PATIENCE)
            self._go("/")
            return
        if not path.startswith("/clip/"):
            raise _Refused(HTTPStatus.NOT_FOUND, "There is no such page.")
        index = self._clip(path.removeprefix("/clip/"))
        labels, label_set = form.get("label", []), session.recognizer.label_set
        if not labels:
            self._page(index, None, missing(label_set), HTTPStatus.BAD_REQUEST)
            return
        try:
            session.label(index, labels[0] if len(labels) == 1 else labels)
        except UserError as error:
            self._page(index, None, str(error), HTTPStatus.BAD_REQUEST)
            return
        session.wait(PATIENCE)
        following = session.next_after(index)
        self._go(f"/clip/{index if following is None else following}?last={index}")

    def _form(self) -> dict[str, list[str]]:
        """The form's fields, if it comes from this server's own page."""
        origin = self.headers.get("Origin")
        if origin is not None and origin != f"http://{self.headers['Host']}":
            raise _Refused(HTTPStatus.FORBIDDEN, "This form comes from another page.")
        if self.headers.get("Sec-Fetch-Site", "same-origin") not in ("same-origin", "none"):
            raise _Refused(HTTPStatus.FORBIDDEN, "This form comes from another page.")
        length = self.headers.get("Content-Length", "")
        if not (length.isascii() and length.isdecimal()) or int(length) > LARGEST_FORM:
            raise _Refused(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "This form is too large.")
        try:
            text = self.rfile.read(int(length)).decode("utf-8")
            form = parse_qs(text, max_num_fields=32)
        except ValueError:
            raise _Refused(HTTPStatus.BAD_REQUEST, "This form cannot be read.") from None
        if not hmac.compare_digest(form.get("token", [""])[0].encode(), self.server.token.encode()):
            raise _Refused(HTTPStatus.FORBIDDEN, "This page is from an earlier session. Reload it.")
        return form

    # -- guarding ------------------------------------------------------------------------------------------------

    def _check_host(self) -> None:
        name = re.sub(r":\d{1,5}$", "", self.headers.get("Host", ""))
        if name not in HOSTS:
            raise _Refused(HTTPStatus.MISDIRECTED_REQUEST, "This server accepts local connections only.")

    def _check_user(self) -> None:
        if is_another_users(self.client_address[:2], self.connection.getsockname()[:2]):
            raise _Refused(HTTPStatus.FORBIDDEN, "This page belongs to another user of this machine.")

    def _check_cookie(self) -> None:
        pairs = [pair.strip().partition("=") for pair in self.headers.get("Cookie", "").split(";")]
        mine = [value for name, _, value in pairs if name == self.server.cookie]  # others' may be of any form
        if not any(hmac.compare_digest(value.encode(), self.server.key.encode()) for value in mine):
            raise _Refused(HTTPStatus.FORBIDDEN, "Open the link shown in the terminal: it holds this page's key.")

    # -- answering -----------------------------------------------------------------------------------------------

    def _html(self, text: str, status: HTTPStatus = HTTPStatus.OK) -> None:
        self._send(text.encode("utf-8", "replace"), "text/html; charset=utf-8", status)

    def _go(self, where: str) -> None:
        self._send(b"", "text/plain", HTTPStatus.SEE_OTHER, {"Location": where})

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
