"""Tables: what columns are taken for, how they are encoded, and files that are larger than memory may be."""

import json
import os

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from suite.codecs.table import Clicks
from suite.data.preprocessing import tabular_schema
from suite.data.preprocessing.tabular import Fields
from suite.data.preprocessing.tabular_columns import MISSING, NO_ROW, UNSEEN
from suite.data.preprocessing.tabular_order import names_things
from suite.data.preprocessing.tabular_schema import guess
from suite.data.preprocessing.tabular_values import clicks, items, numbers, texts
from suite.data.sources import streamed_tables, tables
from suite.data.sources.clicks import CRITEO, MovieLens, histories, split_by_time
from suite.data.sources.column_types import Reading
from suite.data.sources.datasets import Table
from suite.data.sources.memory import Memory
from suite.errors import InputError


def fitted(source, path, **settings):
    """Fields as a run holds them: learnt, and read back from their file."""
    made = Fields(**settings)
    made.fit(source, "clicked", path / "fields.json")
    return Fields(**settings, file=str(path / "fields.json"))


def shop(count=400, seed=0):
    rng = np.random.default_rng(seed)
    tags = np.array(["new|sale", "sale", "", "new|red|sale"])
    return Memory(
        {
            "city": [("Rome", "Oslo", "Lima")[i] for i in rng.integers(0, 3, count)],
            "price": np.where(rng.random(count) < 0.1, np.nan, rng.random(count) * 10),
            "views": rng.integers(0, 3000, count),
            "stars": rng.integers(1, 6, count),
            "tags": tags[rng.integers(0, 4, count)].tolist(),
            "session_id": np.arange(count),
            "comment": [f"visit {i}" for i in range(count)],
            "shop": ["one"] * count,
            "clicked": rng.integers(0, 2, count),
        }
    )


def test_columns_are_judged_by_type_and_number_of_values():
    found = {g.name: g.kind for g in guess(shop(), ("clicked",), {}, "|", infer=True)}
    assert found == {
        "city": "categorical",
        "price": "dense",
        "views": "dense",
        "stars": "categorical",
        "tags": "list",
        "session_id": "ignored",
        "comment": "ignored",
        "shop": "ignored",
    }


def test_what_is_stated_needs_no_guess(tmp_path):
    made = fitted(shop(), tmp_path, categorical=("views",), dense=("stars",), infer=False)
    assert [n.name for n in made.numbers] == ["stars"] and [f.name for f in made.fields] == ["views"]


def test_the_schema_is_printed(tmp_path, capsys):
    fitted(shop(), tmp_path)
    printed = capsys.readouterr().err
    assert "price       dense        fractions" in printed
    assert "session_id  ignored      400 different numbers in 400 records: an identifier" in printed
    assert printed.strip() == Fields().describe(shop(), "clicked")


def test_numbers_are_normalised_by_the_training_split_with_an_indicator_of_gaps(tmp_path):
    source = shop()
    made = fitted(source, tmp_path)
    encoded = made.encode(source[np.arange(400)])["dense"]
    price, missing, views = encoded.T
    assert [n.name for n in made.numbers] == ["price", "views"] and [n.gaps for n in made.numbers] == [True, False]
    gaps = np.isnan(source[np.arange(400)]["price"])
    assert (missing == gaps).all() and (price[gaps] == 0).all()
    for column in (price[~gaps], views):
        assert abs(column.mean()) < 1e-5 and abs(column.std() - 1) < 1e-5
    assert made.sizes()["inputs"] == 3


def test_moments_do_not_depend_on_chunks(tmp_path, monkeypatch):
    """A large mean would be lost in a difference of sums."""
    rng = np.random.default_rng(0)
    x = 1e8 + rng.standard_normal(1000)
    source = Memory({"x": x, "clicked": np.zeros(1000)})
    whole = fitted(source, tmp_path).numbers[0]
    monkeypatch.setattr("suite.data.preprocessing.tabular_statistics.CHUNK", 7)
    parts = fitted(source, tmp_path).numbers[0]
    assert whole.std == pytest.approx(x.std(), rel=1e-6) and parts.std == pytest.approx(x.std(), rel=1e-6)
    assert whole.mean == pytest.approx(x.mean()) and parts.mean == pytest.approx(x.mean())


