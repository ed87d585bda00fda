"""Decoder processes: which files need one, and what becomes of those that end it."""

import io
import os
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
import soundfile
from PIL import Image

from suite.contracts.plain_files import is_plain_image, is_plain_recording
from suite.data import recordings
from suite.data.preprocessing import image
from suite.errors import InputError
from suite.runtime import decoders
from tests import hostile
from tests.conftest import ROOT


def sound(kind, subtype=None):
    samples = 0.5 * np.sin(np.arange(4000) / 5)
    file = io.BytesIO()
    soundfile.write(file, samples, 8000, format=kind, subtype=subtype)
    return file.getvalue()


USUAL = [
    hostile.image("PNG"),
    hostile.image("JPEG"),
    hostile.image("JPEG", progressive=True, size=(300, 200)),
    hostile.image("JPEG", exif=Image.Exif()),
]
OTHERS = [hostile.image(kind) for kind in ("GIF", "WEBP", "BMP")]
UNPROVEN = {
    "scans": hostile.scans(200, 40),
    "segments": hostile.segments(300),
    "chunks": hostile.chunks(300),
    "notes": hostile.notes(3000, 60_000),
    "arithmetic": hostile.image("JPEG").replace(b"\xff\xc0", b"\xff\xc9", 1),
    "cut": hostile.image("JPEG")[:50],
}


@pytest.mark.parametrize("data", USUAL, ids=range(len(USUAL)))
def test_usual_images_are_decoded_where_they_are_asked_for(data, tmp_path):
    assert is_plain_image(data)
    (tmp_path / "a.image").write_bytes(data)
    assert is_plain_image(str(tmp_path / "a.image"))


@pytest.mark.filterwarnings("ignore:Tag data larger")
@pytest.mark.parametrize("data", [*OTHERS, *UNPROVEN.values()], ids=["GIF", "WEBP", "BMP", *UNPROVEN])
def test_images_without_a_proof_are_decoded_alike_in_a_process(data, tmp_path):
    assert not is_plain_image(data)
    here = image.decode.__wrapped__
    (tmp_path / "a.image").write_bytes(data)
    for value in (data, str(tmp_path / "a.image")):
        try:
            expected = here(value)
        except InputError as error:
            with pytest.raises(InputError) as found:
                image.decode(value)
            assert str(found.value) == str(error)
            continue
        np.testing.assert_array_equal(image.decode(value), expected)
        assert image.dimensions(value) == expected.shape[:2]
        assert image.examine(value) == image._examined.__wrapped__(value)


@pytest.mark.parametrize(
    "data, plain",
    [
        *((sound("WAV", subtype), True) for subtype in ("PCM_U8", "PCM_16", "PCM_24", "FLOAT", "ULAW", "ALAW")),
        (sound("WAVEX", "PCM_24"), True),
        *((sound(*kind), False) for kind in (("FLAC",), ("OGG",), ("OGG", "OPUS"), ("MP3",))),
        (hostile.wav_chunks(100), False),
    ],
)
def test_recordings_are_decoded_alike_in_a_process(data, plain, tmp_path):
    assert is_plain_recording(data) is plain
    (tmp_path / "a.sound").write_bytes(data)
    path = str(tmp_path / "a.sound")
    expected = recordings.decode.__wrapped__(data, 4000)
    for value in (data, path):
        np.testing.assert_array_equal(recordings.decode(value, 4000), expected)
    assert recordings.extent(path) == recordings.extent.__wrapped__(path)
    assert recordings.examine(path, 4000, 1, 10.0) == ""
    piece = recordings.Piece(path, 0.01, 0.02)
    np.testing.assert_array_equal(recordings.decode(piece, 4000), recordings.decode.__wrapped__(piece, 4000))


def test_a_rate_that_no_recording_has_is_refused_before_it_is_resampled():
    with pytest.raises(recordings.Unusable, match="1,000,000 samples a second"):
        recordings.decode(hostile.wav([1] * 100, 2**31 - 1), 8000)
    with pytest.raises(recordings.Unusable, match="no samples at 8,000"):
        recordings.decode(hostile.wav([1] * 40, 900_000), 8000)


def test_scans_take_no_longer_than_the_clock_allows():
    """Left out in training, refused in requests; the next image is decoded."""
    bomb, begun = hostile.scans(30_000), time.monotonic()
    with decoders.within(time.monotonic() + 60, 1.0), pytest.raises(decoders.Ended, match="1 s of processor time"):
        image.decode(bomb)
    with decoders.within(time.monotonic() + 0.5, 60.0), pytest.raises(decoders.Ended, match="too long"):
        image.decode(bomb)
    with decoders.within(time.monotonic() + 0.5, 60.0):
        assert image.examine(bomb) == ("decoding had to be ended", ())
    assert time.monotonic() - begun < 60
    assert image.decode(OTHERS[0]).shape == (12, 10, 3)


