"""The listening page over HTTP: what it saves, what it shows, and whom it refuses."""

import csv
import http.client
import io
import json
import os
import re
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from pathlib import Path
from unittest.mock import Mock
from urllib.parse import urlencode, urlsplit

import numpy as np
import pytest
import soundfile
from listener_fixtures import random_model, write_clips

from s3prl_metaperser import PersonalizedEmotionRecognizer
from s3prl_metaperser.corpora.answer_facts import FACTS
from s3prl_metaperser.corpora.audio import load_audio
from s3prl_metaperser.errors import UserError
from s3prl_metaperser.listener import peer, serving
from s3prl_metaperser.listener.question import ENGLISH, read_question
from s3prl_metaperser.listener.server import ListeningServer
from s3prl_metaperser.listener.session import ListeningSession
from s3prl_metaperser.storage.atomic import write_text

CLASSES = ("frustrated", "angry", "sad", "disgust", "excited", "fear", "neutral", "surprise", "happy")
HOSTILE = '<img src=x onerror="alert(1)">&.wav'


@pytest.fixture(scope="module")
def recognizer(tmp_path_factory):
    return PersonalizedEmotionRecognizer.load(random_model(tmp_path_factory.mktemp("page") / "model"))


@pytest.fixture
def folder(tmp_path):
    clips = write_clips(tmp_path / "clips", 7)
    clips[6].rename(tmp_path / "clips" / HOSTILE)
    (tmp_path / "clips" / "broken.wav").write_bytes(b"RIFF")
    return tmp_path / "clips"


def session_on(recognizer, folder, **options):
    """A session that takes labels of clips that were not heard."""
    asked = read_question(ENGLISH, recognizer.label_set, whole=False)
    return ListeningSession(recognizer, folder, asked=asked, **options)


class Visitor:
    """A browser as far as HTTP goes, let in by the printed address."""

    def __init__(self, session, port=0):
        self.session, self.server = session, ListeningServer(session, port=port)
        self.routes = next(iter(self.server.routes.values()))
        session.worker.start()
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True)
        self.thread.start()
        self.host = f"127.0.0.1:{self.server.server_port}"
        address = urlsplit(self.server.urls[0])
        answer, _ = self.ask("GET", f"{address.path}?{address.query}", Cookie="")
        self.cookie = answer.headers["Set-Cookie"].split(";")[0]
        assert "HttpOnly" in answer.headers["Set-Cookie"]

    def ask(self, method, path, body=None, **headers):
        connection = http.client.HTTPConnection("127.0.0.1", self.server.server_port, timeout=300)
        headers = {"Host": self.host, "Cookie": getattr(self, "cookie", ""), **headers}
        connection.putrequest(method, path, skip_host=True)
        for name, value in headers.items():
            connection.putheader(name.replace("_", "-"), value)
        if body is not None:
            connection.putheader("Content-Length", headers.get("Content_Length", str(len(body))))
        connection.endheaders(body)
        answer = connection.getresponse()
        content = answer.read()
        connection.close()
        return answer, content

    def page(self, path="/"):
        """A page's HTML, with one space for any white space, as a browser shows it."""
        answer, content = self.ask("GET", path)
        assert answer.status == 200, content
        return " ".join(content.decode().split())

    def send(self, path, *fields, token=None, **headers):
        """A form of the page."""
        token = self.routes.token if token is None else token
        return self.ask("POST", path, urlencode([("token", token), *fields]).encode(), **headers)

    def tick(self, index, *ticks, kind="clip", **headers):
        """Hear a clip to its end, and label it."""
        self.send(f"/played/{kind}/{index}")
        self.send(f"/ended/{kind}/{index}")
        return self.send(f"/{kind}/{index}", *[("label", tick) for tick in ticks], **headers)

    def settle(self):
        deadline = time.monotonic() + 300
        while (view := self.session.view()).busy or len(view.average) + len(view.unreadable) < len(self.session.clips):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        return view

    def close(self):
        self.server.shutdown()
        self.server.server_close()
        self.session.worker.stop()


