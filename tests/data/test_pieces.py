"""Manifests that name pieces of recordings: offset and duration in seconds, in every format and both tasks."""

import gzip
import json
from dataclasses import replace

import numpy as np
import pytest
import soundfile

from suite.data import recordings
from suite.data.preprocessing import audio
from suite.data.preprocessing.transcripts import Characters
from suite.data.sources.datasets import Memory, Table, from_path, read_input
from suite.data.sources.speech import AudioManifest
from suite.errors import InputError
from suite.tasks.audio_features import AudioFeatures
from suite.tasks.speech.classification import AudioClassification
from suite.tasks.speech.recognition import SpeechRecognition
from tests.data.test_recordings import FRONT_END, RATE, tone, write


def all_of(source):
    return source[np.arange(len(source))]


STEPS = (300.0, 600.0, 900.0)
"""Hertz of three tones, a fifth of a second each, one after the other in one recording."""


def steps(path):
    write(path, np.concatenate([tone(0.2, hertz=hertz) for hertz in STEPS]))


def hertz_of(samples):
    return float(np.abs(np.fft.rfft(samples)).argmax() * RATE / len(samples))


def offsets(path, rows):
    """A manifest of any kind, by its name."""
    names = list(rows[0])
    if ".jsonl" in path.name:
        text = "".join(json.dumps(row) + "\n" for row in rows)
    elif path.name.endswith(".parquet"):
        import pyarrow as pa
        import pyarrow.parquet as pq

        pq.write_table(pa.Table.from_pylist(rows), path)
        return path
    else:
        mark = "\t" if ".tsv" in path.name else ","
        text = "\n".join([mark.join(names), *(mark.join(str(row[name]) for name in names) for row in rows)]) + "\n"
    data = text.encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


PIECES = [
    {"audio": "long.wav", "offset": 0.2 * place, "duration": 0.2, "text": str(place), "label": f"0{place}"}
    for place in range(3)
]


@pytest.mark.parametrize("name", ["m.jsonl", "m.jsonl.gz", "m.csv", "m.csv.gz", "m.tsv", "m.parquet"])
@pytest.mark.parametrize("key", ["audio", "audio_filepath"])
def test_offset_and_duration_name_pieces_of_a_recording(tmp_path, name, key):
    steps(tmp_path / "long.wav")
    rows = [{key if column == "audio" else column: value for column, value in row.items()} for row in PIECES]
    path = offsets(tmp_path / name, rows)
    data = from_path(str(path))
    assert isinstance(data, AudioManifest)
    opened = replace(data, validation=0.0, test=0.0).open("train")
    assert opened.notes[0].startswith("pieces of recordings") and opened.notes[0].endswith(": 3")
    kept = audio.without_unusable(opened, "audio", RATE, FRONT_END.hop, 1.0)
    columns = kept[np.arange(3)]
    assert [hertz_of(recordings.decode(value, RATE)) for value in columns["audio"]] == list(STEPS)
    assert columns["text"] == ["0", "1", "2"] and columns["label"] == ["00", "01", "02"]
    asked = read_input(str(path), "audio")
    assert asked["file"][1] == "long.wav from 0.2 to 0.4 s"
    codec = recordings.Recordings(rate=RATE, hop=80)
    assert codec.encode(asked["audio"]).lengths.tolist() == [1600] * 3


def test_offset_and_duration_of_any_table_name_pieces(tmp_path):
    steps(tmp_path / "long.wav")
    rows = [{**row, "audio": str(tmp_path / "long.wav")} for row in PIECES]
    table = Table(path=str(offsets(tmp_path / "d.csv", rows)), validation=0.0, test=0.0).open("train")
    kept = audio.without_unusable(table, "audio", RATE, FRONT_END.hop, 1.0)
    for values in (kept[np.arange(3)]["audio"], kept.column("audio", np.arange(3))):
        assert [hertz_of(recordings.decode(value, RATE)) for value in values] == list(STEPS)


