"""The log: what is written, what a resumed run cuts off, what people see."""

import io
import json
import sys

import pytest

from suite.training.logging import bar
from suite.training.logging.jsonl import history
from suite.training.logging.log import Log


def test_metrics_are_lines_and_a_table(tmp_path):
    with Log(tmp_path, 10) as run:
        run.metrics(1, {"train/loss": 2.0})
        assert json.loads((tmp_path / "metrics.jsonl").read_text()) == {"step": 1, "train/loss": 2.0}  # at once
        run.metrics(2, {"train/loss": 1.0, "validation/accuracy": 0.5})
    assert history(tmp_path) == {"step": [1, 2], "train/loss": [2.0, 1.0], "validation/accuracy": [None, 0.5]}
    assert list((tmp_path / "tensorboard").glob("events*"))


def test_history_of_nothing(tmp_path):
    assert history(tmp_path) == {"step": []}


def test_resume_cuts_off_later_lines(tmp_path):
    with Log(tmp_path, 10) as run:
        for step in range(1, 6):
            run.metrics(step, {"loss": step})
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 6, "lo')  # killed in the middle of a line
    with Log(tmp_path, 10, resume_step=3) as run:
        run.metrics(4, {"loss": 40})
    assert history(tmp_path) == {"step": [1, 2, 3, 4], "loss": [1, 2, 3, 40]}


def test_resume_purges_tensorboard(tmp_path):
    from tensorboardX.proto.event_pb2 import Event, SessionLog

    with Log(tmp_path, 10, resume_step=3) as run:
        run.metrics(4, {"loss": 40})
    assert _purged(tmp_path / "tensorboard", Event, SessionLog.START) == [4]


def _purged(folder, event, start):
    """Steps of the session starts in the event files."""
    return [record.step for record in records(folder, event) if record.session_log.status == start]


def records(folder, event):
    """What the event files hold: records are length (8), crc (4), data, crc (4)."""
    for path in folder.glob("events*"):
        data, at = path.read_bytes(), 0
        while at < len(data):
            size = int.from_bytes(data[at : at + 8], "little")
            yield event.FromString(data[at + 12 : at + 12 + size])
            at += size + 16


def test_plain_lines_are_few(tmp_path, monkeypatch, capsys):
    with Log(tmp_path, 1000) as run:
        for step in range(1, 1001):
            run.progress(step, 0.5, 12345.6)
        run.say("done")
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 3
    assert lines[0].startswith("step 1/1000  loss 0.5000  12,346 examples/s")
    assert lines[1].endswith("0:00 left") and lines[2] == "done"


def test_bar_on_a_terminal(tmp_path, monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    screen = Terminal()
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")
    with Log(tmp_path, 20) as run:
        run.progress(10, 0.25, 1000.0)
        run.say("[a] line with brackets")
        run.progress(20, 0.125, 1000.0)
    text = screen.getvalue()
    assert "10/20" in text and "20/20" in text and "loss 0.1250" in text
    assert "1,000 examples/s" in text and "[a] line with brackets" in text


def test_a_full_disk_stops_no_training(tmp_path, capsys):
    with Log(tmp_path, 5) as run:
        run._file.close()
        run._file = open("/dev/full", "w")  # noqa: SIM115
        for step in range(1, 4):
            run.metrics(step, {"loss": 1.0})
    assert capsys.readouterr().err.count("metrics cannot be written, training goes on: ") == 1


def test_another_process_says_nothing(tmp_path, capsys):
    with Log(tmp_path, 5, writing=False) as run:
        run.progress(1, 1.0, 1.0)
        run.say("nothing")
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(("seconds", "text"), [(5, "0:05"), (65, "1:05"), (3700, "1:01:40")])
def test_clock(seconds, text):
    assert bar._clock(seconds) == text