@pytest.fixture
def visitor(recognizer, folder):
    found = Visitor(ListeningSession(recognizer, folder, every=3))
    yield found
    found.close()


def rows(path):
    """A table's rows, without the columns in which a session says how an answer was given."""
    table = list(csv.reader(io.StringIO(path.read_text())))
    kept = [n for n, name in enumerate(table[0]) if name not in FACTS]
    return [[row[n] for n in kept] for row in table]


def test_every_label_is_in_ratings_csv_at_once_and_another_one_replaces_it(visitor, folder):
    visitor.settle()
    names = visitor.session.clips
    answer, _ = visitor.tick(0, "happy", "sad")
    assert (answer.status, answer.headers["Location"][:6]) == (303, "/clip/")
    assert rows(folder / "ratings.csv") == [["file", "rater", "label"], [names[0], "listener", "sad;happy"]]
    visitor.tick(1, "fear")
    visitor.tick(0, "angry")
    assert rows(folder / "ratings.csv")[1:] == [[names[0], "listener", "angry"], [names[1], "listener", "fear"]]
    assert "checked" in visitor.page("/clip/0").split('value="angry"')[1].split(">")[0]


def test_a_session_goes_on_from_its_file_and_leaves_other_raters_rows(recognizer, folder):
    other = ["file,note,rater,label", "clip1.wav,loud,ben,sad", "clip2.wav,,anna,joy"]
    (folder / "ratings.csv").write_text("\n".join(other) + "\n")
    with pytest.raises(UserError, match=r"2 raters: anna, ben\. Choose one with --rater"):
        ListeningSession(recognizer, folder)
    visitor = Visitor(ListeningSession(recognizer, folder, rater="anna", every=3))
    place = visitor.session.clips.index
    assert visitor.session.view().answers == {place("clip2.wav"): ("happy",)}
    visitor.tick(place("clip1.wav"), "neutral")
    visitor.tick(place(HOSTILE), "fear")
    visitor.close()
    assert rows(folder / "ratings.csv")[1:] == [
        *(line.split(",") for line in other[1:]),
        ["clip1.wav", "", "anna", "neutral"],
        [HOSTILE, "", "anna", "fear"],
    ]
    again = ListeningSession(recognizer, folder, rater="anna", every=3)
    assert again.view().answers == {
        place("clip1.wav"): ("neutral",),
        place("clip2.wav"): ("happy",),
        place(HOSTILE): ("fear",),
    }
    again.worker.start()
    assert again.worker.wait(20)
    assert again.view().used == 3, "what was ticked earlier is adapted to at the start"
    again.worker.stop()


def test_it_adapts_after_every_few_to_what_python_would_adapt_to(visitor, recognizer, folder):
    view = visitor.settle()
    chosen = [index for index in range(8) if index not in view.unreadable][:4]
    labels = ["happy", "sad", "fear", "angry"]
    for index, label in zip(chosen[:2], labels, strict=False):
        visitor.tick(index, label)
    assert visitor.session.view().used == 0
    assert "has not adapted to you yet; labels that it still needs: 1" in visitor.page()
    visitor.tick(chosen[2], labels[2])
    view = visitor.settle()
    assert view.used == 3
    paths = [folder / visitor.session.clips[index] for index in chosen]
    adapted = recognizer.adapt(paths[:3], labels[:3])
    for index, path in zip(chosen, paths, strict=True):
        np.testing.assert_allclose(view.adapted[index], adapted.predict_proba(path)[0], atol=1e-6)
        np.testing.assert_allclose(view.average[index], recognizer.predict_proba(path)[0], atol=1e-6)
    without = recognizer.adapt(paths[1:3], labels[1:3]).predict_proba(paths[0])[0]
    np.testing.assert_allclose(view.left_out[chosen[0]], without, atol=1e-6)
    visitor.tick(chosen[3], labels[3])
    np.testing.assert_array_equal(visitor.session.view().foretold[chosen[3]], view.adapted[chosen[3]])
    page = visitor.page(f"/clip/{chosen[0]}?last={chosen[3]}")
    assert "Adapted to 3 of your labels" in page
    assert "Adapt now (new labels: 1)" in page
    assert visitor.send("/adapt")[0].status == 303
    assert visitor.settle().used == 4


