"""Recordings: decoding, sources, cleaning, augmentation, features, transcripts; and the errors of bad ones."""

import json
import tarfile
from pathlib import Path

import numpy as np
import pytest
import soundfile

from suite.contracts.preprocessor import Preprocessor
from suite.data import recordings
from suite.data.preprocessing import audio
from suite.data.preprocessing.transcripts import UNKNOWN, Characters, Pieces, with_transcripts
from suite.data.sources.datasets import SPLITS, Folder, Memory, from_path, read_input
from suite.data.sources.speech import AudioManifest, LJSpeech, SphinxFeatures, SpokenDigits
from suite.errors import InputError
from suite.nn.audio.spectral import LogMel
from suite.tasks.audio_features import AudioFeatures

RATE = 8000
FRONT_END = LogMel(sample_rate=RATE, window=200, hop=80, fft=256, bins=12)


def tone(seconds=0.2, rate=RATE, hertz=440.0):
    return (0.5 * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


def write(path, samples=None, rate=RATE):
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, tone(rate=rate) if samples is None else samples, rate)
    return str(path)


def fitted(asset: Preprocessor, tmp_path, values, name="audio"):
    file = tmp_path / f"fitted{asset.suffix}"
    asset.fit(Memory({name: values}, {name: name}), name, file)
    return type(asset)(**{**asset.__dict__, "file": str(file)})


@pytest.mark.parametrize("kind", ["wav", "flac"])
def test_files_bytes_and_arrays_agree(tmp_path, kind):
    path = write(tmp_path / f"a.{kind}")
    content = (tmp_path / f"a.{kind}").read_bytes()
    for value in (path, tmp_path / f"a.{kind}", content, (tone() * 2**15).astype(np.int16)):
        np.testing.assert_allclose(recordings.decode(value, RATE), tone(), atol=1e-4)


def test_channels_are_averaged_and_rates_changed(tmp_path):
    both = np.stack([tone(0.5, 16_000), np.zeros(8000, np.float32)], 1)
    made = recordings.decode(write(tmp_path / "a.wav", both, 16_000), RATE)
    assert made.dtype == np.float32 and len(made) == 4000
    np.testing.assert_allclose(made[200:-200], 0.5 * tone(0.5)[200:-200], atol=2e-3)


def test_a_wrong_header_is_refused(tmp_path):
    path = tmp_path / "bad.wav"
    path.write_bytes(b"RIFFxxxxWAVE, or so it says")
    with pytest.raises(InputError) as error:
        recordings.decode(str(path), RATE)
    lines = str(error.value).splitlines()
    assert lines[0] == f"{path}: this recording cannot be decoded"
    assert lines[1].startswith("  found: ") and "bad.wav" not in lines[1]
    assert lines[2] == "  try:   replace or remove the file; .wav .flac .ogg .mp3 are read"


def test_a_recording_without_samples_is_refused(tmp_path):
    path = write(tmp_path / "empty.wav", np.zeros(0, np.float32))
    with pytest.raises(InputError) as error:
        recordings.decode(path, RATE)
    assert str(error.value) == f"{path}: this recording holds no samples\n  try:   replace or remove the file"
    (tmp_path / "nothing.wav").write_bytes(b"")
    with pytest.raises(InputError, match=r"nothing\.wav: this recording cannot be decoded"):
        recordings.decode(str(tmp_path / "nothing.wav"), RATE)
    with pytest.raises(InputError, match=r"missing\.wav: no such recording"):
        recordings.decode(str(tmp_path / "missing.wav"), RATE)
    with pytest.raises(InputError, match=r"must be float or int16 samples"):
        recordings.decode(np.zeros((2, 2), np.int16), RATE)


