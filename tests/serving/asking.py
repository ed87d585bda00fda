"""A server in a process of its own, and ways to ask it."""

import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import pytest

from tests import forked
from tests.conftest import ROOT

MULTIPART = "multipart/form-data; boundary=xyz"


class Serving:
    """`suite serve` on a free port, from the moment it is ready; ends it on leaving."""

    def __init__(self, *arguments, wait=True, cwd=ROOT, **environment):
        command = [sys.executable, "-m", "suite", "serve", *map(str, arguments), "--port", "0"]
        self.lines, self.log = [], []
        self.folder = tempfile.mkdtemp()  # of its copies, which it can't remove where it is killed
        path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH", ""))))
        self.process = forked.process(
            command,
            cwd=cwd,
            env={**os.environ, "TMPDIR": self.folder, "PYTHONPATH": path, **environment},
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        threading.Thread(target=self._drain, daemon=True).start()
        if wait:
            line = self.process.stdout.readline()
            assert line.startswith("serving "), "".join(self.log)
            self.lines.append(line.strip())
            self.port = int(line.rsplit(":", 1)[1].strip(" /\n"))

    def _drain(self):
        self.log.extend(self.process.stderr)

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.process.kill()
        self.process.wait()
        shutil.rmtree(self.folder)

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"

    @property
    def resident(self):
        """MiB of memory that it holds."""
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 2**20

    def connect(self, timeout=30):
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)

    def request(self, method, path, body=None, headers=(), timeout=30):
        """(status, headers, body) of a request on a connection of its own."""
        connection = self.connect(timeout)
        try:
            connection.request(method, path, body, dict(headers))
            response = connection.getresponse()
            return response.status, dict(response.getheaders()), response.read()
        finally:
            connection.close()

    def get(self, path, **headers):
        status, _, body = self.request("GET", path, headers=headers)
        return status, json.loads(body)

    def post(self, name, body, media="application/json", **headers):
        """(status, answer) of a request for the model ``name``; a value that is no bytes goes as JSON."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        named = {key.replace("_", "-"): value for key, value in headers.items()}
        status, _, made = self.request("POST", f"/v1/models/{name}:predict", data, {"Content-Type": media, **named})
        return status, json.loads(made)

    def ask(self, name, inputs):
        """Answers to JSON records, which must come."""
        status, made = self.post(name, {"inputs": inputs})
        assert status == 200, made
        return made["answers"]

    def error(self, name, body, media="application/json", **headers):
        """(status, error) of a request that must be refused as the client's fault."""
        status, made = self.post(name, body, media, **headers)
        assert 400 <= status < 500, made
        return status, made["error"]

    def raw(self, *parts, pause=0.0, timeout=20):
        """All that comes back for bytes sent as they are."""
        import time

        with socket.create_connection(("127.0.0.1", self.port), timeout) as made:
            for part in parts:
                made.sendall(part)
                time.sleep(pause)
            received = b""
            while chunk := made.recv(65536):
                received += chunk
            return received

    def stop(self, number=signal.SIGTERM, timeout=60):
        self.process.send_signal(number)
        return self.process.wait(timeout)


def same(made, expected):
    """Whether answers to the same records are the same: the same names, numbers equal to rounding."""
    assert len(made) == len(expected)
    for one, other in zip(made, expected, strict=True):
        assert one.keys() == other.keys()
        for key, value in one.items():
            number = isinstance(value, float | dict)
            assert value == (pytest.approx(other[key], abs=1e-4) if number else other[key])
    return True


def form(*parts):
    """A multipart body: (name, content) is a field, (name, file name, content) a file."""
    lines = []
    for name, *more in parts:
        file = f'; filename="{more[0]}"' if len(more) > 1 else ""
        content = more[-1] if isinstance(more[-1], bytes) else more[-1].encode()
        lines.append(f'--xyz\r\nContent-Disposition: form-data; name="{name}"{file}\r\n\r\n'.encode() + content)
    return b"\r\n".join([*lines, b"--xyz--\r\n"])