def test_nothing_of_a_clip_is_told_before_it_is_ticked(visitor):
    view = visitor.settle()
    page = visitor.page("/clip/0") + visitor.page("/news?last=0")
    assert not any(name in page for i, name in enumerate(visitor.session.clips) if i not in view.unreadable)
    assert "Predictions for this clip" not in page
    visitor.tick(0, "happy")
    assert "Predictions for this clip" in visitor.page("/clip/1?last=0")


def test_clips_go_by_number_and_sound_as_the_model_hears_them(visitor, folder):
    view = visitor.settle()
    index = next(i for i in range(8) if i not in view.unreadable)
    answer, sound = visitor.ask("GET", f"/audio/{index}")
    assert (answer.status, answer.headers["Content-Type"]) == (200, "audio/wav")
    samples, rate = soundfile.read(io.BytesIO(sound), dtype="float32")
    assert rate == 16000
    np.testing.assert_allclose(samples, load_audio(folder / visitor.session.clips[index]), atol=1 / 32000)
    for asked, wanted in (("bytes=0-9", sound[:10]), ("bytes=40-", sound[40:]), ("bytes=-7", sound[-7:])):
        answer, part = visitor.ask("GET", f"/audio/{index}", Range=asked)
        assert (answer.status, part) == (206, wanted)
        begin = sound.index(wanted)
        assert answer.headers["Content-Range"] == f"bytes {begin}-{begin + len(wanted) - 1}/{len(sound)}"
    assert visitor.ask("GET", f"/audio/{index}", Range=f"bytes={len(sound)}-")[0].status == 416
    (folder.parent / "secret.wav").write_bytes(sound)
    outside = ["/audio/8", "/audio/-1", "/audio/../secret.wav", "/audio/%2e%2e/secret.wav", "/audio/0/../../x"]
    outside += ["/../secret.wav", "/secret.wav", "/audio/1e0", "//[", "/?" + "a=1&" * 9, "/clip/99", "/ratings.csv"]
    for path in outside:
        assert visitor.ask("GET", path)[0].status in (400, 404), path
    (bad,) = view.unreadable
    assert visitor.ask("GET", f"/audio/{bad}")[0].status == 404


def test_everything_from_outside_is_escaped_and_no_foreign_script_runs(visitor):
    visitor.settle()
    index = visitor.session.clips.index(HOSTILE)
    visitor.tick(index, "happy")
    page = visitor.page(f"/clip/{index}?last={index}")
    assert "<img" not in page
    assert "&lt;img src=x" in page
    answer, _ = visitor.ask("GET", "/")
    policy = answer.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert not re.search(
        r"<script(?! src=\"/page\.js\")|style=|onclick|https?://", page.replace(f"http://{visitor.host}", "")
    )


REFUSED = [
    ({"Host": "evil.example:80"}, 421),  # DNS rebinding
    ({"Host": "127.0.0.1.evil.example"}, 421),
    ({"Origin": "http://evil.example"}, 403),
    ({"Origin": "null"}, 403),
    ({"Sec_Fetch_Site": "cross-site"}, 403),
    ({"Cookie": ""}, 403),
    ({"Cookie": "metaperser-1=x"}, 403),
    ({"token": "x"}, 403),
    ({"token": ""}, 403),
    ({"Content_Length": "999999"}, 413),
]


@pytest.mark.parametrize(("change", "status"), REFUSED)
def test_a_form_from_anywhere_else_is_refused_and_changes_nothing(visitor, folder, change, status):
    assert visitor.tick(0, "happy", **change)[0].status == status
    assert not (folder / "ratings.csv").exists()