def test_long_tails_are_put_on_a_logarithmic_scale(tmp_path):
    rng = np.random.default_rng(0)
    source = Memory({"money": np.exp(3 * rng.standard_normal(2000)), "even": rng.random(2000), "clicked": [0] * 2000})
    assert {n.name: n.log for n in fitted(source, tmp_path).numbers} == {"money": True, "even": False}
    assert all(n.log for n in fitted(source, tmp_path, normalise="log").numbers)
    assert not any(n.log for n in fitted(source, tmp_path, normalise="standard").numbers)


def test_categories_get_rows_of_one_stack_and_the_rest_the_row_of_the_unseen(tmp_path):
    source = Memory({"a": ["x"] * 3 + ["y"] * 2 + ["rare"], "b": [1, 1, 1, 2, 2, 2], "clicked": [0, 1] * 3})
    made = fitted(source, tmp_path, categorical=("a", "b"))
    first, second = made.fields
    assert (first.start, first.size, first.values) == (0, 4, ("x", "y"))
    assert (second.start, second.size, second.values) == (4, 4, ("1", "2"))
    used = sum(field.size for field in made.fields)
    assert used == 8
    assert made.sizes() == {"rows": 64, "fields": 2, "lists": (), "inputs": 0}
    asked = {"a": ["x", "y", "rare", "never seen", None, ""], "b": [1, 2.0, "2", "two", float("nan"), None]}
    unseen, missing = UNSEEN, MISSING
    assert made.encode(asked)["ids"].T.tolist() == [
        [2, 3, unseen, unseen, missing, missing],
        [6, 7, 7, 4 + unseen, 4 + missing, 4 + missing],
    ]
    assert made.unseen_rows.tolist() == [0, 4]


def test_hashed_categories_keep_to_their_rows_and_their_hash(tmp_path):
    source = Memory({"a": [f"v{i}" for i in range(500)], "b": ["p", "q"] * 250, "clicked": [0, 1] * 250})
    made = fitted(source, tmp_path, hashed=(("a", 100),), categorical=("b",))
    assert [f.size for f in sorted(made.fields, key=lambda f: f.name)] == [100, 4]
    (field,) = [f for f in made.fields if f.hashed]
    rows = field.rows(texts([f"v{i}" for i in range(500)])) - field.start
    assert rows.min() >= 2 and rows.max() < 100 and len(set(rows.tolist())) > 90
    assert field.rows(["v7", None]).tolist() == [field.start + 66, field.start + MISSING]  # crc32, for all time


def test_a_column_of_too_many_values_is_hashed(tmp_path, monkeypatch):
    monkeypatch.setattr("suite.data.preprocessing.tabular_statistics.MOST_VALUES", 50)
    source = Memory({"a": [f"v{i % 90}" for i in range(500)], "clicked": [0, 1] * 250})
    (field,) = fitted(source, tmp_path).fields
    assert field.hashed and field.size == 50


def test_lists_are_padded_cut_and_weighted(tmp_path):
    source = Memory({"tags": ["a|b", "a", "a|b|c|d", "b|c|d", ""] * 4, "clicked": [0, 1] * 10})
    made = fitted(source, tmp_path, lists=("tags",), list_length=3)
    encoded = made.encode({"tags": ["b| a", "zzz", None, "a|b|c|d"]})
    row = {value: 2 + i for i, value in enumerate(made.fields[0].values)}
    a, b, c = row["a"], row["b"], row["c"]
    assert encoded["ids"].tolist() == [[b, a, NO_ROW], [UNSEEN, NO_ROW, NO_ROW], [MISSING, NO_ROW, NO_ROW], [a, b, c]]
    third = np.float32(1 / 3)
    assert encoded["weights"].tolist() == [[0.5, 0.5, 0], [1, 0, 0], [1, 0, 0], [third] * 3]
    assert made.sizes()["lists"] == (3,)
    summed = Fields(lists=("tags",), list_length=3, pooling="sum", file=made.file)
    assert summed.encode({"tags": ["a|b"]})["weights"].tolist() == [[1, 1, 0]]


def test_lists_come_after_categories(tmp_path):
    made = fitted(shop(), tmp_path)
    assert [f.name for f in made.fields] == ["city", "stars", "tags"]
    assert made.encode(shop()[np.arange(5)])["ids"].shape == (5, 2 + 3)


