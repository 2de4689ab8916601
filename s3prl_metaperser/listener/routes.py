"""What the listening page answers to an address or a form, for one listener. No path of a file comes from a request."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus

from s3prl_metaperser.errors import UserError
from s3prl_metaperser.listener import page
from s3prl_metaperser.listener.labels import answer_of, answer_text
from s3prl_metaperser.listener.session import ListeningSession

#: Seconds that the answer to a label waits for adaptation, so that what it shows is new.
PATIENCE = 1.5
_KINDS = {"css": "text/css; charset=utf-8", "js": "text/javascript; charset=utf-8"}

Form = Mapping[str, list[str]]


class Refused(Exception):
    """A request that gets no page; ``text`` says why."""

    def __init__(self, status: HTTPStatus, text: str):
        super().__init__(text)
        self.status, self.text = status, text


@dataclass(frozen=True)
class Reply:
    """An answer to a request."""

    body: bytes = b""
    kind: str = "text/plain"
    status: HTTPStatus = HTTPStatus.OK
    headers: dict[str, str] = field(default_factory=dict)


def _go(where: str) -> Reply:
    return Reply(status=HTTPStatus.SEE_OTHER, headers={"Location": where})


class Routes:
    """One listener's page.

    Args:
        session: the listener's.
        token: to be sent back with every form.
    """

    def __init__(self, session: ListeningSession, token: str):
        self.session, self.token = session, token

    def get(self, path: str, query: Form) -> Reply:
        """A page, a sound, or a part of them.

        Raises:
            Refused: there is no such thing.
        """
        session, (first, rest) = self.session, self._split(path)
        last = self._number(query.get("last", [""])[0])
        if path.startswith("/page."):
            return self._asset(path.removeprefix("/"))
        if not session.agreed or (path == "/" and not session.practised):
            return self._begin(path)
        if path == "/":
            if (following := session.next_after(-1)) is None:
                return _go("/end")
            first, rest = "clip", str(following)
        if first in ("clip", "again"):
            index = self._known(rest)
            session.diary.opened(f"{first}/{index}")
            return self._clip(index, last, again=first == "again")
        if first == "training":
            session.diary.opened(f"training/{self._trial(rest)}")
            return self._training(self._trial(rest))
        if first in ("audio", "training-audio"):
            return self._sound(first, rest)
        if path == "/news":
            return self._html(page.news(session, session.view(), last, self.token))
        if path == "/status":
            view = session.view()
            said = {"busy": page.busy_words(session, view), "version": page.version(view)}
            return Reply(json.dumps(said).encode(), "application/json")
        if path == "/break":
            session.diary.opened("break")
            return self._html(page.card(session, "break", self.token, then=self._onward()))
        if path == "/end":
            return self._html(page.card(session, "end", self.token, then="/clip/0"))
        if path == "/labels.csv":
            name = {"Content-Disposition": "attachment; filename=labels.csv"}
            return Reply(session.file.mine().encode(), "text/csv; charset=utf-8", headers=name)
        raise Refused(HTTPStatus.NOT_FOUND, "There is no such page.")

    def post(self, path: str, form: Form) -> Reply:
        """Do what a form asks.

        Raises:
            Refused: there is no such form.
        """
        session, (first, rest) = self.session, self._split(path)
        if path == "/agree":
            session.agree()
            if session.asked.training and not session.practised:
                return _go("/training/0")
            session.practised = True  # the introduction stood above what was agreed to
            return _go("/")
        if not session.agreed:
            raise Refused(HTTPStatus.FORBIDDEN, "Agree to take part first.")
        if first in ("played", "ended"):
            return self._event(first, rest)
        if path == "/begin":
            session.practised = True
            return _go("/")
        if path == "/adapt":
            session.adapt_now()
            session.worker.wait(PATIENCE)
            return _go("/")
        if path == "/keep":
            return self._keep(form)
        if first == "skip":
            index = self._known(rest)
            session.skip(index)
            return self._after(index)
        if first in ("clip", "again"):
            return self._answer(first, self._known(rest), form)
        if first == "training":
            return self._practised(self._trial(rest), form)
        raise Refused(HTTPStatus.NOT_FOUND, "There is no such page.")

    # -- addresses -----------------------------------------------------------------------------------------------

    @staticmethod
    def _split(path: str) -> tuple[str, str]:
        """``clip`` and ``3`` of ``/clip/3``."""
        first, _, rest = path.removeprefix("/").partition("/")
        return first, rest

    def _number(self, text: str, count: int | None = None) -> int | None:
        """A clip's number; None where it is none."""
        count = len(self.session.clips) if count is None else count
        known = text.isascii() and text.isdecimal() and len(text) < 9 and int(text) < count
        return int(text) if known else None

    def _known(self, text: str) -> int:
        if (number := self._number(text)) is None:
            raise Refused(HTTPStatus.NOT_FOUND, "There is no such clip.")
        return number

    def _trial(self, text: str) -> int:
        if (number := self._number(text, len(self.session.asked.training))) is None:
            raise Refused(HTTPStatus.NOT_FOUND, "There is no such clip.")
        return number

    # -- pages ---------------------------------------------------------------------------------------------------

    def _html(self, text: str, status: HTTPStatus = HTTPStatus.OK) -> Reply:
        return Reply(text.encode("utf-8", "replace"), "text/html; charset=utf-8", status)

    def _asset(self, name: str) -> Reply:
        if name not in ("page.css", "page.js"):
            raise Refused(HTTPStatus.NOT_FOUND, "There is no such page.")
        return Reply(page.asset(name), _KINDS[name.rpartition(".")[2]])

    def _begin(self, path: str) -> Reply:
        """What comes before the first clip: consent, an introduction, practice."""
        session = self.session
        if session.agreed:
            then = "/training/0" if session.asked.training else ""
            return self._html(page.card(session, "introduction", self.token, then=then))
        return self._html(page.card(session, "consent", self.token)) if path == "/" else _go("/")

    def _clip(
        self, index: int, last: int | None, message: str = "", again: bool = False, status: HTTPStatus = HTTPStatus.OK
    ) -> Reply:
        session = self.session
        view = session.view()
        if last is None and index in view.answers and not again:
            last = index
        return self._html(page.clip_page(session, view, index, self.token, last, message, again=again), status)

    def _training(self, number: int, message: str = "", status: HTTPStatus = HTTPStatus.OK) -> Reply:
        return self._html(page.training_page(self.session, number, self.token, message), status)

    def _sound(self, first: str, rest: str) -> Reply:
        session = self.session
        try:
            sound = session.sound(self._known(rest)) if first == "audio" else session.practice_sound(self._trial(rest))
        except UserError:
            raise Refused(HTTPStatus.NOT_FOUND, "This clip cannot be read.") from None
        return Reply(sound, "audio/wav")

    # -- forms ---------------------------------------------------------------------------------------------------

    def _event(self, what: str, where: str) -> Reply:
        kind, rest = self._split(where)
        if kind not in ("clip", "again", "training"):
            raise Refused(HTTPStatus.NOT_FOUND, "There is no such clip.")
        number = self._trial(rest) if kind == "training" else self._known(rest)
        diary = self.session.diary
        (diary.played if what == "played" else diary.ended)(f"{kind}/{number}")
        return Reply(status=HTTPStatus.NO_CONTENT)

    def _answer(self, kind: str, index: int, form: Form) -> Reply:
        session, labels = self.session, form.get("label", [])
        given = labels[0] if len(labels) == 1 else labels
        try:
            if not labels:
                raise UserError(page.missing(session))
            if kind == "clip":
                session.label(index, given)
            else:
                session.label_again(index, given)
        except UserError as error:
            return self._clip(index, None, str(error), kind == "again", HTTPStatus.BAD_REQUEST)
        session.worker.wait(PATIENCE)
        if kind == "clip" and session.due_break():
            return _go("/break")
        return self._after(index)

    def _after(self, index: int) -> Reply:
        return _go(self._onward(index))

    def _onward(self, index: int = -1) -> str:
        """Where the next clip is, after the one that was at hand."""
        session = self.session
        if (once_more := session.due_again()) is not None:
            return f"/again/{once_more}"
        following = session.next_after(index)
        if following is None:
            return "/end"
        return f"/clip/{following}" + (f"?last={index}" if index in session.view().answers else "")

    def _practised(self, number: int, form: Form) -> Reply:
        session, labels = self.session, form.get("label", [])
        try:
            if not labels:
                raise UserError(page.missing(session))
            answer = answer_text(answer_of(labels[0] if len(labels) == 1 else labels, session.recognizer.label_set))
            session.check_heard(f"training/{number}")
        except UserError as error:
            return self._training(number, str(error), HTTPStatus.BAD_REQUEST)
        more = number + 1 < len(session.asked.training)
        then = f"/training/{number + 1}" if more else ""
        return self._html(page.card(session, "practice", self.token, then=then, trial=number, answer=answer))

    def _keep(self, form: Form) -> Reply:
        try:
            self.session.save_listener(form.get("name", [""])[0].strip())
        except UserError as error:
            return self._clip(self.session.next_after(-1) or 0, None, str(error), status=HTTPStatus.BAD_REQUEST)
        self.session.worker.wait(PATIENCE)
        return _go(form.get("from", ["/"])[0] if form.get("from", [""])[0] == "/end" else "/")
