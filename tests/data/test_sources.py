"""Sources: what they read, how they split, and what they say when they cannot."""

import gzip
import io
import os
import struct
import sys
import tarfile
import time
from pathlib import Path

import numpy as np
import pytest

from suite.data.sources import datasets
from suite.errors import InputError

TFDS_DIR = os.environ.get("TFDS_DATA_DIR") or (
    str(Path(os.environ["SUITE_DATA"]) / "tfds") if "SUITE_DATA" in os.environ else ""
)
needs_tfds = pytest.mark.skipif(not TFDS_DIR, reason="TFDS_DATA_DIR and SUITE_DATA are unset: no prepared datasets")
needs_data = pytest.mark.skipif("SUITE_DATA" not in os.environ, reason="SUITE_DATA is unset: no real data")


def every(source):
    return source[np.arange(len(source))]


def all_texts(data, column="text"):
    return {split: every(data.open(split))[column] for split in datasets.SPLITS}


def write_table(path, rows=200):
    path.write_text("text,label\n" + "".join(f"review number {i},{i % 2}\n" for i in range(rows)))
    return path


def test_memory_gathers_arrays_and_lists():
    memory = datasets.Memory({"image": np.arange(24, dtype=np.uint8).reshape(6, 2, 2), "text": list("abcdef")})
    columns = memory[np.array([4, 0])]
    assert memory.schema == {"image": "image", "text": "text"} and len(memory) == 6
    np.testing.assert_array_equal(columns["image"], np.arange(24).reshape(6, 2, 2)[[4, 0]])
    assert columns["text"] == ["e", "a"]


def test_memory_refuses_columns_of_different_lengths():
    with pytest.raises(InputError, match="columns have different lengths"):
        datasets.Memory({"a": [1], "b": [1, 2]})


def test_subset_maps_indices_and_keeps_what_was_dropped():
    memory = datasets.Memory({"n": np.arange(10)}, dropped={"empty": 2})
    view = datasets.Subset(memory, np.array([7, 3, 5]))
    assert view[np.array([2, 0])]["n"].tolist() == [5, 7]
    assert view.dropped == {"empty": 2}
    assert datasets.Subset(view, np.array([1]), {"broken": 1}).dropped == {"broken": 1}


def test_seeded_split_is_stable_balanced_and_quick():
    keys = [f"record {i}" for i in range(50_000)]
    start = time.perf_counter()
    part = datasets.seeded_split(keys, 0, (0.1, 0.2))
    assert time.perf_counter() - start < 1.0
    np.testing.assert_allclose(np.bincount(part) / len(keys), [0.7, 0.1, 0.2], atol=0.01)
    np.testing.assert_array_equal(part[:100], datasets.seeded_split(keys[:100], 0, (0.1, 0.2)))
    assert (part != datasets.seeded_split(keys, 1, (0.1, 0.2))).mean() > 0.2


def test_seeded_split_refuses_fractions_that_leave_no_training_data():
    with pytest.raises(InputError, match="sum to less than 1"):
        datasets.seeded_split([1], 0, (0.5, 0.5))


def test_table_splits_are_disjoint_complete_and_stable_when_rows_are_added(tmp_path):
    path = write_table(tmp_path / "reviews.csv")
    before = all_texts(datasets.Table(path=str(path)))
    assert sum(map(len, before.values())) == len(set().union(*before.values())) == 200
    write_table(path, 300)
    after = all_texts(datasets.Table(path=str(path)))
    assert all(set(before[split]) <= set(after[split]) for split in datasets.SPLITS)


def test_equal_rows_share_a_split(tmp_path):
    path = tmp_path / "t.jsonl"
    path.write_text("".join(f'{{"text": "twin {i % 50}", "label": 1}}\n' for i in range(200)))
    texts = all_texts(datasets.Table(path=str(path), validation=0.3, test=0.3))
    assert not set(texts["train"]) & set(texts["test"]) and not set(texts["train"]) & set(texts["validation"])


