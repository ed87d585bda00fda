"""Versions that change and servers that stop, with requests on their way: none is lost, none is answered by another."""

import json
import os
import shutil
import signal
import socket
import threading
import time
from pathlib import Path

import pytest

from suite.errors import InputError
from suite.serving.server import read_token
from suite.serving.snapshots import Copy, sweep
from tests.serving.asking import Serving, same
from tests.serving.conftest import bundle

SIZES = ("--sizes", "1", "4")


class Asking(threading.Thread):
    """Clients on connections of their own that ask until they are told to end; what they were told."""

    def __init__(self, server, name, record, count=4):
        super().__init__(daemon=True)
        self.server, self.name_, self.body = server, name, json.dumps({"inputs": [record]})
        self.answers, self.others, self.lost = [], [], 0
        self.over = threading.Event()
        self.clients = [threading.Thread(target=self.client, daemon=True) for _ in range(count)]
        for client in self.clients:
            client.start()

    def client(self):
        import http.client

        connection = None
        while not self.over.is_set():
            try:
                if connection is None:
                    connection = self.server.connect(10)
                    connection.connect()
            except OSError:  # nobody listens any more: nothing was sent
                return
            try:
                connection.request(
                    "POST", f"/v1/models/{self.name_}:predict", self.body, {"Content-Type": "application/json"}
                )
                response = connection.getresponse()
                made = response.status, json.loads(response.read())
            except (OSError, http.client.HTTPException):
                self.lost += 1
                return
            (self.answers if made[0] == 200 else self.others).append(made)
            if response.getheader("connection") == "close":
                connection.close()
                connection = None

    def end(self):
        self.over.set()
        for client in self.clients:
            client.join(20)


@pytest.fixture(scope="module")
def second(bundles, tmp_path_factory):
    """Another version of the model ``words``."""
    return bundle(tmp_path_factory.mktemp("second"), "words", version=2)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_requests_on_their_way_are_answered_before_the_end(bundles, number):
    with Serving(bundles["clicks"], *SIZES) as server:
        asking = Asking(server, "clicks", {"shop": "a"})
        time.sleep(0.5)
        begun = time.perf_counter()
        code = server.stop(number)
        assert time.perf_counter() - begun < 20
        asking.end()
        assert code == 0, "".join(server.log)
        assert asking.answers and not asking.others and asking.lost == 0
        assert "stopped" in server.log[-1]
        with pytest.raises(OSError):
            socket.create_connection(("127.0.0.1", server.port), 1)


def test_a_request_whose_body_is_still_coming_is_answered(bundles):
    with Serving(bundles["clicks"], *SIZES) as server, socket.create_connection(("127.0.0.1", server.port)) as made:
        body = b'{"inputs": [{"shop": "a"}]}'
        made.sendall(
            b"POST /v1/models/clicks:predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            b"Content-Length: %d\r\n\r\n" % len(body)
        )
        time.sleep(0.2)
        server.process.send_signal(signal.SIGTERM)
        time.sleep(0.5)
        made.sendall(body)
        received = b""
        while chunk := made.recv(65536):
            received += chunk
        assert received.startswith(b"HTTP/1.1 200 ") and b"connection: close" in received
        assert server.process.wait(20) == 0


def test_what_takes_longer_than_the_drain_is_told_so(bundles):
    with (
        Serving(bundles["clicks"], *SIZES, "--drain-s", "1") as server,
        socket.create_connection(("127.0.0.1", server.port)) as made,
    ):
        made.sendall(b"POST /v1/models/clicks:predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n")
        time.sleep(0.2)
        begun = time.perf_counter()
        assert server.stop() == 0
        assert time.perf_counter() - begun < 25  # of --body-s it would be 30
        answer, log = made.recv(65536), "".join(server.log)
        assert answer.startswith(b"HTTP/1.1 503 ") and b'"stopping"' in answer and b"connection: close" in answer
        assert "a request for clicks:predict is given up: all of its body did not come before the end" in log
        assert "Traceback" not in log


def test_a_new_version_takes_over_without_a_lost_or_a_wrong_answer(bundles, second, opened, tmp_path):
    from suite.bundles.bundle import Bundle

    text = "a fine and moving film number 3"
    expected = {made.version: made.predict([text])[0] for made in (opened["words"], Bundle.open(second))}
    assert len({json.dumps(each) for each in expected.values()}) == 2, "the two answer differently"
    link = tmp_path / "current"
    link.symlink_to(bundles["words"])
    with Serving(f"film={link}", *SIZES, "--watch-s", "0.2") as server:
        asking = Asking(server, "film", text)
        time.sleep(0.5)
        (tmp_path / "next").symlink_to(second)
        os.replace(tmp_path / "next", link)
        until = time.monotonic() + 120
        while len({made["version"] for _, made in asking.answers[-5:]}) != 1 or (
            asking.answers[-1][1]["version"] == opened["words"].version
        ):
            assert time.monotonic() < until, "".join(server.log)
            time.sleep(0.05)
        asking.end()
        assert asking.lost == 0 and not asking.others
        versions = [made["version"] for _, made in asking.answers]
        assert set(versions) == set(expected)
        for _, made in asking.answers:
            assert made["model"] == "film"
            wanted = expected[made["version"]]
            assert made["answers"][0]["label"] == wanted["label"]
            assert made["answers"][0]["top"] == pytest.approx(wanted["top"], abs=1e-4)
        status, about = server.get("/v1/models/film")
        assert (status, about["version"]) == (200, Bundle.open(second).version)