@pytest.mark.parametrize("named", [("start", "duration"), ("start", "end"), ("offset", "end"), ("onset", "offset")])
@pytest.mark.parametrize("name", ["m.jsonl", "m.csv", "m.parquet"])
def test_starts_and_ends_by_other_usual_names_name_pieces(tmp_path, name, named):
    """A piece is never read from the beginning of its recording because its start has another name."""
    steps(tmp_path / "long.wav")
    lasts = lambda place: 0.2 if named[1] == "duration" else 0.2 * place + 0.2
    for path in ("long.wav", str(tmp_path / "long.wav")):
        rows = [{"audio": path, named[0]: 0.2 * place, named[1]: lasts(place), "text": "a"} for place in range(3)]
        file = offsets(tmp_path / f"{len(path)}.{name}", rows)
        data = from_path(str(file)) if path == "long.wav" else Table(path=str(file))
        opened = replace(data, validation=0.0, test=0.0).open("train")
        kept = audio.without_unusable(opened, "audio", RATE, FRONT_END.hop, 1.0)
        columns = kept[np.arange(3)]
        assert [hertz_of(recordings.decode(value, RATE)) for value in columns["audio"]] == list(STEPS)
    assert (
        f'by "{named[0]}" and "{named[1]}"'
        in replace(from_path(str(file)), validation=0.0, test=0.0).open("train").notes[0]
    )
    assert read_input(str(file), "audio")["file"][2].endswith("long.wav from 0.4 to 0.6 s")


def test_recordings_that_are_not_there_are_looked_for_elsewhere(tmp_path):
    source = Memory({"audio": ["x.wav"], "label": ["a"]}, {"audio": "audio", "label": "text"})
    with pytest.raises(InputError, match="relative to the table, or to where the command runs"):
        audio.without_unusable(source, "audio", RATE, FRONT_END.hop, 1.0)


def test_a_start_that_is_a_date_names_no_piece_and_an_end_before_its_start_is_refused(tmp_path):
    steps(tmp_path / "long.wav")
    rows = [{"audio": "long.wav", "start": "2025-01-01", "duration": 0.6, "text": "a"}] * 2
    opened = AudioManifest(path=str(offsets(tmp_path / "m.csv", rows)), validation=0.0, test=0.0).open("train")
    assert opened.notes[0].startswith('pieces of recordings, by "duration"')
    rows = [{"audio": "long.wav", "start": 0.4, "end": 0.2, "text": "a"}]
    with pytest.raises(InputError, match='column "end", record 1: is before the start'):
        AudioManifest(path=str(offsets(tmp_path / "m.csv", rows))).open("train")


def test_pieces_past_the_end_are_counted_and_named_and_rounded_durations_are_not(tmp_path):
    steps(tmp_path / "long.wav")  # 0.6 s
    rows = [
        {"audio": "long.wav", "offset": 0.3, "duration": 0.5, "text": "past"},
        {"audio": "long.wav", "offset": 0.7, "text": "past"},
        {"audio": "long.wav", "duration": 0.61, "text": "all"},
        {"audio": "long.wav", "duration": 0.59, "text": "all"},
        {"audio": "long.wav", "offset": 0.4, "duration": 0.21, "text": "the last"},
        {"audio": "long.wav", "text": "all"},
    ]
    data = AudioManifest(path=str(offsets(tmp_path / "m.jsonl", rows)), validation=0.0, test=0.0)
    kept = audio.without_unusable(data.open("train"), "audio", RATE, FRONT_END.hop, 1.0)
    assert kept.dropped == {"piece past the end of its recording": 2}
    assert kept.dropped_names["piece past the end of its recording"] == [
        f"{tmp_path / 'long.wav'} from 0.3 to 0.8 s",
        f"{tmp_path / 'long.wav'} from 0.7 s",
    ]
    columns = kept[np.arange(4)]
    lengths = [len(recordings.decode(value, RATE)) / RATE for value in columns["audio"]]
    assert lengths == [0.6, 0.6, pytest.approx(0.2), 0.6]
    with pytest.raises(InputError, match="past the end"):
        recordings.decode(recordings.Piece(str(tmp_path / "long.wav"), 0.3, 0.5), RATE)


