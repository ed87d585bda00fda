"""Spans: files of tagged words in every scheme, columns in every format, tags, and the likeliest valid tags."""

import itertools
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from suite.data.preprocessing.spans import NotSpans, likeliest_tags, spans_of, spans_of_tags, tag_names
from suite.data.sources.datasets import Lines, Table, from_path
from suite.data.sources.tagged_text import TaggedText, tag_spans
from suite.errors import InputError

WORDS = ["Ada", "Lovelace", "met", "Bob", "Ulm", "Oslo"]
SCHEMES = {
    "IOB2": "B-PER I-PER O B-PER B-LOC B-LOC",
    "IOB1": "I-PER I-PER O I-PER I-LOC B-LOC",
    "BIOES": "B-PER E-PER O S-PER S-LOC S-LOC",
    "BILOU": "B-PER L-PER O U-PER U-LOC U-LOC",
}
TEXT = " ".join(WORDS)
SPANS = [[0, 12, "PER"], [17, 20, "PER"], [21, 24, "LOC"], [25, 29, "LOC"]]


def every(source):
    return source[np.arange(len(source))]


def written(path, tags, between=" ", words=WORDS, copies=30):
    lines = "\n".join(between.join((word, "NN", tag)) for word, tag in zip(words, tags.split(), strict=True))
    body = "\n\n".join(f"# sent_id = {place}\n{lines}" for place in range(copies))
    path.write_text(f"-DOCSTART- -X- O\n\n{body}\n", encoding="utf-8")
    return path


@pytest.mark.parametrize("between", [" ", "\t"])
@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("name", ["x.conll", "x.bio", "x.iob", "x.txt", "x.tsv"])
def test_a_file_of_tagged_words_is_read_in_every_scheme(tmp_path, scheme, between, name):
    data = from_path(str(written(tmp_path / name, SCHEMES[scheme], between)))
    assert isinstance(data, TaggedText)
    source = data.open("train")  # equal sentences share a split
    columns = every(source)
    assert set(columns["text"]) == {TEXT} and len(source) == 30
    assert json.loads(columns["spans"][0]) == SPANS
    (note,) = source.notes
    assert f"read as {scheme}" in note and "tags in the last of 3" in note


def test_a_folder_of_tagged_words_has_a_file_a_split(tmp_path):
    for name, copies in (("train", 3), ("dev", 2), ("test", 1)):
        written(tmp_path / f"{name}.txt", SCHEMES["IOB2"], copies=copies)
    data = from_path(str(tmp_path))
    assert isinstance(data, TaggedText)
    assert [len(data.open(split)) for split in ("train", "validation", "test")] == [3, 2, 1]
    assert any("dev.txt as validation" in note for note in data.open("validation").notes)


def test_running_text_and_tables_are_no_tagged_words(tmp_path):
    (tmp_path / "a.txt").write_text("It was O\nYes B\n")
    (tmp_path / "b.tsv").write_text("text\tlabel\nnice\tO\nfine\tB-X\n")
    (tmp_path / "c.txt").write_text("")
    assert [type(from_path(str(tmp_path / name))) for name in ("a.txt", "b.tsv", "c.txt")] == [Lines, Table, Lines]


def test_sentences_without_tags_are_dropped_counted_and_named(tmp_path):
    path = written(tmp_path / "x.conll", SCHEMES["IOB2"], copies=20)
    path.write_text(path.read_text() + "\nOslo NN\nis NN O\n")
    source = TaggedText(path=str(path)).open("train")
    assert source.dropped == {"a line without a tag": 1} and "sentence at line" in str(source.dropped_names)
    (tmp_path / "y.conll").write_text("Oslo NN\n\nUlm NN\n")
    with pytest.raises(InputError, match="no sentence of it has a word and a tag a line"):
        from_path(str(tmp_path / "y.conll")).open("train")


@pytest.mark.parametrize(
    ("tags", "spans", "unbegun"),
    [
        ("O I-A I-A", [(1, 2, "A")], 1),
        ("B-A I-B", [(0, 0, "A"), (1, 1, "B")], 1),
        ("B-A B-A I-A", [(0, 0, "A"), (1, 2, "A")], 0),
        ("E-A I-A S-A", [(0, 0, "A"), (1, 1, "A"), (2, 2, "A")], 2),
        ("O O", [], 0),
        ("B-x-y I-x-y", [(0, 1, "x-y")], 0),
    ],
)
def test_tags_that_go_on_without_a_beginning_begin_a_span(tags, spans, unbegun):
    assert tag_spans(tags.split()) == (spans, unbegun)