def test_a_wav_that_is_cut_off_is_refused(tmp_path):
    """Other formats end in an error there; a WAV that was written as a stream says no length."""
    whole = (tmp_path / write(tmp_path / "a.wav", tone(1.0))).read_bytes()
    path = tmp_path / "cut.wav"
    path.write_bytes(whole[: len(whole) // 2])
    for value in (str(path), path.read_bytes(), recordings.Piece(str(path), 0.1)):
        with pytest.raises(InputError, match=r"this recording is cut off\n  found: 0.499 s, of 1 s by its header\n"):
            recordings.decode(value, RATE)
    assert recordings.examine(str(path), RATE, 1, 60.0) == "recording that is cut off"
    assert len(recordings.decode(recordings.Piece(str(path), 0.1, 0.2), RATE)) == RATE // 5
    for said in (0xFFFFFFFF, 0x7FFFF000, 0):
        streamed = bytearray(whole)
        streamed[40:44] = said.to_bytes(4, "little")
        path.write_bytes(streamed)
        assert recordings.examine(str(path), RATE, 1, 60.0) in ("", "empty recording" * (not said))
    path.write_bytes(whole[:-20])  # a few samples are the writer's rounding
    assert len(recordings.decode(str(path), RATE)) == RATE - 10


def test_unusable_recordings_are_dropped_and_counted(tmp_path):
    (tmp_path / "bad.wav").write_bytes(b"no header")
    good = [write(tmp_path / "a.wav"), write(tmp_path / "b.wav")]
    none, long = write(tmp_path / "none.wav", np.zeros(0)), write(tmp_path / "long.wav", tone(1.5))
    paths = [good[0], str(tmp_path / "bad.wav"), none, str(tmp_path / "gone.wav"), long, good[1]]
    kept = audio.without_unusable(Memory({"audio": paths}), "audio", RATE, FRONT_END.hop, 1.0)
    assert kept[np.arange(2)]["audio"] == [paths[0], paths[5]] and len(kept) == 2
    assert kept.dropped == {
        "no such recording": 1,
        "format that is not read": 1,
        "empty recording": 1,
        "longer than 1 s": 1,
    }
    with pytest.raises(InputError) as error:
        audio.without_unusable(Memory({"audio": paths[1:2]}), "audio", RATE, FRONT_END.hop, 1.0)
    assert str(error.value) == (
        "column audio: no recording can be used.\n"
        f"  found: 1 left out, format that is not read: {paths[1]}\n"
        "  try:   check the paths, or raise --task.max_seconds"
    )


def test_a_longer_recording_than_the_limit_is_refused(tmp_path):
    path = write(tmp_path / "long.wav", tone(1.5))
    with pytest.raises(InputError) as error:
        AudioFeatures(front_end=FRONT_END).recordings(1.0).encode([path])
    assert str(error.value) == (
        f"{path}: this recording lasts 1.5 s, longer than the model takes.\n"
        "  found: limit 1 s\n"
        "  try:   cut it, or train with a larger --task.max_seconds"
    )


def manifest(tmp_path, rows):
    path = tmp_path / "manifest.jsonl"
    path.write_text("\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows) + "\n")
    return str(path)


def test_manifest(tmp_path):
    write(tmp_path / "wavs" / "0.wav")
    rows = [{"audio": f"wavs/{i}.wav", "text": f"word {i}"} for i in range(40)]
    data = from_path(manifest(tmp_path, rows))
    asked = read_input(str(tmp_path / "manifest.jsonl"), "audio")
    assert asked["audio"][7] == str(tmp_path / "wavs" / "7.wav") and asked["file"][7] == "wavs/7.wav"
    assert data == AudioManifest(path=str(tmp_path / "manifest.jsonl"))
    parts = {split: data.open(split) for split in ("train", "validation", "test")}
    assert sum(map(len, parts.values())) == 40 and parts["train"].schema["audio"] == "audio"
    columns = parts["train"][np.arange(2)]
    assert columns["audio"][0] == str(tmp_path / columns["file"][0]) and columns["text"][0].startswith("word ")
    named = manifest(tmp_path, [{"audio": "a.wav", "text": "x", "split": split} for split in ("train", "dev", "test")])
    assert [len(from_path(named).open(split)) for split in ("train", "validation", "test")] == [1, 1, 1]


def test_lines_of_a_manifest_without_a_split_are_split_by_their_path(tmp_path):
    rows: list[dict[str, str | None]] = [{"audio": f"{i}.wav", "text": "a\u2028b"} for i in range(40)]
    bare = AudioManifest(path=manifest(tmp_path, rows))
    wanted = {split: bare.open(split)[np.arange(len(bare.open(split)))]["file"] for split in SPLITS}
    rows[1]["split"], rows[2]["split"] = None, " "
    rows += [{"audio": "t.wav", "text": "x", "split": "Test"}, {"audio": "o.wav", "text": "x", "split": "other"}]
    path = tmp_path / "manifest.jsonl"
    path.write_text("\n".join(json.dumps(row, ensure_ascii=False) for row in rows), encoding="utf-8")
    for split in SPLITS:
        source = AudioManifest(path=str(path)).open(split)
        columns = source[np.arange(len(source))]
        assert columns["file"] == wanted[split] + ["t.wav"] * (split == "test")
        assert "a\u2028b" in columns["text"]


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ('{"audio": "a.wav"', "this is not JSON"),
        ('{"text": "hello"}', 'names no recording under the key "audio"'),
        ('["a.wav", "hello"]', 'names no recording under the key "audio"'),
    ],
)
def test_a_manifest_line_without_a_recording_is_refused(tmp_path, line, problem):
    path = manifest(tmp_path, [{"audio": "a.wav", "text": "hello"}, line])
    with pytest.raises(InputError) as error:
        AudioManifest(path=path).open("train")
    assert str(error.value).startswith(f"{path}, line 2: {problem}") and line in str(error.value)
    assert error.value.fix == '{"audio": "a.wav", "text": "what is said"}'


def test_manifest_lines_without_text_are_dropped_and_counted(tmp_path):
    rows = [
        {"audio": "a.wav", "text": "hello", "split": "train"},
        {"audio": "b.wav", "split": "train"},
        {"audio": "c.wav", "text": " ... ", "split": "train"},
        {"audio": "d.wav", "text": "too long " * 9, "split": "train"},
    ]
    source = AudioManifest(path=manifest(tmp_path, rows)).open("train")
    kept = with_transcripts(source, "text", Characters(), 20)
    assert kept.dropped == {"no text": 2, "text longer than 20": 1} and len(kept) == 1
    with pytest.raises(InputError) as error:
        with_transcripts(Memory({"text": [None, ""]}), "text", Characters(), 20)
    assert str(error.value) == (
        "column text: no record has a transcript that can be used.\n"
        "  found: 2 left out, no text: record 1, record 2\n"
        "  try:   check the transcripts, name their column by --task.text, or raise --task.max_text"
    )


def test_ljspeech_layout(tmp_path):
    (tmp_path / "wavs").mkdir()
    lines = [f"LJ-{i}|Dr. {i}|doctor {i}" if i % 2 else f"LJ-{i}|plain {i}" for i in range(60)]
    (tmp_path / "metadata.csv").write_text("\n".join(lines))
    data = from_path(str(tmp_path))
    assert isinstance(data, LJSpeech)
    columns = data.open("train")[np.arange(len(data.open("train")))]
    assert {text.split()[0] for text in columns["text"]} == {"doctor", "plain"}
    assert columns["audio"][0] == str(tmp_path / "wavs" / f"{columns['file'][0]}.wav")
    assert "speaker" not in columns
    for last in ("", "a plain text|"):
        lines = [f"LJ-{i}|plain text {i}|{last}{'ann' if i % 3 else 'ben'}" for i in range(60)]
        (tmp_path / "metadata.csv").write_text("\n".join(lines))
        source = data.open("train")
        columns = source[np.arange(len(source))]
        assert {*columns["speaker"]} == {"ann", "ben"} and all("plain text" in text for text in columns["text"])
        assert bool(source.notes) == (not last)
    (tmp_path / "metadata.csv").write_text("LJ-0|a\nLJ-1 b\n")
    with pytest.raises(InputError, match=r"metadata\.csv, line 2: holds no | between name and text"):
        data.open("train")


def test_one_folder_a_class(tmp_path):
    for name in ("yes", "no"):
        for i in range(8):
            write(tmp_path / name / f"{i}.flac")
    data = from_path(str(tmp_path))
    assert isinstance(data, Folder)
    source = data.open("train")
    assert source.classes == {"label": ["no", "yes"]} and source.schema["audio"] == "audio"
    with tarfile.open(tmp_path / "all.tar.gz", "w:gz") as archive:
        archive.add(tmp_path / "yes", "yes")
        archive.add(tmp_path / "no", "no")
    inside = from_path(str(tmp_path / "all.tar.gz")).open("train")[np.arange(1)]
    np.testing.assert_allclose(recordings.decode(inside["audio"][0], RATE), tone(), atol=1e-4)
    assert read_input(str(tmp_path / "yes"), "audio")["audio"][7].endswith("7.flac")
    assert read_input(str(tmp_path / "no" / "0.flac"), "audio")["audio"] == [str(tmp_path / "no" / "0.flac")]


def test_spoken_digits_split(tmp_path):
    for speaker in ("ann", "bob"):
        for index in range(8):
            write(tmp_path / "recordings" / f"3_{speaker}_{index}.wav")
    data = SpokenDigits(path=str(tmp_path), validation=2)
    assert [len(data.open(split)) for split in ("train", "validation", "test")] == [2, 4, 10]
    assert data.open("train")[np.arange(1)]["text"] == ["three"]
    held_out = SpokenDigits(path=str(tmp_path), validation=2, held_out="bob")
    assert [len(held_out.open(split)) for split in ("train", "validation", "test")] == [1, 7, 8]
    assert set(held_out.open("test")[np.arange(8)]["speaker"]) == {"bob"}
    with pytest.raises(InputError, match='"eve" is no speaker\n  found: ann, bob'):
        SpokenDigits(path=str(tmp_path), held_out="eve").open("test")


def sphinx(tmp_path, broken=False):
    root = tmp_path / "an4"
    (root / "etc").mkdir(parents=True)
    for split, count in (("train", 6), ("test", 2)):
        names = [f"{split}/s{i}/{split}{i}" for i in range(count)]
        (root / "etc" / f"an4_{split}.fileids").write_text("\n".join(names))
        said = [f"<s> WORD {i} </s> ({name.split('/')[-1]})" for i, name in enumerate(names)]
        (root / "etc" / f"an4_{split}.transcription").write_text("\n".join(said))
        for i, name in enumerate(names):
            values = np.arange(13 * (i + 1), dtype=">f4")
            file = root / "feat" / f"{name}.mfc"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes((len(values) + broken).to_bytes(4, "big") + values.tobytes())
    with tarfile.open(tmp_path / "an4.tar.gz", "w:gz") as archive:
        archive.add(root, "an4")
    return SphinxFeatures(path=str(tmp_path / "an4.tar.gz"), validation=0.4)


def test_sphinx_features(tmp_path):
    data = sphinx(tmp_path)
    train, validation, test = (data.open(split) for split in ("train", "validation", "test"))
    assert len(train) + len(validation) == 6 and len(test) == 2
    columns = test[np.arange(2)]
    assert columns["text"] == ["WORD 0", "WORD 1"] and columns["speaker"] == ["s0", "s1"]
    np.testing.assert_array_equal(columns["audio"][1], np.arange(26.0).reshape(2, 13))
    with pytest.raises(InputError, match="does not hold the values that its header counts"):
        sphinx(tmp_path / "broken", broken=True).open("test")


def test_features_are_scaled_over_the_training_split(tmp_path):
    rng = np.random.default_rng(0)
    rows = [rng.standard_normal(size).astype(np.float32) for size in (800, 1600, 1234)]
    features = fitted(AudioFeatures(front_end=FRONT_END), tmp_path, rows)
    assert features.sizes() == {"inputs": 12} and fitted(features, tmp_path, rows) == features
    made = {"audio": features.recordings(30).encode(rows)}
    assert made["audio"].lengths.tolist() == [800, 1600, 1234]
    frames, mask = features.frames(*made["audio"].padded(2000))
    chosen = np.asarray(frames)[np.asarray(mask)]
    np.testing.assert_allclose(chosen.mean(0), 0, atol=1e-3)
    np.testing.assert_allclose(chosen.std(0), 1, atol=1e-3)
    alone = type(features)(**{**features.__dict__, "normalise": "recording"})
    frames, mask = alone.frames(*made["audio"].padded(2000))
    np.testing.assert_allclose(np.asarray(frames[1])[np.asarray(mask[1])].mean(0), 0, atol=1e-4)
    samples = type(features)(**{**features.__dict__, "kind": "samples"})
    frames, mask = samples.frames(*made["audio"].padded(2000))
    assert samples.sizes() == {} and mask.sum() == 3634
    np.testing.assert_allclose(np.asarray(frames[0, :800]).std(), 1, atol=1e-3)


def test_stored_features_skip_the_front_end(tmp_path):
    rows = [np.random.default_rng(i).normal(3, 2, (20 + i, 5)).astype(np.float32) for i in range(4)]
    features = fitted(AudioFeatures(), tmp_path, rows)
    reader = features.recordings(30)
    assert reader.features == 5 and reader.room == 3000
    made = audio.perturbed(reader.encode(rows), [audio.Noise()], features.rate, np.random.default_rng(0))["audio"]
    np.testing.assert_array_equal(made.values, np.concatenate(rows))
    frames, mask = features.frames(*made.padded(32))
    np.testing.assert_allclose(np.asarray(frames)[np.asarray(mask)].mean(0), 0, atol=1e-3)
    with pytest.raises(InputError, match="they are not all samples, or features of one size"):
        reader.encode([rows[0], np.ones(9, np.float32)])


def test_speed_changes_length_and_pitch_and_buckets_hold_it():
    slow = recordings.resample(tone(0.5), 0.5)
    assert abs(len(slow) - 8000) <= 2
    peak = np.abs(np.fft.rfft(slow)).argmax() * RATE / len(slow)
    assert abs(peak - 220) < 2
    features, speed = AudioFeatures(front_end=FRONT_END), audio.Speed(factors=(0.8, 1.25))
    rows = [tone(0.1 * i) for i in range(1, 9)]
    plain = features.recordings(30).encode(rows)
    room = audio.perturbed(plain, [speed], RATE, None)["room"]
    made = audio.perturbed(plain, [speed], RATE, np.random.default_rng(0))
    assert "room" not in made and (made["audio"].lengths <= room.lengths).all()
    assert set(np.round(made["audio"].lengths / [len(row) for row in rows], 2)) == {0.8, 1.25}
    assert room.padded(9000)[0].nbytes == 0
    again = audio.perturbed(plain, [speed], RATE, np.random.default_rng(0))
    np.testing.assert_array_equal(again["audio"].values, made["audio"].values)


def test_noise_has_the_ratio_it_says(tmp_path):
    signal, rng = tone(2.0), np.random.default_rng(0)
    write(tmp_path / "noise" / "hum.wav", tone(0.3, hertz=50.0))
    for noise in (audio.Noise(decibels=(20, 20)), audio.Noise(decibels=(20, 20), folder=str(tmp_path / "noise"))):
        added = noise(signal, RATE, rng) - signal
        ratio = 10 * np.log10(np.mean(signal**2) / np.mean(added**2))
        assert abs(ratio - 20) < 0.1
    assert audio.Noise(share=0.0)(signal, RATE, rng) is signal
    with pytest.raises(InputError, match="no recording in this folder"):
        audio.Noise(folder=str(tmp_path / "empty"))(signal, RATE, rng)


def test_characters(tmp_path):
    letters = fitted(Characters(), tmp_path, ["Isn\N{RIGHT SINGLE QUOTATION MARK}t it,  so?", "no: 7"], "text")
    assert letters.units == ["", UNKNOWN, *" '7inost"] and letters.sizes() == {"outputs": 10}
    made = letters.encode(["It isn't!", "zoo"], 12)
    assert made.to == 12 and made.lengths.tolist() == [8, 3] and made.values[8] == 1
    assert letters.spell(made.values[:8]) == "it isn't" and letters.spell(made.values[8:]) == f"{UNKNOWN}oo"
    assert Characters(lowercase=False, punctuation=True).normalise("A,  b") == "A, b"


def test_pieces(tmp_path):
    texts = [f"{a} {b}" for a in ("Seven", "eleven", "twelve") for b in ("apples", "people", "hello")] * 5
    pieces = fitted(Pieces(vocab_size=30), tmp_path, texts, "text")
    made = pieces.encode(["seven apples", "hello"], 40)
    assert made.values.min() > 0 and pieces.spell(made.values[: made.lengths[0]]) == "seven apples"
    assert pieces.sizes()["outputs"] == len(pieces.units) <= 30
    assert any(unit.startswith(" ") for unit in pieces.units)


def unusable(folder):
    """Reason -> a recording that is left out for it, in training and in requests."""
    wave = tone()
    some = wave.copy()
    some[100] = np.nan
    stereo = np.stack([wave, -wave], 1)
    huge = np.where(np.arange(1600) == 5, 1e30, wave)
    values = {
        "samples that are not finite": [(some, {"subtype": "FLOAT"}), (huge, {"subtype": "DOUBLE"})],
        "channels that cancel each other": [(stereo, {}), (np.concatenate([stereo, stereo], 1), {"subtype": "PCM_16"})],
        "sample rate above 1 MHz": [(wave, {"samplerate": 2_000_000})],
        "empty recording": [(wave[:40], {"samplerate": 900_000}), (wave[:0], {})],
        "format that is not read": [
            *((wave, {"subtype": subtype}) for subtype in ("GSM610", "IMA_ADPCM", "MS_ADPCM", "G721_32")),
            *((wave, {"format": name}) for name in ("AIFF", "AU", "CAF", "W64", "NIST", "VOC", "SVX", "PAF", "IRCAM")),
            *((wave, {"format": name}) for name in ("RF64", "MAT5", "HTK", "PVF", "AVR", "MPC2K", "SDS")),
            (wave, {"subtype": "DPCM_16", "format": "XI"}),
        ],
        "more than 8 channels": [(np.stack([wave] * 9, 1), {})],
    }
    paths = {}
    for reason, all_of_it in values.items():
        for place, (samples, how) in enumerate(all_of_it):
            path = folder / f"{reason} {place}.wav"
            soundfile.write(path, samples, **{"samplerate": RATE, "format": "WAV", **how})
            paths[str(path)] = reason
    (folder / "nothing.wav").write_bytes(b"")
    return {**paths, str(folder / "nothing.wav"): "empty file"}


def test_recordings_that_training_leaves_out_by_name_are_refused_in_requests_by_name(tmp_path):
    paths = unusable(tmp_path)
    good = [write(tmp_path / "a.wav"), str(tmp_path / "loud on one side.wav")]
    soundfile.write(good[1], np.stack([tone(), np.zeros_like(tone())], 1), RATE)
    source = audio.without_unusable(Memory({"audio": [*paths, *good]}), "audio", RATE, FRONT_END.hop, 1.0)
    assert source[np.arange(len(source))]["audio"] == good
    assert source.dropped == {reason: list(paths.values()).count(reason) for reason in paths.values()}
    for path, reason in paths.items():
        named = source.dropped_names[reason]  # the first few
        assert path in named or len(named) < list(paths.values()).count(reason)
        for value in (path, Path(path).read_bytes()):
            with pytest.raises(recordings.Unusable) as error:
                recordings.decode(value, RATE)
            assert error.value.reason == reason and error.value.fix
            assert error.value.where == (path if isinstance(value, str) else "recording")


@pytest.mark.parametrize("array", [np.full(9, np.nan, np.float32), np.full((9, 4), np.inf), np.zeros(0, np.float32)])
def test_arrays_that_are_not_finite_are_left_out(array):
    source = Memory({"audio": [array, tone()]}, {"audio": "audio"})
    kept = audio.without_unusable(source, "audio", RATE, FRONT_END.hop, 1.0)
    assert len(kept) == 1 and list(kept.dropped_names.values()) == [["record 1"]]
    with pytest.raises(InputError):
        recordings.decode(array, RATE)


def test_statistics_of_features_are_finite_though_a_recording_is_not(tmp_path):
    bad = next(path for path, reason in unusable(tmp_path).items() if "finite" in reason)
    source = Memory({"audio": [bad, write(tmp_path / "a.wav")]})
    kept = audio.without_unusable(source, "audio", RATE, FRONT_END.hop, 1.0)
    AudioFeatures(front_end=FRONT_END).fit(kept, "audio", tmp_path / "f.json")
    assert np.isfinite(json.loads((tmp_path / "f.json").read_text())["mean"]).all()


def test_transcripts_that_are_left_out_are_named(tmp_path):
    source = Memory({"text": ["fine", "...", "too long"], "file": ["a.wav", "b.wav", "c.wav"]})
    kept = with_transcripts(source, "text", Characters(), 5)
    assert kept.dropped_names == {"no text": ["b.wav"], "text longer than 5": ["c.wav"]}