def test_a_bad_version_is_refused_and_the_old_one_stays(bundles, second, opened, tmp_path):
    place = tmp_path / "words"
    shutil.copytree(bundles["words"], place)
    with Serving(tmp_path, *SIZES, "--watch-s", "0.2") as server:
        with open(place / "weights.safetensors", "r+b") as file:
            file.seek(-1, os.SEEK_END)
            file.write(b"\x7f")
        assert "was changed: its checksum differs" in refusal(server, "changed")
        made = server.post("words", {"inputs": ["a fine and moving film"]})[1]
        assert made["version"] == opened["words"].version
        assert same(made["answers"], opened["words"].predict(["a fine and moving film"]))
        metrics = server.request("GET", "/metrics")[2].decode()
        assert 'suite_swaps_total{model="words",result="refused"} 1.0' in metrics
        shutil.rmtree(place)
        shutil.copytree(bundles["clicks"], place)
        assert "is that of another model" in refusal(server, "another")
        assert len(list(Path(server.folder).glob("suite-serve-*"))) == 1, "of what is refused no copy is kept"
        shutil.rmtree(place)
        os.rename(shutil.copytree(second, tmp_path / "partial"), place)
        server.process.send_signal(signal.SIGHUP)
        until = time.monotonic() + 120
        while server.get("/v1/models/words")[1]["version"] == opened["words"].version:
            assert time.monotonic() < until, "".join(server.log)
            time.sleep(0.05)
        assert "refused" not in server.get("/v1/models/words")[1]
        assert server.stop() == 0