@pytest.mark.parametrize("value", ["soon", -1, float("inf"), [1]])
def test_an_offset_that_is_no_number_of_seconds_is_refused(tmp_path, value):
    path = offsets(tmp_path / "m.jsonl", [{"audio": "a.wav", "text": "a", "offset": value}])
    with pytest.raises(InputError, match=r'column "offset", record 1: must be a number of seconds') as error:
        AudioManifest(path=str(path)).open("train")
    assert error.value.fix


def test_pieces_of_one_recording_share_a_split_where_there_are_enough_recordings(tmp_path):
    rows = [{"audio": f"{i % 12}.wav", "offset": i, "duration": 1, "text": "a"} for i in range(240)]
    data = AudioManifest(path=str(offsets(tmp_path / "m.jsonl", rows)), validation=0.3, test=0.3)
    files = {split: set(all_of(data.open(split))["file"]) for split in ("train", "validation", "test")}
    assert not files["train"] & files["test"] and not files["train"] & files["validation"]
    few = [{**row, "audio": "one.wav"} for row in rows]
    data = AudioManifest(path=str(offsets(tmp_path / "few.jsonl", few)))
    assert len(data.open("train")) + len(data.open("validation")) + len(data.open("test")) == 240
    assert "different splits" in data.open("train").notes[1]


@pytest.mark.parametrize("name", ["m.jsonl", "m.csv"])
@pytest.mark.parametrize("task", [SpeechRecognition, AudioClassification])
def test_both_tasks_encode_the_pieces(tmp_path, task, name):
    steps(tmp_path / "long.wav")
    data = replace(from_path(str(offsets(tmp_path / name, PIECES))), validation=0.0, test=0.0)
    made = task(data=data, features=AudioFeatures(front_end=FRONT_END))
    if task is SpeechRecognition:
        Characters().fit(Memory({"text": ["0", "1", "2"]}), "text", tmp_path / "t.json")
        made = replace(made, transcriber=Characters(file=str(tmp_path / "t.json")))
    else:
        made.labels.fit(Memory({"label": ["00", "01", "02"]}), "label", tmp_path / "l.json")
        made = replace(made, labels=replace(made.labels, file=str(tmp_path / "l.json")))
    source = made.source("train")
    encoded = made.encode(source[np.arange(3)])
    heard = np.split(encoded["audio"].values, np.cumsum(encoded["audio"].lengths)[:-1])
    assert [hertz_of(row) for row in heard] == list(STEPS)
    assert (encoded["symbols"].values.tolist() if "symbols" in encoded else encoded["label"].tolist()) in (
        [2, 3, 4],
        [0, 1, 2],
    )


@pytest.mark.parametrize(("name", "rate"), [("a.ogg", 44_100), ("a.mp3", 16_000)])
def test_a_piece_is_that_part_of_its_recording(name, rate, tmp_path):
    """libsndfile, asked for a frame of such a file, gives another one now and then."""
    rng, path = np.random.default_rng(1), tmp_path / name
    for frames in rng.integers(rate // 2, 4 * rate, 6):
        soundfile.write(path, 0.3 * rng.standard_normal(frames), rate)
        assert recordings.examine(str(path), rate, 1, 60.0) == ""
        whole = recordings.decode(str(path), rate, 60.0)
        for start in rng.integers(0, len(whole) - 1000, 60):
            piece = recordings.Piece(str(path), start / rate, 1000 / rate)
            np.testing.assert_allclose(recordings.decode(piece, rate, 60.0), whole[start : start + 1000], atol=1e-6)