def test_absent_columns_are_missing_but_not_all_of_them(tmp_path):
    made = fitted(shop(), tmp_path)
    encoded = made.encode({"city": ["Oslo"]})
    assert encoded["dense"][0, 1] == 1 and encoded["ids"][0, 1] == made.fields[1].start + MISSING
    with pytest.raises(InputError) as error:
        made.encode({"town": ["Oslo"]})
    assert str(error.value).splitlines() == [
        "columns: none of those that the model was trained on is there",
        "  found: town",
        "  try:   price, views, city, stars, tags",
    ]


def test_wrong_columns_are_refused(tmp_path):
    with pytest.raises(InputError, match=r'field task\.fields\.lists: column "tag" is not in the data') as error:
        fitted(shop(), tmp_path, lists=("tag",))
    assert error.value.fix == "--task.fields.lists tags"
    with pytest.raises(InputError, match="no column is left to predict from"):
        fitted(shop(), tmp_path, infer=False)
    with pytest.raises(InputError, match=r"column price: holds a value that is no number\n  found: \'cheap\'"):
        fitted(shop(), tmp_path).encode({"price": ["cheap"]})


def test_values_and_labels():
    assert texts(np.array([1, 2])) == ["1", "2"] and texts([1.0, "", None, "x", True]) == ["1", None, None, "x", "True"]
    assert texts(np.array([1.5, np.nan])) == ["1.5", None]
    assert items(["a| b|", None, ["c", 4]], "|") == [["a", "b"], [], ["c", "4"]]
    assert numbers(["1", None, " ", 2.5, np.inf], "x").tolist()[0::3] == [1, 2.5]
    assert clicks(np.array([0, 1.0]), "y").tolist() == [0, 1] and clicks(["True", "no"], "y").tolist() == [1, 0]
    assert np.isnan(clicks(np.array([np.nan, 1]), "y")).tolist() == [True, False]
    assert clicks(["buy", "look", None], "y", "buy").tolist()[:2] == [1, 0]
    for wrong in (np.array([0, 3]), ["3", "0"]):
        with pytest.raises(InputError) as error:
            clicks(wrong, "y")
        assert str(error.value).splitlines() == [
            "column y: holds a label that is neither 1 nor 0; task.positive names the value that is a click.",
            "  found: 3",
            "  try:   --task.positive 3",
        ]


def test_labels_of_other_words_are_all_named_and_the_rarest_is_advised():
    with pytest.raises(InputError) as error:
        clicks(["nein", "it is", "nein"], "y")
    assert (error.value.found, error.value.fix) == ("nein, it is", "--task.positive 'it is'")


def test_split_by_time_takes_the_last_of_each_user():
    users, times = np.array(["a"] * 10 + ["b"] * 20 + ["c"]), np.r_[np.arange(10)[::-1], np.arange(20), 0]
    part = split_by_time(users, times)
    assert part[:10].tolist() == [2, 1] + [0] * 8  # a's first rows are its latest
    assert part[10:30].tolist() == [0] * 16 + [1, 1, 2, 2] and part[30] == 0


def test_movielens_holds_every_rating_once_and_looks_at_no_later_one():
    try:
        parts = {split: MovieLens().open(split) for split in ("train", "validation", "test")}
    except InputError as error:
        pytest.skip(f"the data is missing: {error.problem}")
    assert sum(map(len, parts.values())) == 100_000 and 9_000 < len(parts["test"]) < 10_000
    first = parts["train"][np.arange(200)]
    assert set("".join(first["genres"]).split("|")) and any("|" in genres for genres in first["genres"])
    whole = np.concatenate([part[np.arange(len(part))]["click"] for part in parts.values()])
    assert whole.sum() == 34_174 + 21_201  # fours and fives, as the source counts them


# Files.


def write_csv(path, rows=3000, ragged=0, late=""):
    rng = np.random.default_rng(0)
    lines = ["n,x,code,word,gap,clicked"]
    for i in range(rows):
        gap = "" if i % 7 else str(i)
        lines.append(f'{i},{rng.random():.6f},0{i % 90},"w, {i % 11}",{gap},{i % 2}')
    lines[-1] = late or lines[-1]
    lines[5:5] = ["1,2"] * ragged
    path.write_text("\n".join(lines) + "\n")
    return path


def columns_of(source):
    return {name: list(values) for name, values in source[np.arange(len(source))].items()}


