"""Catalogues of bundles: other records take the place of those of the export, without training code."""

import json

import numpy as np
import pytest

import suite
from suite.bundles import manifest
from suite.bundles.bundle import Bundle
from suite.errors import InputError
from suite.weights import safetensors
from tests import retrieval, shop
from tests.untrained import untrained

OWN = ("tests",)
ASKED = {"digits": ["0123", "00", "333333333"], "seen": [[], ["item 2"], None]}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return untrained(shop.experiment(), tmp_path_factory.mktemp("shop") / "run")


@pytest.fixture(scope="module")
def bundle(run, tmp_path_factory):
    return suite.export(run, tmp_path_factory.mktemp("bundle") / "shop", platforms=("cpu",), allow=OWN)


def listed(path, rows):
    path.write_text("item,digits\n" + "".join(f'{name},"{digits}"\n' for name, digits in rows))
    return path


def test_a_bundle_with_a_catalogue_says_how_its_records_are_embedded(run, bundle):
    about = bundle.manifest
    assert list(bundle.programs) == ["predict"] and about.catalogue is not None
    assert about.catalogue.lengths == (6, 12)
    assert json.loads((bundle.folder / "bundle.json").read_text())["format"] == 3
    for ours, theirs in zip(bundle.predict(ASKED), run.predict(ASKED), strict=True):
        assert [one["item"] for one in ours["items"]] == [one["item"] for one in theirs["items"]]


def test_the_same_records_give_the_same_answers(run, bundle, tmp_path):
    rows = shop.Stock(21)[np.arange(21)]
    file = listed(tmp_path / "same.csv", zip(rows["item"], rows["digits"], strict=True))
    same, embedded = suite.replace_catalogue(bundle.folder, file, tmp_path / "same", allow=OWN)
    assert embedded.names == rows["item"] and not embedded.left_out.counts
    stored = safetensors.read(same.folder / manifest.REFERENCE)
    np.testing.assert_allclose(stored["vector"], run.reference_arrays["vector"], atol=1e-6)
    assert stored["record"].tolist() == list(range(21))
    assert same.predict(ASKED) == bundle.predict(ASKED)
    assert same.version != bundle.version and same.manifest.made["catalogue"] == "21 records of same.csv"


def test_items_that_are_new_removed_and_seen(bundle, tmp_path):
    before = [one["item"] for one in bundle.predict({"digits": ["0123"]})[0]["items"]]
    file = listed(tmp_path / "new.csv", [("new", "0123"), ("007", "01"), ("item 3", "33")])
    changed, _ = suite.replace_catalogue(bundle.folder, file, tmp_path / "changed", allow=OWN)
    (answer,) = changed.predict({"digits": ["0123"]})
    assert answer["items"][0] == {"item": "new", "score": pytest.approx(0, abs=1e-6)}
    assert {one["item"] for one in answer["items"]} == {"new", "007", "item 3"} != set(before)
    (answer,) = changed.predict({"digits": ["0123"], "seen": [["new", "item 2"]]})
    assert {one["item"] for one in answer["items"]} == {"007", "item 3"} and answer["unseen"] == 1
    assert changed.predict({"digits": ["0123"], "seen": [["new", "007", "item 3"]]})[0]["items"] == []
    again, _ = suite.replace_catalogue(changed.folder, file, tmp_path / "again", allow=OWN)
    assert again.predict(ASKED) == changed.predict(ASKED), "of a bundle that was given a catalogue before"


def test_many_items_in_blocks(bundle, tmp_path):
    rng = np.random.default_rng(0)
    rows = [(f"n{i}", shop.written(rng.integers(0, 4, 1 + i % 12))) for i in range(300)]
    many, embedded = suite.replace_catalogue(bundle.folder, listed(tmp_path / "m.csv", rows), tmp_path / "m", allow=OWN)
    assert len(embedded) == 300
    names = dict(rows)
    (answer,) = many.predict({"digits": [names["n299"]]})
    assert sorted(names[answer["items"][0]["item"]]) == sorted(names["n299"])


