"""Bad requests: each is told what was wrong, none harms another, and memory stays bounded."""

import base64
import io
import json
import struct
import time
import zlib

import pytest
from PIL import Image

from suite.contracts.values import AUDIO_READ
from tests.serving.asking import MULTIPART, Serving, form, same
from tests.serving.conftest import png, tone

HEAD = b"POST /v1/models/words:predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
GOOD = b'{"inputs": ["a film"]}'


@pytest.fixture(scope="module")
def strict(bundles):
    """A server with limits that tests can reach."""
    with Serving(
        bundles["words"],
        bundles["digits"],
        bundles["sounds"],
        bundles["clicks"],
        "--sizes",
        "1",
        "4",
        "--max-body-bytes",
        "100000",
        "--max-records",
        "4",
        "--max-characters",
        "200",
        "--max-pixels",
        "10000",
        "--max-seconds",
        "1",
        "--head-s",
        "1",
        "--body-s",
        "1",
        "--deadline-s",
        "20",
        "--queue",
        "64",
        "--max-connections",
        "40",
        "--max-held-bytes",
        "1000000",
    ) as made:
        yield made
        assert made.process.poll() is None, "it lives on"
        assert not [line for line in made.log if "Traceback" in line or " WARNING " in line], "".join(made.log)


@pytest.fixture(autouse=True)
def still_answers(strict, opened):
    yield
    assert same(strict.ask("words", ["a fine and moving film"]), opened["words"].predict(["a fine and moving film"]))