def test_column_of_splits(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("text,part\na,train\nb,dev\nc,test\nd,other\n")
    data = datasets.Table(path=str(path), split="part")
    assert all_texts(data) == {"train": ["a"], "validation": ["b"], "test": ["c"]}
    with pytest.raises(InputError, match="there is no column 'splt'"):
        datasets.Table(path=str(path), split="splt").open("train")


def test_tsv_has_literal_quotes_crlf_and_counts_ragged_rows(tmp_path):
    path = tmp_path / "train.tsv"
    path.write_bytes(b'text\tlabel\r\nsay "hi\t1\r\nbad\r\n"x" y\t0\r\n')
    source = datasets.Table(path=str(tmp_path), validation=0.0).open("train")
    columns = every(source)
    assert columns["text"] == ['say "hi', '"x" y'] and columns["label"].tolist() == [1, 0]
    assert source.dropped == {"wrong number of fields": 1}


def test_csv_types_come_from_the_whole_file(tmp_path):
    path = tmp_path / "t.csv"
    rows = "".join(f"{i},{i / 2},2020-01-0{i % 9 + 1},true\n" for i in range(50)) + "x,,later,maybe\n"
    path.write_text("a,b,c,d\n" + rows)
    source = datasets.Table(path=str(path), validation=0.0, test=0.0).open("train")
    assert source.schema == {"a": "text", "b": "float", "c": "text", "d": "text"}
    assert np.isnan(every(source)["b"][-1]) and every(source)["c"][0] == "2020-01-01"


def test_table_without_header_gzip_and_parquet(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    with gzip.open(tmp_path / "t.csv.gz", "wt") as file:
        file.write("good;1\nbad;0\n")
    data = datasets.Table(path=str(tmp_path / "t.csv.gz"), header=("text", "label"), validation=0.0, test=0.0)
    assert every(data.open("train"))["text"] == ["good", "bad"]
    pq.write_table(pa.table({"text": ["a", None], "label": [1, 0]}), tmp_path / "t.parquet")
    data = datasets.Table(path=str(tmp_path / "t.parquet"), validation=0.0, test=0.0)
    assert every(data.open("train"))["text"] == ["a", None]


def test_jsonl_counts_broken_lines(tmp_path):
    path = tmp_path / "t.jsonl"
    path.write_text('{"text": "a", "label": "x"}\n{"text": \n[1]\n{"label": "y"}\n')
    source = datasets.Table(path=str(path), validation=0.0, test=0.0).open("train")
    assert source.dropped == {"not a JSON object": 2}
    assert every(source) == {"text": ["a", None], "label": ["x", "y"]}


def test_not_utf8_names_file_offset_and_fix(tmp_path):
    path = tmp_path / "t.csv"
    path.write_bytes("text,label\ncafé,1\n".encode("latin1"))
    with pytest.raises(InputError) as error:
        datasets.Table(path=str(path)).open("train")
    assert str(error.value) == (
        f"{path}: this file is not UTF-8 text\n"
        "  found: byte 0xe9 at offset 14\n"
        f"  try:   iconv -f latin1 -t utf-8 {path} > {path.with_suffix('.utf8.csv')}"
    )


def test_empty_split_message(tmp_path):
    path = write_table(tmp_path / "t.csv", 3)
    with pytest.raises(InputError) as error:
        datasets.Table(path=str(path), validation=0.0).open("validation")
    assert str(error.value) == (
        f"{path}: the validation split is empty\n"
        "  found: 0 records\n"
        "  try:   add rows, or hold out more of them: --task.data.validation 0.3"
    )


def test_folder_of_tables_carves_validation_and_has_no_test(tmp_path):
    write_table(tmp_path / "train.csv")
    data = datasets.from_path(str(tmp_path))
    assert len(data.open("train")) + len(data.open("validation")) == 200
    with pytest.raises(InputError, match="there is no split 'test'"):
        data.open("test")


def make_tree(root, splits=("train", "test"), count=20):
    for split in splits:
        for label in ("pos", "neg"):
            (root / split / label).mkdir(parents=True)
            for i in range(count):
                (root / split / label / f"{i}.txt").write_text(f"{split} {label} {i}")
    return root


def test_folder_of_texts_carves_validation(tmp_path):
    data = datasets.Folder(path=str(make_tree(tmp_path / "reviews")), validation=0.25)
    sizes = {split: len(data.open(split)) for split in datasets.SPLITS}
    assert sizes["train"] + sizes["validation"] == 40 and sizes["test"] == 40 and sizes["validation"] > 2
    source = data.open("train")
    row = {name: values[0] for name, values in every(source).items()}
    assert source.classes == {"label": ["neg", "pos"]} and source.schema["text"] == "text"
    assert source.classes["label"][row["label"]] == row["text"].split()[1] == row["file"].split("/")[1]


def test_archive_reads_as_its_folder_and_skips_links(tmp_path):
    make_tree(tmp_path / "x" / "reviews")
    with tarfile.open(tmp_path / "r.tar.gz", "w:gz") as archive:
        archive.add(tmp_path / "x" / "reviews", "reviews")
        link = tarfile.TarInfo("reviews/train/pos/evil.txt")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
    packed = every(datasets.from_path(str(tmp_path / "r.tar.gz")).open("test"))
    plain = every(datasets.Folder(path=str(tmp_path / "x" / "reviews")).open("test"))
    assert packed["text"] == plain["text"] and packed["label"].tolist() == plain["label"].tolist()
    assert len(datasets.Folder(path=str(tmp_path / "r.tar.gz"), validation=0.0).open("train")) == 40


def test_damaged_archive(tmp_path):
    (tmp_path / "r.tar").write_bytes(b"not a tar" * 100)
    with pytest.raises(InputError, match="this archive cannot be read"):
        datasets.from_path(str(tmp_path / "r.tar")).open("train")


def test_folder_of_images_holds_paths_until_encoded(tmp_path):
    for label in ("cat", "dog"):
        (tmp_path / label).mkdir()
        for i in range(5):
            (tmp_path / label / f"{i}.png").write_bytes(b"x")
    source = datasets.from_path(str(tmp_path))
    source = datasets.Folder(path=source.path, validation=0.0, test=0.0).open("train")
    assert source.schema["image"] == "image" and len(source) == 10
    assert every(source)["image"][0] == str(tmp_path / "cat" / "0.png")


def test_folder_without_classes_says_how_to_arrange_files(tmp_path):
    (tmp_path / "a.txt").write_text("x")
    with pytest.raises(InputError, match="arrange files as"):
        datasets.Folder(path=str(tmp_path)).open("train")


def test_lines(tmp_path):
    path = tmp_path / "t.txt"
    path.write_text("one\n\ntwo\nthree\n")
    source = datasets.Lines(path=str(path), validation=0.0, test=0.0).open("train")
    assert every(source)["text"] == ["one", "two", "three"] and source.dropped == {"blank line": 1}


def test_a_line_ends_in_a_line_feed_alone(tmp_path):
    said = ["one\u2028half", "two\x85 and \x0c more", "three"]
    path = tmp_path / "t.txt"
    path.write_bytes("\r\n".join(said).encode())
    assert every(datasets.Lines(path=str(path), validation=0.0, test=0.0).open("train"))["text"] == said
    assert datasets.read_input(str(path), "text") == {"text": said}


def test_npz_with_splits_carves_validation(tmp_path):
    images = np.arange(100 * 4, dtype=np.uint16).reshape(100, 2, 2).astype(np.uint8)
    np.savez(
        tmp_path / "a.npz", x_train=images, y_train=np.arange(100)[:, None], x_test=images[:7], y_test=np.arange(7)
    )
    data = datasets.from_path(str(tmp_path / "a.npz"))
    train, validation = data.open("train"), data.open("validation")
    assert len(train) + len(validation) == 100 and len(data.open("test")) == 7
    assert every(train)["image"].shape[1:] == (2, 2, 1) and every(train)["label"].ndim == 1


def test_npz_refuses_pickled_objects(tmp_path):
    np.savez(tmp_path / "a.npz", x=np.array([{}], object))
    with pytest.raises(InputError, match="pickled objects are not read"):
        datasets.ArrayFile(path=str(tmp_path / "a.npz")).open("train")


def test_idx_folder(tmp_path):
    images = np.arange(3 * 4, dtype=np.uint8).reshape(3, 2, 2)
    for prefix in ("train", "t10k"):
        with gzip.open(tmp_path / f"{prefix}-images-idx3-ubyte.gz", "wb") as file:
            file.write(struct.pack(">HBB3I", 0, 8, 3, 3, 2, 2) + images.tobytes())
        (tmp_path / f"{prefix}-labels-idx1-ubyte").write_bytes(struct.pack(">HBBI", 0, 8, 1, 3) + bytes([4, 5, 6]))
    columns = every(datasets.from_path(str(tmp_path)).open("test"))
    np.testing.assert_array_equal(columns["image"][..., 0], images)
    assert columns["label"].tolist() == [4, 5, 6]


def test_digits_split_without_overlap():
    data = datasets.Digits()
    sizes = [len(data.open(split)) for split in datasets.SPLITS]
    assert sum(sizes) == 1797 and min(sizes) > 100
    columns = every(data.open("test"))
    assert columns["image"].shape[1:] == (8, 8, 1) and columns["image"].max() == 255


def test_synthetic_sentiment_needs_more_than_a_bag_of_words():
    from sklearn.feature_extraction.text import CountVectorizer
    from sklearn.linear_model import LogisticRegression

    data = datasets.SyntheticSentiment(examples=3000, noise=0.0)
    assert data.origin == "synthetic (best reachable accuracy 1.000)"
    train, test = every(data.open("train")), every(data.open("test"))
    words = CountVectorizer().fit(train["text"])
    model = LogisticRegression(max_iter=300).fit(words.transform(train["text"]), train["label"])
    assert model.score(words.transform(test["text"]), test["label"]) < 0.8
    assert not set(train["text"]) & set(test["text"])


def test_synthetic_labels_are_flipped_at_the_stated_rate():
    clean = every(datasets.SyntheticSentiment(noise=0.0).open("train"))
    noisy = every(datasets.SyntheticSentiment(noise=0.1).open("train"))
    assert clean["text"] == noisy["text"]
    assert 0.08 < (clean["label"] != noisy["label"]).mean() < 0.12


def test_missing_path_names_the_nearest(tmp_path):
    write_table(tmp_path / "reviews.csv")
    with pytest.raises(InputError) as error:
        datasets.from_path(str(tmp_path / "revews.csv"))
    assert error.value.fix == str(tmp_path / "reviews.csv")


def test_unknown_kind_of_file(tmp_path):
    (tmp_path / "a.docx").write_text("x")
    with pytest.raises(InputError, match="this kind of file is not known"):
        datasets.from_path(str(tmp_path / "a.docx"))


def test_unknown_split_is_named():
    with pytest.raises(InputError, match="use 'train'"):
        datasets.Digits().open("trian")


def test_read_input(tmp_path, monkeypatch):
    assert datasets.read_input("a fine film", "text") == {"text": ["a fine film"]}
    (tmp_path / "a.txt").write_text("one\ntwo\n")
    assert datasets.read_input(str(tmp_path / "a.txt"), "text") == {"text": ["one", "two"]}
    table = datasets.read_input(str(write_table(tmp_path / "t.csv", 2)), "text")
    assert table["text"] == ["review number 0", "review number 1"]
    (tmp_path / "i.png").write_bytes(b"")
    name = str(tmp_path / "i.png")
    assert datasets.read_input(name, "image") == {"image": [name], "file": [name]}
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"x\ny\n")))
    assert datasets.read_input("-", "text") == {"text": ["x", "y"]}
    with pytest.raises(InputError, match="no such file"):
        datasets.read_input(str(tmp_path / "b.csv"), "text")


