"""Files that would occupy, fill or end what decodes them, sent to a server, which answers them and others in words."""

import base64
import threading
import time

import psutil
import pytest

from tests import hostile
from tests.serving.conftest import png
from tests.serving.test_limits import sound


def answer(server, data, **headers):
    """(status, code of the error, seconds)"""
    begun = time.monotonic()
    status, body = server.post("digits", data, "image/jpeg", **headers)
    return status, body.get("error", {}).get("code"), time.monotonic() - begun


def test_scans_without_end_keep_no_image_waiting(server):
    """As many at once as there are decoders; each is refused in words before its deadline, and nothing else waits."""
    bomb, found = hostile.scans(30_000), []
    send = lambda: found.append(answer(server, bomb, X_Request_Timeout="3"))
    threads = [threading.Thread(target=send) for _ in range(4)]
    for thread in threads:
        thread.start()
    time.sleep(0.5)
    for _ in range(5):
        status, code, seconds = answer(server, png())
        assert status == 200 and seconds < 2.5, (status, code, seconds)
    for thread in threads:
        thread.join()
    assert all(status in (422, 429) for status, _, _ in found) and (422, "undecodable") in {one[:2] for one in found}
    assert max(seconds for *_, seconds in found) < 4
    assert answer(server, hostile.image("GIF"))[0] == 200


@pytest.mark.parametrize(
    "data", [hostile.segments(200_000), hostile.chunks(200_000), hostile.notes(3000, 60_000), hostile.wide_webp()]
)
def test_what_a_header_multiplies_is_bounded(server, data):
    status, code, _ = answer(server, data)
    assert status == 200 or 400 <= status < 500, (status, code)
    assert answer(server, png())[0] == 200


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "BMP"])
def test_images_from_decoder_processes_are_answered_as_they_are_here(server, opened, kind):
    data = hostile.image(kind, (8, 8))
    assert server.ask("digits", [base64.b64encode(data).decode()]) == server.ask("digits", [_as_png(data)])


def _as_png(data):
    import io

    from PIL import Image

    file = io.BytesIO()
    Image.open(io.BytesIO(data)).convert("RGB").save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


@pytest.mark.parametrize("kind", ["FLAC", "OGG", "MP3"])
def test_recordings_from_decoder_processes_are_answered(server, kind):
    data = sound([0.1, -0.1] * 2000, format=kind)
    assert "answers" in server.post("sounds", data, "audio/wav")[1]


def test_a_decoder_that_is_killed_costs_no_request(server):
    answer(server, hostile.image("GIF"))
    living = [
        child for child in psutil.Process(server.process.pid).children() if child.status() != psutil.STATUS_ZOMBIE
    ]  # what trials are forked from has ended, if nothing was asked of it for a minute
    children = [child for child in living if "decoder" in " ".join(child.cmdline())]
    assert children
    for child in children:
        child.kill()
    assert answer(server, hostile.image("GIF"))[0] == 200