def bomb(width, height):
    """A PNG of a few bytes whose header promises ``width`` x ``height`` pixels."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"\0" * 1000)) + chunk(b"IEND", b"")
    )


def animation():
    file = io.BytesIO()
    frames = [Image.new("L", (8, 8), 50 * i) for i in range(3)]
    frames[0].save(file, "GIF", save_all=True, append_images=frames[1:])
    return file.getvalue()


TEXTS = [
    ([3], 400, {"code": "wrong_type", "message": "must be a string, not a number.", "field": "inputs[0].review"}),
    (
        ["a", ["b"]],
        400,
        {"code": "wrong_type", "message": "must be a string, not an array.", "field": "inputs[1].review"},
    ),
    (
        [None],
        400,
        {"code": "missing", "message": "a value is missing: a string is wanted.", "field": "inputs[0].review"},
    ),
    ([{}], 400, {"code": "empty", "message": "the record is empty.", "field": "inputs[0]", "fix": "review"}),
    (
        [{"reveiw": "a"}],
        400,
        {"code": "unknown", "message": "is no input of this model.", "field": "inputs[0].reveiw", "fix": "review"},
    ),
    (
        ["a"] * 5,
        400,
        {
            "code": "too_many_records",
            "message": "5 records, of at most 4.",
            "field": "inputs",
            "fix": "send several requests",
        },
    ),
    (
        ["x" * 201],
        400,
        {"code": "text_too_long", "message": "has 201 characters, of at most 200.", "field": "inputs[0].review"},
    ),
    (
        [{"\ud800": "a"}],
        400,
        {"code": "unknown", "message": "is no input of this model.", "field": "inputs[0].\ud800", "fix": "review"},
    ),
    (
        ["ab\ud800"],
        400,
        {
            "code": "invalid_text",
            "field": "inputs[0].review",
            "message": "holds half of a surrogate pair at character 2, which is no text.",
        },
    ),
]
TABLES = [
    (
        [{"price": "3.5"}],
        400,
        {"code": "wrong_type", "message": "must be a number, not a string.", "field": "inputs[0].price"},
    ),
    (
        [{"price": True}],
        400,
        {"code": "wrong_type", "message": "must be a number, not a boolean.", "field": "inputs[0].price"},
    ),
    (
        [{"price": 10**399}],
        400,
        {
            "code": "number_too_large",
            "field": "inputs[0].price",
            "message": "is larger than any number that is computed with.",
        },
    ),
    (
        [{"shop": ["a"]}],
        400,
        {
            "code": "wrong_type",
            "field": "inputs[0].shop",
            "message": "must be a string, a number or a boolean, not an array.",
        },
    ),
    (
        [{"tags": "x1"}],
        400,
        {"code": "wrong_type", "message": "must be an array, not a string.", "field": "inputs[0].tags"},
    ),
    (
        [{"tags": [["x1"]]}],
        400,
        {
            "code": "wrong_type",
            "field": "inputs[0].tags[0]",
            "message": "must be a string, a number or a boolean, not an array.",
        },
    ),
    (
        [{"tags": ["x"] * 1001}],
        400,
        {"code": "list_too_long", "message": "has 1,001 items, of at most 1,000.", "field": "inputs[0].tags"},
    ),
    (
        ["a"],
        400,
        {
            "code": "wrong_type",
            "message": "must be an object, not a string.",
            "field": "inputs[0]",
            "fix": "price, shop, tags",
        },
    ),
]


@pytest.mark.parametrize("inputs, status, error", TEXTS)
def test_texts_that_are_refused(strict, inputs, status, error):
    assert strict.error("words", {"inputs": inputs}) == (status, error)


@pytest.mark.parametrize("inputs, status, error", TABLES)
def test_records_that_are_refused(strict, inputs, status, error):
    assert strict.error("clicks", {"inputs": inputs}) == (status, error)


def test_a_number_that_is_infinite_in_python(strict):
    assert strict.error("clicks", b'{"inputs": [{"price": 1e999}]}') == (
        400,
        {
            "code": "number_too_large",
            "message": "is larger than any number that is computed with.",
            "field": "inputs[0].price",
        },
    )


def test_a_record_whose_answer_is_no_number(strict):
    assert strict.error("clicks", {"inputs": [{"shop": "a"}, {"price": 1e38}]}) == (
        422,
        {
            "code": "no_number",
            "field": "inputs[1]",
            "message": "lies so far from what the model was trained on that its answer is no number.",
        },
    )


def floats():
    """A TIFF whose pixels are no integers."""
    file = io.BytesIO()
    Image.new("F", (8, 8)).save(file, "TIFF")
    return file.getvalue()


IMAGES = [
    (
        b"no image at all",
        400,
        {
            "code": "unreadable_image",
            "field": "inputs[0].image",
            "message": "the file is no image that is read here; PNG, JPEG, BMP, GIF, WEBP, TIFF are.",
        },
    ),
    (bomb(30_000, 30_000), 413, None),
    (
        bomb(101, 100),
        413,
        {
            "code": "too_many_pixels",
            "field": "inputs[0].image",
            "fix": "scale it down",
            "message": "the image is 101 wide, 100 high: 10,100 pixels, of at most 10,000.",
        },
    ),
    (png(1, (90, 90))[:60], 400, None),
    (png(1, (90, 90))[:-30], 400, None),
    (floats(), 400, None),
    (animation()[: animation().index(b",") + 1], 400, None),
    (b"", 400, None),
]


@pytest.mark.parametrize("image, status, error", IMAGES)
def test_images_that_are_refused(strict, image, status, error):
    """In JSON, as a form and as a body; the pixels of none are unpacked."""
    made = [
        strict.error("digits", {"inputs": [base64.b64encode(image).decode()]}),
        strict.error("digits", form(("image", "a.png", image)), MULTIPART),
        strict.error("digits", image, "image/png"),
    ]
    assert all(found == (status, error) if error else found[0] == status for found in made), made
    assert {found["field"] for _, found in made} == {"inputs[0].image"}


def test_of_an_animation_the_first_frame_is_answered(strict):
    animated = strict.ask("digits", [base64.b64encode(animation()).decode()])
    first = io.BytesIO()
    Image.new("L", (8, 8), 0).save(first, "PNG")
    assert animated == strict.ask("digits", [base64.b64encode(first.getvalue()).decode()])


def test_what_is_no_base64(strict):
    assert strict.error("digits", {"inputs": ["!!"]}) == (
        400,
        {
            "code": "invalid_base64",
            "message": "is not base64.",
            "field": "inputs[0].image",
            "fix": "send the file itself, as multipart/form-data or as the body",
        },
    )


def many_channels():
    import numpy as np
    import soundfile

    file = io.BytesIO()
    soundfile.write(file, np.zeros((100, 200)), 8000, format="WAV")
    return file.getvalue()


def sound(samples, rate=8000, **how):
    import soundfile

    file = io.BytesIO()
    soundfile.write(file, samples, rate, **{"format": "WAV", **how})
    return file.getvalue()


def unusable():
    """Recordings whose headers are fine, and that training leaves out: see tests/data/test_recordings.py."""
    import numpy as np

    wave = np.sin(np.arange(800) / 3)
    broken = np.where(np.arange(800) == 100, np.nan, wave)
    return [
        (sound(broken, subtype="FLOAT"), "samples that are not finite"),
        (sound(np.stack([wave, -wave], 1)), "its channels cancel each other"),
        (sound(wave[:3], 900_000), "holds no samples at"),
    ]


@pytest.mark.parametrize("data, problem", unusable(), ids=[problem for _, problem in unusable()])
def test_recordings_that_cannot_be_used_are_refused_by_name(strict, data, problem):
    for status, error in (
        strict.error("sounds", {"inputs": [base64.b64encode(data).decode()]}),
        strict.error("sounds", form(("audio", "a.wav", data)), MULTIPART),
    ):
        assert status == 400 and problem in error["message"] and error["field"] == "inputs[0].audio" and error["fix"]


def lasting(frames, rate):
    """A WAV file whose header promises ``frames``, with no samples behind it."""
    head = b"WAVEfmt " + struct.pack("<IHHIIHH", 16, 1, 1, rate, 2 * rate, 2, 16)
    return b"RIFF" + struct.pack("<I", 36 + 2 * frames) + head + b"data" + struct.pack("<I", 2 * frames)


UNREAD = {
    "code": "unreadable_recording",
    "field": "inputs[0].audio",
    "message": f"the file is no recording that is read here; {AUDIO_READ}.",
}
RECORDINGS = [
    (
        b"RIFFnothing",
        400,
        {
            "code": "unreadable_recording",
            "field": "inputs[0].audio",
            "message": f"the file is no recording that is read here, or a damaged one; {AUDIO_READ}.",
        },
    ),
    (
        tone(300, 1.5),
        413,
        {
            "code": "recording_too_long",
            "message": "the recording lasts 1.5 s, of at most 1.",
            "field": "inputs[0].audio",
            "fix": "cut it into parts",
        },
    ),
    (
        many_channels(),
        413,
        {
            "code": "too_many_channels",
            "message": "the recording has 200 channels, of at most 8.",
            "field": "inputs[0].audio",
            "fix": "mix it down to one",
        },
    ),
    (
        lasting(1000, 2_000_000),
        400,
        {
            "code": "sample_rate_too_high",
            "message": "the recording has 2,000,000 samples a second, of at most 1,000,000.",
            "field": "inputs[0].audio",
            "fix": "resample it",
        },
    ),
    (sound([0.0] * 800, subtype="GSM610"), 400, UNREAD),
    (sound([0.0] * 800, format="AIFF"), 400, UNREAD),
    (sound([0.0] * 800, format="XI", subtype="DPCM_16"), 400, UNREAD),
    (tone()[:30], 400, None),
    (tone()[:44], 400, None),
    (lasting(1 << 30, 8000), None, None),
    (b"", 400, None),
]


@pytest.mark.parametrize("sound, status, error", RECORDINGS)
def test_recordings_that_are_refused(strict, sound, status, error):
    made = [
        strict.error("sounds", {"inputs": [base64.b64encode(sound).decode()]}),
        strict.error("sounds", form(("audio", "a.wav", sound)), MULTIPART),
        strict.error("sounds", sound, "audio/wav"),
    ]
    assert all(found == (status, error) if error else found[0] == (status or found[0]) for found in made), made


BODIES = [
    ("words", GOOD, "", 415, "a body of the type nothing is not read."),
    (
        "words",
        GOOD,
        "application/x-www-form-urlencoded",
        415,
        "a body of the type application/x-www-form-urlencoded is not read.",
    ),
    ("words", png(), "image/png", 415, "a body of the type image/png is not read."),
    ("digits", b"a", "text/plain", 415, "a body of the type text/plain is not read."),
    ("digits", b"image\nx\n", "text/csv", 415, "this model takes files, which a table doesn't hold."),
    ("words", b"\xff\xfe", "text/plain", 400, "is not UTF-8 text (byte 0)."),
    ("words", b"", "text/csv", 400, "table.csv: this file is empty (found: 0 bytes)"),
    ("words", b"review\n", "text/csv", 400, "the table has no record."),
    ("words", b"other\na\n", "text/csv", 400, 'input "review": is missing. (found: other)'),
    ("words", b"rewiev\na\n", "text/csv", 400, 'input "rewiev": is no input of this model.'),
    ("words", b'{"rewiev": "a"}\n', "application/jsonl", 400, 'input "rewiev": is no input of this model.'),
    ("clicks", b"price,shop\n1,a\n", "text/csv", 400, 'input "tags": is missing. (found: price, shop)'),
    ("words", b"review,stars\na\n", "text/csv", 400, "a row has another number of fields than the header."),
    ("words", b"review\n" + b"a\n" * 9, "text/csv", 400, "9 records, of at most 4."),
    ("words", b"," * 20_000 + b"\n", "text/csv", 413, "the table has more than 10,000 columns."),
    (
        "words",
        b"{" + b",".join(b'"%d":1' % i for i in range(10_001)) + b"}\n",
        "application/jsonl",
        413,
        "an object of the body holds more than 10,000 keys.",
    ),
    ("words", b"[1]\n", "application/jsonl", 400, "line 1 must be an object, not an array."),
    (
        "clicks",
        b"price,shop,tags\nmuch,,\n",
        "text/csv",
        400,
        "column price: holds a value that is no number (found: 'much')",
    ),
    ("words", b"--xyz", "multipart/form-data", 400, "the boundary of the form is missing."),
    ("words", b"nonsense", MULTIPART, 400, None),
    ("words", form(("review", "a"))[:-8], MULTIPART, 400, "the form breaks off: its last boundary is missing."),
    ("words", form(("other", "a")), MULTIPART, 400, "is no input of this model."),
    (
        "clicks",
        form(("price", "1"), ("shop", "a"), ("shop", "b")),
        MULTIPART,
        400,
        "fields occur 1 and 2 times; each must occur once a record.",
    ),
]


@pytest.mark.parametrize("name, body, media, status, message", BODIES)
def test_bodies_that_are_refused(strict, name, body, media, status, message):
    found, error = strict.error(name, body, media)
    assert found == status and message in (None, error["message"]), error


def test_a_packed_body(strict):
    found, error = strict.error("words", zlib.compress(GOOD), Content_Encoding="deflate")
    assert (found, error["message"]) == (415, "a body that is packed by deflate is not read.")


def test_a_body_that_is_too_large_by_its_own_word(strict):
    status, error = strict.error("words", b" " * 200_000)
    assert (status, error) == (
        413,
        {
            "code": "body_too_large",
            "fix": "send fewer records, or smaller files",
            "message": "the body has 200,000 bytes; at most 100,000 are read.",
        },
    )


def test_a_body_that_never_ends(strict):
    """Chunked, without a length: it is refused as it comes, and the sender reads why."""
    chunk = b"2000\r\n" + b" " * 0x2000 + b"\r\n"
    made = strict.raw(HEAD + b"Transfer-Encoding: chunked\r\n\r\n", chunk * 40, b"0\r\n\r\n")
    assert made.startswith(b"HTTP/1.1 413 ") and b"more than 100,000 bytes" in made


def test_names_of_others_and_pages_of_others_are_not_answered(strict):
    """A local server without a token: a page may neither read it by a name of its own, nor have it compute."""
    for host in ("evil.example", "evil.example:80", ""):
        status, _, body = strict.request("GET", "/v1/models", headers={"Host": host})
        assert (status, json.loads(body)["error"]["code"]) == (421, "unknown_host")
    for host in (b"", b"Host: localhost\r\nHost: evil.example\r\n"):
        made = strict.raw(b"GET /healthz HTTP/1.1\r\n" + host + b"\r\n")
        assert made.startswith(b"HTTP/1.1 400 ") and b"connection: close" in made
    assert strict.raw(b"GET /healthz HTTP/1.0\r\n\r\n").startswith(b"HTTP/1.1 200 ")
    status, error = strict.error("words", b"a film", "text/plain", Sec_Fetch_Site="cross-site")
    assert (status, error["code"], error["field"]) == (403, "cross_site", "Sec-Fetch-Site")
    own = {"Sec-Fetch-Site": "same-origin", "Origin": strict.url}
    assert strict.post("words", GOOD, **own)[0] == 200, "the page"


def test_a_body_behind_an_upgrade_is_no_request(strict):
    hidden = b"GET /v1/models HTTP/1.1\r\nHost: localhost\r\n\r\n"
    head = HEAD + b"Connection: upgrade\r\nUpgrade: h2c\r\nContent-Length: %d\r\n\r\n" % len(hidden)
    made = strict.raw(head, hidden)
    assert made.count(b"HTTP/1.1 ") == 1 and made.startswith(b"HTTP/1.1 400 ")


def test_one_who_asks_before_sending_is_told_at_once(strict):
    begun = time.perf_counter()
    made = strict.raw(HEAD + b"Content-Length: 99999999\r\nExpect: 100-continue\r\n\r\n")
    assert made.startswith(b"HTTP/1.1 413 ") and time.perf_counter() - begun < 1


@pytest.mark.parametrize(
    "parts, pause, status, message",
    [
        ([b"POST /v1/models/words:predict HTTP/1.1\r\n"], 0, 408, "the head of the request had not come within 1 s."),
        ([HEAD[i : i + 8] for i in range(0, 32, 8)], 0.25, 408, "the head of the request had not come within 1 s."),
        ([HEAD + b"Content-Length: 22\r\n\r\n", GOOD[:9]], 0, 408, "the body had not come within 1 s."),
        ([HEAD] + [b"X: " + b"y" * 9000 + b"\r\n"] * 9, 0, 431, "the head of the request has more than 65,536 bytes."),
        (
            [HEAD + b"Transfer-Encoding: chunked\r\n\r\n0\r\n"] + [b"X: " + b"y" * 9000 + b"\r\n"] * 45,
            0,
            431,
            "what comes beside the body has more than 65,536 bytes.",
        ),
        (
            [HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"1;" + b"y" * 400_000],
            0,
            431,
            "what comes beside the body has more than 65,536 bytes.",
        ),
        ([b"hello\r\n\r\n"], 0, 400, "Invalid HTTP request received."),
        ([HEAD + b"Content-Length: -1\r\n\r\n"], 0, 400, "Invalid HTTP request received."),
        (
            [HEAD + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"],
            0,
            400,
            "Invalid HTTP request received.",
        ),
    ],
)
def test_clients_that_are_slow_or_speak_no_http(strict, parts, pause, status, message):
    begun = time.perf_counter()
    made = strict.raw(*parts, pause=pause)
    head, _, body = made.partition(b"\r\n\r\n")
    assert head.startswith(f"HTTP/1.1 {status} ".encode()) and b"connection: close" in head
    assert json.loads(body)["error"]["message"] == message
    assert time.perf_counter() - begun < 4


def test_trailers_are_left_out(strict):
    body = b"%x\r\n" % len(GOOD) + GOOD + b"\r\n0\r\nContent-Type: text/csv\r\n\r\n"
    head = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
    made = strict.raw(head + body + HEAD + b"Connection: close\r\nContent-Length: %d\r\n\r\n" % len(GOOD) + GOOD)
    assert made.count(b"HTTP/1.1 200 ") == 2


def test_a_connection_that_says_nothing_is_closed(strict):
    assert strict.raw() == b""


def test_a_timeout_that_is_none(strict):
    for value in ("soon", "-1", "nan", "0", "1_0", "inf", "1e1"):
        found, error = strict.error("words", GOOD, X_Request_Timeout=value)
        assert (found, error) == (
            400,
            {
                "code": "invalid_timeout",
                "message": "is no positive number of seconds, in decimal digits.",
                "field": "X-Request-Timeout",
                "fix": "X-Request-Timeout: 20",
            },
        )


def test_too_many_connections(strict):
    import socket

    held = [socket.create_connection(("127.0.0.1", strict.port)) for _ in range(45)]
    try:
        time.sleep(0.2)
        refused = [each for each in held if _early(each).startswith(b"HTTP/1.1 503 ")]
        assert 5 <= len(refused) <= 8
    finally:
        for each in held:
            each.close()
    time.sleep(0.2)


def _early(connection):
    connection.settimeout(0.05)
    try:
        return connection.recv(1000)
    except TimeoutError:
        return b""


def test_memory_is_bounded_whatever_is_sent(strict):
    """Bombs, huge bodies, deep and wide JSON, from several clients at a time, after a first round."""
    from concurrent.futures import ThreadPoolExecutor

    asked = [
        ("digits", bomb(30_000, 30_000), "image/png"),
        ("words", b"[" * 99_000, "application/json"),
        ("words", b'{"inputs": [' + b"[]," * 30_000 + b"1]}", "application/json"),
        ("words", b" " * 90_000_000, "application/json"),
        ("sounds", lasting(1 << 30, 8000), "audio/wav"),
        ("words", b"a,b\n" * 20_000, "text/csv"),
        ("digits", b"\0" * 99_000, "image/png"),
    ]

    def one(each):
        try:
            status, _ = strict.error(*each)
        except ConnectionError:  # it went on sending what was no longer read
            return 413
        return status

    with ThreadPoolExecutor(4) as pool:
        assert all(400 <= status < 500 for status in pool.map(one, asked))
        before = strict.resident
        assert all(400 <= status < 500 for status in pool.map(one, asked * 8))
    assert strict.resident < before + 60


def test_an_unread_body_does_not_become_the_next_request(strict):
    """A refused request's body, which looks like another request."""
    smuggled = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
    made = strict.raw(
        HEAD.replace(b"words", b"nothing") + f"Connection: close\r\nContent-Length: {len(smuggled)}\r\n\r\n".encode(),
        smuggled,
    )
    assert made.count(b"HTTP/1.1 ") == 1 and made.startswith(b"HTTP/1.1 404 ")