@pytest.mark.parametrize("late", ["", "1.5,2.5,x1,word,,0", "many,few,00,word,1.25,1"])
def test_a_streamed_csv_is_the_one_that_is_read_whole(tmp_path, monkeypatch, late):
    """Also where the last of many blocks has values that the first block's types don't hold."""
    monkeypatch.setattr(streamed_tables, "BLOCK", 4096)
    file = write_csv(tmp_path / "t.csv", ragged=2, late=late)
    whole = tables.load(file, Reading(texts=("code",)))
    mapped = tables.load(file, Reading(texts=("code",)), most=0)
    assert isinstance(mapped, streamed_tables.Mapped) and not isinstance(whole, streamed_tables.Mapped)
    assert whole.schema == mapped.schema and whole.schema["code"] == "text"
    assert whole.dropped == mapped.dropped == {"wrong number of fields": 2}
    for name, values in columns_of(whole).items():
        np.testing.assert_array_equal(values, columns_of(mapped)[name])
    assert (tables.parts(whole, 0, (0.1, 0.1)) == tables.parts(mapped, 0, (0.1, 0.1))).all()
    assert (tables.parts(mapped, 0, (0.1, 0.1)) == tables.parts(mapped, 0, (0.1, 0.1))).all()  # from its file


def test_a_streamed_parquet_is_the_one_that_is_read_whole(tmp_path, monkeypatch):
    monkeypatch.setattr(streamed_tables, "ROWS", 50)
    n = 1000
    table = pa.table(
        {
            "i": range(n),
            "gap": [None if i == 999 else i for i in range(n)],
            "x": [i / 3 for i in range(n)],
            "word": [f"w{i % 5}" for i in range(n)],
            "tags": [["a", "b"][: i % 3] for i in range(n)],
            "yes": [bool(i % 2) for i in range(n)],
        }
    )
    pq.write_table(table, tmp_path / "t.parquet", row_group_size=100)
    whole, mapped = tables.load(tmp_path / "t.parquet"), tables.load(tmp_path / "t.parquet", most=0)
    assert whole.schema == mapped.schema
    for name, values in columns_of(whole).items():
        assert str(values) == str(columns_of(mapped)[name])  # nan is itself
    assert columns_of(mapped)["tags"][:3] == [[], ["a"], ["a", "b"]]
    assert (tables.parts(whole, 0, (0.2, 0.1)) == tables.parts(mapped, 0, (0.2, 0.1))).all()


def test_a_changed_file_is_read_anew(tmp_path):
    file = write_csv(tmp_path / "t.csv", rows=10)
    assert len(tables.load(file, most=0)) == 10
    write_csv(file, rows=20)
    assert len(tables.load(file, most=0)) == 20


def test_a_large_file_that_is_no_table_is_refused(tmp_path):
    (tmp_path / "t.parquet").write_bytes(b"PAR1" * 100)
    with pytest.raises(InputError, match="this is not a Parquet file"):
        tables.load(tmp_path / "t.parquet", most=0)
    (tmp_path / "t.csv").write_bytes(b"a,b\n1,\xff\xfe\xff\n" * 10)
    with pytest.raises(InputError, match=r"not UTF-8 text\n  found: byte 0xff at offset 6"):
        tables.load(tmp_path / "t.csv", most=0)


MEASURE = """
import re
import numpy as np
import pyarrow.csv
from suite.data.sources import streamed_tables
from suite.data.sources.datasets import Table
def peak():  # in MiB
    return int(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1]) / 1024
streamed_tables.BLOCK = 1 << 20
before = peak()
source = Table(path=PATH, in_memory=LIMIT).open("train")
chunk = source[np.arange(0, len(source), 1 + len(source) // 1000)]
print(peak() - before)
"""


def test_memory_is_bounded_where_a_file_is_large(tmp_path, child):
    """60 MB of text: streamed, it takes a few blocks and the mapped pages, less than half of what it takes whole."""
    if not os.path.exists("/proc/self/status"):
        pytest.skip("this system does not tell the peak of a process's memory")
    file = tmp_path / "big.csv"
    line = ",".join(f"{j:0300d}" + "v" for j in range(2))
    with open(file, "w") as out:
        out.write("a,b\n")
        out.writelines(f"{line}{i}\n" for i in range(100_000))
    size = file.stat().st_size / 2**20
    code = MEASURE.replace("PATH", repr(str(file)))
    streamed_peak, whole_peak = (float(child(code.replace("LIMIT", limit))) for limit in ("0", "1 << 40"))
    assert 2 * streamed_peak < whole_peak, (streamed_peak, whole_peak, size)


# Real files.