def test_memory_is_bounded():
    with pytest.raises(InputError):
        image.decode(hostile.wide_webp())
    with pytest.raises(decoders.Ended, match="GiB of memory"):
        decoders.call("array", np.zeros, decoders.MEMORY)
    assert image.decode(OTHERS[0]).shape == (12, 10, 3)


def dying(number):
    os.kill(os.getpid(), number)


def failing():
    raise KeyError("of a parser")


def answering(value):
    return value


def refusing(reason):
    raise recordings.Unusable(reason, "there", "it is so", found="that", fix="this")


@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGABRT, signal.SIGKILL, signal.SIGBUS])
def test_a_decoder_that_dies_is_told_of_and_replaced(number):
    with pytest.raises(decoders.Ended, match=f"a.gif: ends the process that reads it by {number.name}"):
        decoders.call("a.gif", dying, number)
    assert decoders.call("b.gif", answering, 1) == 1


def test_what_is_raised_and_returned_comes_back():
    value = ("a", [1, 2.5, None], {"x": (True, np.arange(6.0).reshape(2, 3))}, np.zeros((0, 2), np.int32))
    again = decoders.call("it", answering, value)
    assert again[:2] == value[:2] and again[2]["x"][0] is True
    np.testing.assert_array_equal(again[2]["x"][1], value[2]["x"][1])
    assert again[3].shape == (0, 2) and again[3].dtype == np.int32
    with pytest.raises(recordings.Unusable) as error:
        decoders.call("it", refusing, "so")
    assert (error.value.reason, str(error.value)) == ("so", "there: it is so\n  found: that\n  try:   this")
    with pytest.raises(decoders.Ended, match="KeyError: 'of a parser'"):
        decoders.call("it", failing)


def test_a_decoder_killed_while_it_is_idle_costs_no_file():
    pid = decoders.call("it", os.getpid)
    os.kill(pid, signal.SIGKILL)
    time.sleep(0.1)
    assert decoders.call("it", os.getpid) != pid


def test_what_may_not_wait_is_told_so():
    with decoders.never(), pytest.raises(decoders.Elsewhere):
        image.decode(OTHERS[0])
    with decoders.never():
        assert image.decode(USUAL[0]).shape == (12, 10, 3)


def test_one_who_finds_no_decoder_in_time_is_told_so():
    threads = [threading.Thread(target=decoders.call, args=("it", time.sleep, 1.0)) for _ in range(decoders.SIZE)]
    for thread in threads:
        thread.start()
    time.sleep(0.2)
    with decoders.within(time.monotonic() + 0.1, 1.0), pytest.raises(decoders.Busy):
        decoders.call("it", answering, 1)
    for thread in threads:
        thread.join()


def test_a_decoder_loads_no_jax_and_is_given_no_secret(monkeypatch):
    monkeypatch.setenv("SUITE_TOKEN", "secret")
    for _ in range(decoders.SIZE):  # whichever is taken is a new one
        with pytest.raises(decoders.Ended):
            decoders.call("it", dying, signal.SIGKILL)
    recordings.decode(sound("FLAC"), 8000)
    image.decode(OTHERS[0])
    loaded, variables = decoders.call("it", sorted_modules), decoders.call("it", list_environment)
    assert "PIL" in loaded and not {"jax", "flax", "grain", "tensorflow"} & set(loaded)
    assert not [name for name in variables if "TOKEN" in name and name != "TOKENIZERS_PARALLELISM"]


def sorted_modules():
    return sorted(sys.modules)


def list_environment():
    return sorted(os.environ)


def test_decoders_end_with_the_process_that_asks():
    """Also where it is killed."""
    code = (
        "import os, signal; from suite.runtime import decoders; pid = decoders.call('it', os.getpid); "
        "print(pid, flush=True); os.kill(os.getpid(), signal.SIGKILL)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    pid, until = int(done.stdout), time.monotonic() + 20
    while time.monotonic() < until:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return
        with open(f"/proc/{pid}/stat") as file:
            if file.read().rpartition(")")[2].split()[0] == "Z":  # nobody has asked for its exit code yet
                return
        time.sleep(0.1)
    pytest.fail(f"decoder {pid} lives on")