@pytest.mark.parametrize("text", ["word " * 80, "x" * 300, "~nobody was here", "one\x00two", ""])
def test_a_text_that_cannot_be_a_file_is_a_text(text):
    assert datasets.read_input(text, "text") == {"text": [text]}


@pytest.mark.parametrize("path", ["x" * 300, "~nobody/texts.csv", "/nowhere/" + "x" * 300])
def test_a_path_that_cannot_be_a_file_is_not_there(path):
    with pytest.raises(InputError, match="no such file or folder"):
        datasets.from_path(path)


@needs_tfds
def test_tfds_is_read_without_tensorflow_and_cached(tmp_path, monkeypatch):
    monkeypatch.setenv("SUITE_CACHE", str(tmp_path))
    data = datasets.Tfds(name="glue/sst2", data_dir=TFDS_DIR)
    first = data.open("validation")
    assert "tensorflow" not in sys.modules
    assert len(first) == 872 and first.classes == {"label": ["negative", "positive"]}
    assert [path.name.startswith("glue_sst2-2.0.0-validation-") for path in (tmp_path / "data").iterdir()] == [True]
    assert every(data.open("validation"))["sentence"] == every(first)["sentence"]


@needs_tfds
def test_tfds_goes_on_where_the_cache_cannot_be_written(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("SUITE_CACHE", str(tmp_path / "file"))
    assert len(datasets.Tfds(name="glue/sst2", data_dir=TFDS_DIR).open("validation")) == 872


@needs_tfds
def test_tfds_carves_validation_and_decodes_images(tmp_path, monkeypatch):
    monkeypatch.setenv("SUITE_CACHE", str(tmp_path))
    data = datasets.Tfds(name="fashion_mnist", data_dir=TFDS_DIR)
    test = data.open("test")
    assert test[np.array([5, 9])]["image"].shape == (2, 28, 28, 1) and len(test) == 10_000
    with pytest.raises(InputError, match=r"set validation=0\.1"):
        data.open("validation")


def test_tfds_that_is_not_prepared_says_how_to(tmp_path):
    with pytest.raises(InputError) as error:
        datasets.Tfds(name="mnist", data_dir=str(tmp_path)).open("train")
    assert ".[prepare]" in error.value.fix and "tfds build mnist" in error.value.fix


@needs_data
def test_real_tables():
    root = Path(os.environ["SUITE_DATA"])
    glue = datasets.from_path(str(root / "sst2_glue"))
    assert [len(glue.open(split)) for split in datasets.SPLITS] == [67_349, 872, 1_821]
    with pytest.raises(InputError, match="this file is not UTF-8 text"):
        datasets.Table(path=str(root / "ml-100k" / "u.item")).open("train")