def test_criteo_and_avazu_as_their_files_are():
    data = os.environ.get("SUITE_DATA", "")
    if not os.path.isdir(os.path.join(data, "ctr_criteo")):
        pytest.skip("the data is missing: SUITE_DATA names the folder of datasets")
    from suite import load

    criteo = load("recommendation.criteo_deepfm").task
    train = criteo.source("train")
    assert len(train) == 7200 and len(criteo.source("validation")) == 409 and len(criteo.source("test")) == 391
    assert train.column("label", np.arange(7200)).sum() == 1549
    assert train.schema["C1"] == "text" and tuple(train.schema) == CRITEO
    avazu = load("recommendation.avazu_deepfm").task
    assert [len(avazu.source(split)) for split in ("train", "validation", "test")] == [8087, 480, 432]
    assert avazu.source("test").column("click", np.arange(432)).sum() == 80


def test_a_list_of_objects_is_a_table(tmp_path):
    rows = [{"a": 1, "b": "x"}, {"a": 2}]
    (tmp_path / "t.json").write_text(json.dumps(rows, indent=1))
    assert columns_of(tables.load(tmp_path / "t.json")) == {"a": [1, 2], "b": ["x", None]}


def test_a_header_line_is_left_out_where_it_says_what_was_stated(tmp_path):
    for name, text in (("train", "a,b\n1,2\n"), ("test", "3,4\n")):
        (tmp_path / f"{name}.csv").write_text(text)
    data = Table(path=str(tmp_path), header=("a", "b"), validation=0)
    assert columns_of(data.open("train")) == {"a": [1], "b": [2]}
    assert columns_of(data.open("test")) == {"a": [3], "b": [4]}


@pytest.mark.parametrize(
    "name",
    ["user", "item", "movie", "product", "ad", "city", "country", "device", "zip", "zip3", "code", "user_id", "id_17"]
    + ["movieId", "productID", "userid", "device type", "campaign.id", "postal_code", "countrycode", "ID", "Город id"],
)
def test_a_name_tells_that_numbers_name_things(name):
    assert names_things(name)


@pytest.mark.parametrize(
    "name",
    ["age", "user_age", "item_count", "adDuration", "price", "bid", "paid", "humid", "grid", "views", "n_items", ""]
    + ["number of users", "year", "level", "HTTP", "страница", "identity", "cityscape"],
)
def test_a_name_of_a_quantity_is_none_of_a_thing(name):
    assert not names_things(name)


def visits(count=6000):
    """Whole numbers whose effect on the click is that of a quantity, that of an identifier, or none."""
    rng = np.random.default_rng(0)
    years, place, plain = rng.integers(18, 81, count), rng.integers(0, 60, count), rng.integers(0, 50, count)
    codes, shop, effect = (
        np.sort(rng.choice(90_000, 70, replace=False)),
        rng.integers(0, 70, count),
        rng.normal(size=70),
    )
    logit = 0.05 * (years - 50) + effect[place] + effect[::-1][shop]
    return {
        "lived": years,
        "where": place,
        "plain": plain,
        "sparse": codes[shop],
        "row": np.arange(count),
        "person": np.where(plain == 7, np.nan, rng.integers(0, 300, count)),
        "movie": rng.integers(0, 300, count),
        "user_age": plain,
        "clicked": (rng.random(count) < 1 / (1 + np.exp(-logit))).astype(int),
    }


def test_whole_numbers_are_judged_by_name_and_by_the_order_of_the_label_in_them():
    found = {g.name: (g.kind, g.why) for g in guess(Memory(visits()), ("clicked",), {}, "|", infer=True)}
    assert found == {
        "lived": ("dense", "63 different integers; neighbouring values have similar labels"),
        "where": ("categorical", "60 different integers without gaps; neighbouring values have unrelated labels"),
        "plain": ("both", "50 different integers without gaps, like identifiers"),
        "sparse": ("both", "70 different integers; neighbouring values have unrelated labels"),
        "row": ("ignored", "6,000 different numbers in 6,000 records: numbers of rows"),
        "person": ("both", "300 different integers without gaps, like identifiers"),
        "movie": ("categorical", "300 different integers, by its name"),
        "user_age": ("dense", "50 different integers"),
    }
    worded = {**visits(), "clicked": [("no", "yes")[c] for c in visits()["clicked"]]}
    assert {g.name: (g.kind, g.why) for g in guess(Memory(worded), ("clicked",), {}, "|", infer=True)} == found