def test_tags_make_the_spans_of_seqeval():
    """Entities of random sequences, as seqeval 1.2.2 (MIT) finds them."""
    entities = pytest.importorskip("seqeval.metrics.sequence_labeling", reason="pip install seqeval").get_entities
    rng = np.random.default_rng(0)
    names = ["O", *(f"{letter}-{label}" for letter in "BIES" for label in ("PER", "LOC"))]
    for _ in range(2000):
        tags = list(rng.choice(names, rng.integers(1, 8)))
        assert tag_spans(tags)[0] == [(first, last, label) for label, first, last in entities(tags)], tags


FORMS = {
    "objects": [{"start": 0, "end": 3, "label": "A", "id": 7}],
    "lists": [[0, 3, "A"]],
    "json": '[{"start": 0, "end": 3, "label": "A"}]',
}


@pytest.mark.parametrize("form", FORMS)
def test_spans_are_read_in_each_form(form):
    assert spans_of(FORMS[form], "Ada met") == [(0, 3, "A")]


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("A 0 3", "no JSON"),
        ({"start": 0}, "no list"),
        ([{"start": 0, "end": 3}], "without start, end and label"),
        ([[0, 3.5, "A"]], "without start, end and label"),
        ([[True, 3, "A"]], "without start, end and label"),
        ([[0, 3, " "]], "without start, end and label"),
        ([[0, 8, "A"]], "outside its text"),
        ([[3, 3, "A"]], "outside its text"),
        ([[-2, 3, "A"]], "outside its text"),
    ],
)
def test_what_is_no_span_is_told(value, reason):
    with pytest.raises(NotSpans, match=reason):
        spans_of(value, "Ada met")


@pytest.mark.parametrize("name", ["x.jsonl", "x.json", "x.csv", "x.tsv", "x.parquet", "large.parquet"])
def test_a_column_of_spans_is_the_same_in_every_format(tmp_path, name):
    rows = [{"text": f"Ada {i}", "spans": [{"start": 0, "end": 3, "label": "A"}] * (i % 2)} for i in range(40)]
    path = tmp_path / name
    if name == "x.jsonl":
        path.write_text("\n".join(map(json.dumps, rows)))
    elif name == "x.json":
        path.write_text(json.dumps(rows))
    elif path.suffix in (".csv", ".tsv"):
        cells = [json.dumps(row["spans"]) for row in rows]
        if name == "x.csv":
            lines = [
                f'{row["text"]},"{cell.replace(chr(34), 2 * chr(34))}"' for row, cell in zip(rows, cells, strict=True)
            ]
            path.write_text("\n".join(["text,spans", *lines]))
        else:
            lines = [f"{row['text']}\t{cell}" for row, cell in zip(rows, cells, strict=True)]
            path.write_text("\n".join(["text\tspans", *lines]))
    else:
        pq.write_table(pa.Table.from_pylist(rows), path)
    most = {"in_memory": 10} if name.startswith("large") else {}
    data = Table(path=str(path), **most).with_texts(("text",)).with_json(("spans",))
    found = {}
    for split in ("train", "validation", "test"):
        columns = every(data.open(split))
        found |= dict(zip(columns["text"], columns["spans"], strict=True))
    assert len(found) == 40
    assert all(spans_of(found[row["text"]], row["text"]) == [(0, 3, "A")] * len(row["spans"]) for row in rows)


def test_tags_of_labels():
    assert tag_names(["LOC", "PER"]) == ["O", "B-LOC", "I-LOC", "B-PER", "I-PER"]
    assert spans_of_tags([[1, 2, 0, 3, 4, 4], [2, 1, 1, 4, -1, 0]]) == [
        (0, 0, 1, 0),
        (0, 3, 5, 1),
        (1, 0, 0, 0),
        (1, 1, 1, 0),
        (1, 2, 2, 0),
        (1, 3, 3, 1),
    ]


def test_the_likeliest_tags_are_those_of_all_valid_sequences():
    """Against a walk through every sequence in which a label goes on only where it began."""
    rng = np.random.default_rng(0)
    valid = lambda tags: all(
        tag % 2 or not tag or before in (tag - 1, tag) for before, tag in zip((0, *tags), tags, strict=False)
    )
    lengths = [4, 2, 0, 3]
    scores = np.log(rng.dirichlet(np.ones(5), (4, 4)))
    found = likeliest_tags(scores, np.arange(4) < np.array(lengths)[:, None])
    for row, length in enumerate(lengths):
        sequences = [tags for tags in itertools.product(range(5), repeat=length) if valid(tags)]
        best = max(sequences, key=lambda tags: sum(scores[row, place, tag] for place, tag in enumerate(tags)))
        assert found[row].tolist() == [*best, *[0] * (4 - length)]