def test_records_that_cannot_be_used_are_left_out_and_named(bundle, tmp_path):
    rows = [("a", "01"), ("b", "0x"), ("a", "22"), ("", "11"), ("c", "0" * 13), ("d", "3")]
    _, embedded = suite.replace_catalogue(bundle.folder, listed(tmp_path / "f.csv", rows), tmp_path / "to", allow=OWN)
    assert embedded.names == ["a", "d"]
    assert embedded.left_out.lines() == [
        "1 left out, its item is that of a record before: a",
        "1 left out, without item: record 4",
        '1 left out, column "digits": must be digits from 0 to 3.: b',
        '1 left out, input "item": is longer than the model takes.: c',
    ]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("item,digits\na,x\n", 'catalogue: has no record that can be used.\n  found: 1 left out, column "digits"'),
        ("item,colour\na,red\n", "digits"),
        ("digits\n01\n", "item"),
        ("", "Empty CSV file"),
    ],
)
def test_catalogues_that_are_none(bundle, tmp_path, content, said):
    (tmp_path / "items.csv").write_text(content)
    with pytest.raises(InputError) as error:
        suite.replace_catalogue(bundle.folder, tmp_path / "items.csv", tmp_path / "to", allow=OWN)
    assert said in str(error.value)
    assert [path.name for path in tmp_path.iterdir()] == ["items.csv"], "nothing is left"


def test_the_command(run, bundle, tmp_path, command, refused):
    file = listed(tmp_path / "new.csv", [("a", "01"), ("b", "1x")])
    flags = ("--catalogue", file, "--allow", "tests")
    printed = command("export", bundle.folder, "--to", tmp_path / "one", *flags)
    assert "catalogue of 1 records" in printed and "must be digits from 0 to 3.: b" in printed
    command("predict", tmp_path / "one", "--input", "0123", "--allow", "tests")
    assert refused("export", bundle.folder, "--to", tmp_path / "one", *flags).startswith(
        f'suite export: --to "{tmp_path / "one"}": is there already.'
    )
    assert "flag --name: is of a run" in refused("export", bundle.folder, "--to", tmp_path / "x", "--name", "y", *flags)
    assert "flag --catalogue" in refused("export", "--refresh", bundle.folder, *flags)
    for more in (("--engines", "onnxruntime"), ("--int8",), ("--max-drop", "0.1")):
        said = refused("export", bundle.folder, "--to", tmp_path / "x", *flags, *more)
        assert f"flag {more[0]}: is for a bundle with the catalogue of its run" in said


def test_a_model_without_one(tmp_path):
    from tests import toy

    run = untrained(toy.experiment(), tmp_path / "run")
    folder = suite.export(run, tmp_path / "bundle", platforms=("cpu",), allow=OWN).folder
    for source, where in ((run.folder, "run"), (folder, "bundle")):
        with pytest.raises(InputError, match=f'{where} ".*": has no catalogue to replace.'):
            suite.replace_catalogue(source, "items.csv", tmp_path / "to", allow=OWN)


def test_an_unnamed_catalogue_and_a_refreshed_bundle(tmp_path):
    """Records that no answer names may be alike; programs that are written again take any number of records, too."""
    run = untrained(retrieval.experiment(), tmp_path / "run")
    suite.export(run, tmp_path / "bundle", platforms=("cpu",), allow=OWN)
    from suite.exporting.refreshing import refresh

    fresh = refresh(tmp_path / "bundle", tmp_path / "fresh", allow=OWN)
    assert fresh.predict([[1, 2, 3]]) == run.predict([[1, 2, 3]])
    (tmp_path / "items.jsonl").write_text('{"digits": [0]}\n{"digits": [1, 2, 3]}\n{"digits": [0]}\n')
    changed, embedded = suite.replace_catalogue(fresh.folder, tmp_path / "items.jsonl", tmp_path / "to", allow=OWN)
    assert embedded.names is None and len(embedded) == 3
    assert changed.predict([[1, 2, 3], [0]]) == [{"item": 1}, {"item": 0}]


def test_a_signed_bundle_is_signed_anew(bundle, tmp_path):
    file = listed(tmp_path / "new.csv", [("a", "01")])
    changed, _ = suite.replace_catalogue(bundle.folder, file, tmp_path / "to", allow=OWN)
    assert not (changed.folder / manifest.SIGNATURE).exists()
    card = (changed.folder / manifest.CARD).read_text()
    assert "The catalogue was replaced: it is 1 records of new.csv." in card
    assert Bundle.open(changed.folder, OWN).version == changed.version