def test_a_column_that_is_a_number_and_a_category(tmp_path):
    made = fitted(Memory(visits()), tmp_path, ignored=("row", "movie", "person"))
    assert [n.name for n in made.numbers] == ["lived", "plain", "sparse", "user_age"]
    assert [f.name for f in made.fields] == ["where", "plain", "sparse"]
    assert made.sizes()["inputs"] == 4 and made.sizes()["fields"] == 3
    encoded = made.encode({"plain": [3, None, 99], "where": [1, 1, 1]})
    plain = made.fields[1]
    assert encoded["ids"][:, 1].tolist() == [
        plain.start + 2 + plain.values.index("3"),
        plain.start + MISSING,
        plain.start + UNSEEN,
    ]
    codec = Clicks(record="record", fields=made)
    assert [(i.name, i.kind) for i in codec.inputs] == [
        ("lived", "number"),
        ("plain", "number"),
        ("sparse", "number"),
        ("user_age", "number"),
        ("where", "category"),
    ]
    stated = fitted(Memory(visits()), tmp_path, dense=("where",), categorical=("where", "plain"), infer=False)
    assert [n.name for n in stated.numbers] == ["where"] and [f.name for f in stated.fields] == ["where", "plain"]


def test_identifiers_of_a_long_log_are_judged_by_more_of_it(monkeypatch):
    """In the first sample each is there once or twice, in the log many times."""
    rng = np.random.default_rng(0)
    effect, person = rng.normal(size=1000), rng.integers(0, 1000, 12_000)
    labels = rng.random(12_000) < 1 / (1 + np.exp(-2 * effect[person]))
    source = Memory({"session_of": 7 * person, "clicked": labels.astype(int)})
    monkeypatch.setattr(tabular_schema, "SAMPLE", 1500)
    (found,) = guess(source, ("clicked",), {}, "|", infer=True)
    assert (found.kind, found.why) == ("both", "1,000 different integers; neighbouring values have unrelated labels")


def test_whole_numbers_that_are_seldom_repeated_are_categories_only_beside_their_value():
    rng = np.random.default_rng(0)
    place, size = rng.integers(0, 1000, 5000), rng.integers(0, 1000, 5000)
    logit = 2 * rng.normal(size=1000)[place] + 0.004 * (size - 500)
    labels = (rng.random(5000) < 1 / (1 + np.exp(-logit))).astype(int)
    source = Memory({"where": 7 * place, "length": size, "nothing": rng.integers(0, 1000, 5000), "clicked": labels})
    kinds = {g.name: g.kind for g in guess(source, ("clicked",), {}, "|", infer=True)}
    assert kinds == {"where": "both", "length": "dense", "nothing": "dense"}


def test_bins_of_numbers_are_categories_beside_their_values(tmp_path):
    source = Memory(
        {
            "price": [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, None],
            "rooms": [1.5, 2.5] * 4 + [2.5],
            "tags": ["a|b"] * 9,
            "city": ["Rome"] * 5 + ["Oslo"] * 4,
            "clicked": [0, 1] * 4 + [1],
        }
    )
    (tmp_path / "binned").mkdir()
    stated = {"dense": ("price", "rooms"), "lists": ("tags",)}
    plain = fitted(source, tmp_path, **stated)
    binned = fitted(source, tmp_path / "binned", **stated, bins=4, bins_as_categories=True)
    columns = {
        "price": [-9.0, 0.0, 1.8, 5.9, 7.0, 99.0, None],
        "rooms": [1.5, 2.0, 2.5, 3.0, None, 0.0, 2.5],
        "city": ["Rome"] * 7,
        "tags": ["a"] * 7,
    }
    ids, known = binned.encode(columns)["ids"], plain.encode(columns)["ids"]
    np.testing.assert_array_equal(ids[:, [0, 3, 4]], known)  # city, then the list behind the bins
    np.testing.assert_array_equal(binned.encode(columns)["dense"], plain.encode(columns)["dense"])
    start = sum(field.size for field in binned.fields)
    assert (ids[:, 1] - start).tolist() == [1, 1, 2, 4, 5, 5, 0]
    assert (ids[:, 2] - start - binned.numbers[0].places).tolist() == [1, 1, 2, 2, 0, 1, 2]
    sizes = binned.sizes()
    assert sizes["fields"] == plain.sizes()["fields"] + 2 and ids.max() < sizes["rows"]
    assert (ids[:, 1:3] != binned.unseen_rows[1:3]).all()