def test_versions_that_nobody_trusted_has_signed(bundles, second, opened, tmp_path):
    """With --trust: at the start, and whenever another version is put in place."""
    from suite.bundles import signing

    ed25519 = pytest.importorskip("cryptography.hazmat.primitives.asymmetric.ed25519")
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    signers = []
    for _ in range(2):
        key = ed25519.Ed25519PrivateKey.generate()
        signers.append(signing.Signer(key, key.public_key().public_bytes_raw()))
    trusted = tmp_path / "trusted.pem"
    trusted.write_bytes(signers[0].key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    place = tmp_path / "words"
    shutil.copytree(bundles["words"], place)
    with Serving(place, *SIZES, "--trust", trusted, wait=False) as server:
        assert server.process.wait(60) == 2
        assert "is not signed, and only bundles that are signed by a trusted key" in "".join(server.log)
    signing.sign(place, signers[0])
    with Serving(place, *SIZES, "--trust", trusted, "--watch-s", "0.2") as server:
        for number, (signer, word) in enumerate(
            [(None, "is not signed"), (signers[1], "is signed by a key that is not")]
        ):
            new = shutil.copytree(second, tmp_path / f"new-{number}")
            if signer is not None:
                signing.sign(new, signer)
            os.rename(place, tmp_path / f"old-{number}")
            os.rename(new, place)
            refusal(server, word)
        assert server.post("words", {"inputs": ["a film"]})[1]["version"] == opened["words"].version
        signing.sign(place, signers[0])
        until = time.monotonic() + 120
        while (about := server.get("/v1/models/words")[1])["version"] == opened["words"].version:
            assert time.monotonic() < until, "".join(server.log)
            time.sleep(0.05)
        assert about["signed_by"] == signers[0].id and signers[0].id in about["card"] and "refused" not in about


def refusal(server, word):
    """Why the newest version is not served, once it is not, in a message with ``word``."""
    until = time.monotonic() + 120
    while time.monotonic() < until:
        if word in (why := server.get("/v1/models/words")[1].get("refused", "")):
            return why
        time.sleep(0.05)
    raise AssertionError("".join(server.log))


def test_the_token(bundles, tmp_path):
    file = tmp_path / "token"
    file.write_text("secret-7\n")
    with Serving(bundles["clicks"], *SIZES, "--token-file", file) as server:
        expected = {
            "code": "unauthorized",
            "message": "the bearer token is missing or wrong.",
            "fix": "Authorization: Bearer TOKEN",
        }
        for headers in ({}, {"Authorization": "Bearer secret"}, {"Authorization": "secret-7"}):
            assert server.error("clicks", {"inputs": [{"shop": "a"}]}, **headers) == (401, expected)
            for path in ("/v1/models", "/v1/models/clicks", "/metrics", "/openapi.json", "/nothing"):
                status, answered, _ = server.request("GET", path, headers=headers)
                assert status == 401 and answered["www-authenticate"] == 'Bearer realm="suite"'
        for path in ("/", "/page/page.js", "/healthz", "/readyz"):
            assert server.request("GET", path)[0] == 200
        right = {"Authorization": "Bearer secret-7"}
        assert server.post("clicks", {"inputs": [{"shop": "a"}]}, **right)[0] == 200
        assert server.get("/v1/models", **right)[0] == 200
        metrics = server.request("GET", "/metrics", headers=right)[2].decode()
        assert 'suite_requests_total{code="401",model="clicks",program="predict"} 3.0' in metrics
        assert "token" in server.get("/openapi.json", **right)[1]["components"]["securitySchemes"]


def test_a_full_queue_and_a_deadline(bundles):
    """Who asks for more than is computed is refused; what is accepted is answered, unless it is wanted too soon."""
    with Serving(bundles["words"], "--sizes", "1", "--queue", "64") as server:
        found = []

        def one():
            found.append(server.post("words", {"inputs": ["a fine film"] * 64}))

        threads = [threading.Thread(target=one) for _ in range(12)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert {status for status, _ in found} == {200, 429}
        refused = next(made["error"] for status, made in found if status == 429)
        assert refused["code"] == "queue_full" and refused["fix"] == "send it again after a moment"
        assert all(len(made["answers"]) == 64 for status, made in found if status == 200)
        status, made = server.post("words", {"inputs": ["a fine film"] * 64}, X_Request_Timeout="0.001")
        assert (status, made["error"]["message"]) == (504, "not answered within 0.001 s.")
        assert server.ask("words", ["a fine and moving film"])


def test_mistakes_on_the_command_line(bundles, refused, tmp_path):
    words = bundles["words"]
    assert refused("serve") == (
        "suite serve: BUNDLE: is missing.\n  try:   suite export runs/reviews --to bundles/reviews\n"
    )
    assert refused("serve", "nowhere") == (
        'suite serve: bundle "nowhere": is no folder.\n  try:   the folder that suite export printed last\n'
    )
    assert refused("serve", tmp_path).startswith(f'suite serve: bundle "{tmp_path}": is none: it has no bundle.json.')
    assert refused("serve", words, words) == (
        'suite serve: model name "words": is that of two bundles.\n'
        f"  found: {words}, {words}\n"
        f"  try:   suite serve OTHER_NAME={words}\n"
    )
    assert refused("serve", f"a b={words}") == (
        f'suite serve: model name "a b": is none for an address.\n  try:   suite serve NAME={words}\n'
    )
    assert refused("serve", words, "--queue", "3") == (
        "suite serve: flag --queue: holds fewer records than one request may have.\n"
        "  found: 3, with --max-records 64\n"
        f"  try:   suite serve {words} --queue 64\n"
    )
    assert refused("serve", words, "--sizes", "4", "2") == (
        "suite serve: flag --sizes: must be rising batch sizes.\n  found: 4 2\n"
        f"  try:   suite serve {words} --sizes 1 2 4 8 16 32\n"
    )
    assert "--prot" in refused("serve", words, "--prot", "80")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert refused("serve", words, "--port", port) == (
            f"suite serve: address 127.0.0.1:{port}: cannot be listened at.\n"
            f"  found: Address already in use\n  try:   suite serve {words} --port {port + 1}\n"
        )


def test_no_copy_outlives_its_server(bundles, tmp_path):
    """A server that is killed leaves its own; the next one removes it, and only it."""
    copies = lambda: sorted(path.name for path in tmp_path.glob("suite-serve-*"))
    with Serving(bundles["clicks"], "--sizes", "1", TMPDIR=str(tmp_path)) as server:
        (left,) = copies()
        server.process.kill()
        server.process.wait()
    with Serving(bundles["clicks"], "--sizes", "1", TMPDIR=str(tmp_path)) as server:
        assert left not in copies() and len(copies()) == 1
        copy = Copy(bundles["clicks"])
        sweep()
        assert copy.folder.is_dir()
        copy.remove()
        assert not copy.folder.exists()
        assert server.ask("clicks", [{"shop": "a"}]) and server.stop() == 0
    assert copies() == []


def test_where_the_token_comes_from(tmp_path, monkeypatch):
    monkeypatch.setenv("SUITE_TOKEN", " from-the-environment ")
    assert read_token("") == "from-the-environment"
    (tmp_path / "token").write_text("from-a-file\n")
    assert read_token(str(tmp_path / "token")) == "from-a-file"
    for content in ("", "two words", "naïve"):
        (tmp_path / "token").write_text(content)
        with pytest.raises(InputError, match="holds no token: one word of ASCII characters"):
            read_token(str(tmp_path / "token"))
    with pytest.raises(InputError, match="cannot be read"):
        read_token(str(tmp_path / "none"))