def test_only_this_machines_browser_with_the_key_sees_anything(visitor):
    assert visitor.server.server_address[0] == "127.0.0.1"
    for path in ("/", "/clip/0", "/audio/0", "/news", "/status", "/page.js"):
        assert visitor.ask("GET", path, Cookie="")[0].status == 403
        assert visitor.ask("GET", path, Host="evil.example")[0].status == 421
    assert visitor.ask("GET", "/?key=wrong", Cookie="")[0].status == 403
    port = visitor.server.server_port
    assert visitor.ask("GET", "/", Host=f"localhost:{port}")[0].status == 200
    good = {"Host": f"localhost:{port}", "Origin": f"http://localhost:{port}"}
    assert visitor.tick(0, "happy", **good)[0].status == 303
    with pytest.raises(UserError, match=f"--port {port} cannot be used"):
        ListeningServer(visitor.session, port=port)


def test_wrong_labels_are_told_and_not_saved(visitor, folder):
    for ticks, message in (
        ((), "Tick at least one"),
        (("hapy",), "unknown label"),
        (("happy", "<b>"), "unknown label"),
    ):
        answer, page = visitor.tick(0, *ticks)
        assert answer.status == 400
        assert message in page.decode()
        assert "<b>" not in page.decode()
    assert not (folder / "ratings.csv").exists()


def test_all_nine_classes_and_unreadable_clips_are_on_the_page(visitor):
    view = visitor.settle()
    page = visitor.page("/clip/0")
    found = re.findall(r'value="(\w+)" aria-keyshortcuts="(\d)"', page)
    assert found == [(name, str(number)) for number, name in enumerate(CLASSES, 1)]
    (bad,) = view.unreadable
    assert "Cannot be used: broken.wav" in page
    unusable = visitor.page(f"/clip/{bad}")
    assert "This clip cannot be used" in unusable
    assert "<form id=" not in unusable
    assert "0 of 7 clips labelled" in page
    assert visitor.session.next_after((bad - 1) % 8) != bad
    status = json.loads(visitor.ask("GET", "/status")[1])
    assert set(status) == {"busy", "version"}


def test_a_session_needs_clips_a_model_and_a_file_it_can_go_on_with(recognizer, folder, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="no audio files"):
        ListeningSession(recognizer, tmp_path / "empty")
    with pytest.raises(UserError, match="no such folder"):
        ListeningSession(recognizer, tmp_path / "nowhere")
    (folder / "ratings.csv").write_text("file,anna\nclip1.wav,happy\n")
    with pytest.raises(UserError, match="a column for each rater"):
        ListeningSession(recognizer, folder)
    (folder / "ratings.csv").write_text("file,rater,label\nclip1.wav,anna,hapy\n")
    with pytest.raises(UserError, match=r"ratings.csv:2: unknown label 'hapy'"):
        ListeningSession(recognizer, folder)


def test_a_clip_that_cannot_be_read_takes_no_label_even_before_the_worker_has_met_it(recognizer, folder):
    session = session_on(recognizer, folder)
    with pytest.raises(UserError, match="cannot be decoded"):
        session.label(session.clips.index("broken.wav"), ["happy"])
    assert not (folder / "ratings.csv").exists()


def test_two_sessions_and_an_editor_on_one_file_keep_each_others_rows(recognizer, folder):
    anna, ben = (session_on(recognizer, folder, rater=name) for name in ("anna", "ben"))
    place, theirs = anna.clips.index, ben.clips.index
    anna.label(place("clip0.wav"), ["happy"])
    ben.label(theirs("clip0.wav"), ["sad"])
    edited = (folder / "ratings.csv").read_text().replace("anna,happy", "anna,fear")
    (folder / "ratings.csv").write_text(edited)
    anna.label(place("clip1.wav"), ["angry"])
    kept = (folder / "ratings.csv").read_bytes()
    wanted = [["clip0.wav", "anna", "fear"], ["clip0.wav", "ben", "sad"], ["clip1.wav", "anna", "angry"]]
    assert rows(folder / "ratings.csv")[1:] == wanted
    (folder / "ratings.csv").write_bytes(b"path,emotion\n")
    with pytest.raises(UserError, match="has other columns than before"):
        ben.label(theirs("clip2.wav"), ["fear"])
    assert (folder / "ratings.csv").read_bytes() == b"path,emotion\n"
    (folder / "ratings.csv").write_bytes(kept)
    ben.label(theirs("clip2.wav"), ["fear"])
    assert rows(folder / "ratings.csv")[1:] == [*wanted, ["clip2.wav", "ben", "fear"]]