def viewed():
    """Records with what was seen before: five items, of which e is rare."""
    return Memory(
        {
            "item": ["a", "b", "c", "d", "a", "b", "c", "d", "e"],
            "seen": [[], ["a"], ["a", "b"], ["a", "b", "c"], [], ["b"], ["zzz", "e"], ["a"], ["d"]],
            "clicked": [0, 1, 0, 1, 0, 1, 0, 1, 0],
        }
    )


def test_a_history_has_the_rows_of_its_candidates_and_keeps_the_latest(tmp_path, capsys):
    made = fitted(viewed(), tmp_path, categorical=("item",), histories=(("seen", "item"),), history_length=2)
    said = capsys.readouterr().err
    assert "column seen: items of column item, 1.2 a record; 2 of 9 records have none, 1 have more" in said
    item, seen = made.fields
    assert (seen.of, seen.length, seen.start, seen.size) == ("item", 2, item.start, item.size)
    assert made.sizes()["histories"] == ((0, 0),) and made.sizes()["rows"] == 64
    row = {value: item.start + 2 + place for place, value in enumerate(item.values)}
    asked = {"item": ["a", "a", "a", "a"], "seen": [["a", "b", "c"], "b|d", None, ["strange", "b"]]}
    encoded = made.encode(asked)
    assert encoded["ids"][:, 1:].tolist() == [
        [row["b"], row["c"]],
        [row["b"], row["d"]],
        [NO_ROW, NO_ROW],
        [item.start + UNSEEN, row["b"]],
    ]
    assert encoded["weights"].tolist() == [[0.5, 0.5], [0.5, 0.5], [0, 0], [0.5, 0.5]]
    assert (encoded["ids"] == made.unseen_rows).sum(-1).tolist() == [0, 0, 0, 1]


def test_a_history_of_hashed_candidates_has_their_hash(tmp_path):
    made = fitted(viewed(), tmp_path, hashed=(("item", 100),), histories=(("seen", "item"),))
    ids = made.encode({"item": ["c", "new"], "seen": [["c"], ["new"]]})["ids"]
    assert (ids[:, 0] == ids[:, 1]).all()


def test_an_answer_counts_the_items_of_histories_that_are_cut(tmp_path):
    made = fitted(viewed(), tmp_path, categorical=("item",), histories=(("seen", "item"),), history_length=2)
    codec = Clicks(record="record", fields=made)
    assert [output.name for output in codec.outputs] == ["probability", "unseen", "cut"]
    outputs = {"logits": np.zeros(2), "unseen": np.zeros(2)}
    records = {"record": [{"item": "a", "seen": ["a", "b", "c", "d"]}, {"item": "b"}]}
    assert [answer["cut"] for answer in codec.decode(outputs, records)] == [2, 0]
    (seen,) = [entry for entry in codec.inputs if entry.name == "seen"]
    assert seen.kind == "list" and "the last 2 are read" in seen.description


@pytest.mark.parametrize(
    ("histories", "where", "fix"),
    [
        ((("sen", "item"),), "field task.fields.histories", "--task.fields.histories seen item"),
        ((("seen", "price"),), "field task.fields.histories", "--task.fields.categorical item price"),
        ((("spaced", "item"),), "column spaced", "--task.fields.separator ' '"),
        ((("empty", "item"),), "column empty", "name another column"),
    ],
)
def test_histories_that_say_nothing_are_refused(histories, where, fix, tmp_path):
    source = viewed()
    more = {"price": np.arange(9) + 0.5, "spaced": ["a b", "c d"] * 4 + [""], "empty": [[]] * 9}
    source = Memory({**source[np.arange(9)], **more})
    with pytest.raises(InputError) as error:
        fitted(source, tmp_path, categorical=("item",), dense=("price",), histories=histories, infer=False)
    assert (error.value.where, error.value.fix) == (where, fix)


def test_histories_of_events_hold_what_came_before_them():
    users, times = np.array([1, 2, 1, 1, 1, 2, 1]), np.array([5, 1, 1, 5, 9, 2, 11])
    liked = np.array([1, 1, 1, 0, 1, 1, 1], bool)
    made = histories(users, times, list("abcdefg"), liked, 2)
    assert made == [["c"], [], [], ["c"], ["c", "a"], ["b"], ["a", "e"]]