def test_a_row_that_comes_right_after_a_save_is_not_taken_for_ones_own(recognizer, folder, monkeypatch):
    def then_another(path, text, **options):
        write_text(path, text + "clip5.wav,ben,sad" + "," * (text.split("\n")[0].count(",") - 2) + "\n")

    session = session_on(recognizer, folder, rater="anna")
    monkeypatch.setattr("s3prl_metaperser.listener.ratings_file.write_text", then_another)
    session.label(session.clips.index("clip0.wav"), ["happy"])
    monkeypatch.undo()
    session.label(session.clips.index("clip1.wav"), ["fear"])
    wanted = [["clip0.wav", "anna", "happy"], ["clip5.wav", "ben", "sad"], ["clip1.wav", "anna", "fear"]]
    assert rows(folder / "ratings.csv")[1:] == wanted


def test_a_failed_save_changes_nothing(visitor, folder, monkeypatch):
    visitor.tick(0, "happy")
    before = (folder / "ratings.csv").read_bytes()

    def full(*arguments, **options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("s3prl_metaperser.listener.ratings_file.write_text", full)
    answer, page = visitor.tick(1, "sad")
    assert answer.status == 400
    assert "No space left" in page.decode()
    monkeypatch.undo()
    assert (folder / "ratings.csv").read_bytes() == before
    assert 1 not in visitor.session.view().answers
    visitor.tick(2, "fear")
    assert [row[2] for row in rows(folder / "ratings.csv")[1:]] == ["happy", "fear"]


TEXT_BROWSER = """
import http.client, json, os, pathlib, re, sys, time, urllib.parse, urllib.request
file = pathlib.Path(urllib.request.url2pathname(urllib.parse.urlsplit(sys.argv[1]).path))
address = urllib.parse.urlsplit(re.search(r'href="(.+?)"', file.read_text())[1])
connection = http.client.HTTPConnection(address.hostname, address.port, timeout=300)
connection.request("GET", f"{address.path}?{address.query}")
answer = connection.getresponse()
cookie = answer.headers["Set-Cookie"].split(";")[0]
answer.read()
connection.request("GET", answer.headers["Location"], headers={"Cookie": cookie})
seen = {"arguments": sys.argv[1:], "status": connection.getresponse().status, "key": address.query[4:]}
print(json.dumps({**seen, "mode": oct(file.stat().st_mode & 0o777), "file": str(file)}), flush=True)
parent = os.getppid()
while os.getppid() == parent:  # in the foreground, until its user leaves it
    time.sleep(0.02)
"""


def deaf():
    """As a script's background job inherits it, and worse."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM])
def test_the_command_serves_a_text_browser_that_is_told_no_secret_and_ends_however_it_was_started(
    folder, tmp_path, ending
):
    model = random_model(tmp_path / "a model")
    (folder / "ratings.csv").write_text("file,rater,label\nclip1.wav,anna,happy\ngone.wav,anna,sad\n")
    (tmp_path / "browser.py").write_text(TEXT_BROWSER)
    line = [sys.executable, "-m", "s3prl_metaperser.cli", "listen", str(model), "--clips", str(folder), "--port", "0"]
    browser_line = f"{sys.executable} {tmp_path / 'browser.py'} %s"
    process = subprocess.Popen(
        line,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=deaf,
        env={**os.environ, "BROWSER": browser_line, "XDG_RUNTIME_DIR": str(tmp_path)},
    )
    watchdog = threading.Timer(300, process.kill)
    watchdog.start()
    try:
        said = [process.stdout.readline() for _ in range(4)]
        assert said[0].startswith("8 clips, 1 labelled; labels are saved to ")
        assert said[1].startswith("open http://127.0.0.1:")
        seen = json.loads(said[3])
        assert seen["status"] == 200
        assert seen["key"] in said[1]
        assert seen["key"] not in seen["arguments"][0]
        assert seen["mode"] == "0o600"
        process.send_signal(ending)
        rest, complaints = process.communicate(timeout=300)
    finally:
        watchdog.cancel()
        process.kill()
        process.wait()
    assert process.returncode == 0, complaints
    assert not Path(seen["file"]).exists()
    assert "1 rated file(s)" in complaints
    assert "1 labelled clips in" in rest
    assert f" adapt '{model}' --ratings {folder / 'ratings.csv'} --out LISTENER" in rest
    assert "Traceback" not in complaints


def test_a_browser_that_cannot_be_opened_is_said_and_the_page_is_served(visitor, monkeypatch, capsys):
    import webbrowser

    for opened in (False, webbrowser.Error("could not locate runnable browser")):
        monkeypatch.setattr(webbrowser, "open", Mock(side_effect=[opened]))
        monkeypatch.setattr(visitor.server, "serve_forever", lambda: [t.join() for t in browser_threads()])
        serving.serve(visitor.server, browser=True)
        assert "open the address yourself" in capsys.readouterr().err
    monkeypatch.setattr(serving, "_own_folder", lambda: "/nowhere")
    serving.serve(visitor.server, browser=True)
    assert "no browser is opened" in capsys.readouterr().err


def browser_threads():
    return [thread for thread in threading.enumerate() if thread.name == "browser"]


def test_who_is_behind_a_connection_is_known_and_other_users_are_refused(visitor, monkeypatch):
    with socket.create_connection(visitor.server.server_address) as connection:
        found = peer.user_behind(connection.getsockname(), connection.getpeername())
        assert found == (os.getuid() if peer._TABLE.exists() else None)
    mine = 1000
    monkeypatch.setattr(os, "getuid", lambda: mine)
    for user, status in ((mine, 200), (0, 200), (None, 200), (1001, 403)):
        monkeypatch.setattr(peer, "user_behind", lambda *ends, user=user: user)
        assert visitor.ask("GET", "/")[0].status == status, "with the right cookie"
        assert visitor.tick(0, "happy")[0].status == (403 if status == 403 else 303)
    mine = 0
    assert visitor.ask("GET", "/")[0].status == 200, "root's session in a user's browser"


def test_cookies_of_other_servers_of_this_machine_do_not_keep_anybody_out(visitor):
    for others in ('a={"b": 1}; ', "x; =; ;", "[a]=b; ", f"{visitor.server.cookie}=old; ", "\xe9=\xff; "):
        assert visitor.ask("GET", "/", Cookie=others + visitor.cookie)[0].status == 200
    assert visitor.ask("GET", "/", Cookie=f"x{visitor.cookie}")[0].status == 403


def test_ratings_are_their_listeners_own_unless_the_folder_is_shared(recognizer, folder):
    ratings, old = folder / "ratings.csv", os.umask(0o002)
    try:
        for mode, wanted in ((0o755, 0o600), (0o775, 0o660), (0o777, 0o664), (0o1777, 0o600)):
            folder.chmod(mode)
            ratings.unlink(missing_ok=True)
            session_on(recognizer, folder).label(0, "happy")
            assert ratings.stat().st_mode & 0o777 == wanted, oct(mode)
        ratings.chmod(0o640)
        session_on(recognizer, folder).label(1, "sad")
        assert ratings.stat().st_mode & 0o777 == 0o640, "what its owner chose stays"
        real = ratings.rename(folder / "real.csv")
        ratings.symlink_to("real.csv")
        session_on(recognizer, folder).label(2, "fear")
        assert ratings.is_symlink()
        assert len(rows(real)) == 4
    finally:
        os.umask(old)


def test_a_connection_that_breaks_says_nothing_on_the_terminal(visitor, capfd):
    for sent in (b"GET / HT", b"POST /clip/0 HTTP/1.1\r\nContent-Length: 50\r\n\r\nab", b""):
        connection = socket.create_connection(visitor.server.server_address)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # ends by a reset
        connection.sendall(sent)
        connection.close()
    assert "Clip" in visitor.page("/clip/0")
    assert capfd.readouterr().err == ""
