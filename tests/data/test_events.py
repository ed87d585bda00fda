"""Events: what is held out of each user, what is left out and counted, and times of every form."""

import gzip

import numpy as np
import pytest

from suite.data.sources.citeulike import CiteULike
from suite.data.sources.datasets import Lines, Table, from_path
from suite.data.sources.events import EventSplit, read_events
from suite.data.sources.histories import EVENTS, Histories
from suite.data.sources.item_lists import ItemLists
from suite.data.suggestion import suggested
from suite.errors import InputError
from suite.experiment import recipes

EVENTS_OF_ANN = [("ann", "a", 1), ("ann", "b", 2), ("ann", "c", 3), ("ann", "d", 4)]
LOG = [*EVENTS_OF_ANN, ("bob", "b", 5), ("bob", "a", 6), ("cid", "e", 7), ("cid", "f", 8), ("cid", "e", 9)]
"""The last event of cid repeats the first; bob has two."""


def table(folder, rows, header="user,item,time"):
    file = folder / "events.csv"
    file.write_text("\n".join([header, *(",".join(map(str, row)) for row in rows)]) + "\n")
    return Table(path=str(file))


def opened(data, split, time="time", by="auto", stretch=0, **shares):
    events = read_events(data, "user", "item", time, EventSplit(by=by, **shares))
    return Histories(events, split, "history", stretch)


def rows(source):
    columns = source[np.arange(len(source))]
    return {
        user: tuple(values[place] for name, values in columns.items() if name != "user")
        for place, user in enumerate(columns["user"])
    }


def test_the_last_event_of_each_user_is_held_out_in_the_order_of_time(tmp_path):
    shuffled = [LOG[place] for place in np.random.default_rng(0).permutation(len(LOG))]
    data = table(tmp_path, shuffled)
    assert rows(opened(data, "train")) == {"ann": (["a", "b"],), "bob": (["b", "a"],), "cid": (["e"],)}
    assert rows(opened(data, "validation")) == {"ann": (["a", "b"], ["c"]), "cid": (["e"], ["f"])}
    test = opened(data, "test")
    assert rows(test) == {"ann": (["a", "b", "c"], ["d"])}
    assert test.dropped == {"items the user had before": 1}  # cid's: it is not ranked again
    assert any("leave_last_out" in note and "%" in note for note in test.notes)  # bob's events come after ann's test


def test_without_a_leak_nothing_is_said(tmp_path):
    notes = opened(table(tmp_path, EVENTS_OF_ANN), "test").notes
    assert not any("leave_last_out" in note for note in notes)


def test_events_split_by_time_learn_nothing_from_what_comes_later(tmp_path):
    log = [(f"u{place % 7}", f"i{place % 13}", place) for place in range(100)]
    data = table(tmp_path, log)
    events = read_events(data, "user", "item", "time", EventSplit(by="time", validation=0.2, test=0.3))
    assert [int((events.part == part).sum()) for part in range(3)] == [50, 20, 30]
    held = opened(data, "test", by="time", validation=0.2, test=0.3)
    known = rows(held)
    assert all(set(history).isdisjoint(items) for history, items in known.values())


def test_events_split_at_random_have_equal_events_on_one_side(tmp_path):
    log = [(f"u{place % 50}", f"i{place % 40}", 0) for place in range(2000)]  # each ten times
    data = table(tmp_path, log)
    events = read_events(data, "user", "item", "", EventSplit(by="random"))
    parts = {}
    for user, item, part in zip(events.user, events.item, events.part, strict=True):
        parts.setdefault((user, item), set()).add(part)
    assert all(len(sides) == 1 for sides in parts.values())
    shares = np.bincount(events.part, minlength=3) / len(events.part)
    np.testing.assert_allclose(shares, [0.8, 0.1, 0.1], atol=0.06)
    other = read_events(data, "user", "item", "", EventSplit(by="random", seed=1))
    assert (other.part != events.part).any()


def test_without_an_order_events_are_split_at_random(tmp_path):
    assert read_events(table(tmp_path, LOG), "user", "item", "", EventSplit()).by == "random"


def test_stretches_of_training_are_counted_from_the_latest_event(tmp_path):
    log = [("ann", f"i{place}", place) for place in range(9)]
    source = opened(table(tmp_path, log), "train", stretch=3)
    assert source[np.arange(len(source))][EVENTS] == [["i4", "i5", "i6"], ["i1", "i2", "i3"], ["i0"]]


def test_events_without_user_item_or_time_are_counted(tmp_path):
    log = [*LOG, ("", "a", 1), ("dan", "", 2), ("dan", "a", "")]
    assert opened(table(tmp_path, log), "train").dropped == {"no user": 1, "no item": 1, "no time": 1}


@pytest.mark.parametrize(
    "times",
    [
        ["2026-01-01", "2026-01-02", "2026-02-01", "2027-01-01"],
        ["2026-01-01T08:00:00Z", "2026-01-01T09:30:00Z", "2026-01-02T00:00:00Z", "2026-01-03T00:00:00Z"],
        [9, 10, 99, 100],
        [0.5, 1.5, 10.25, 11.0],
    ],
)
def test_times_are_numbers_or_dates(tmp_path, times):
    log = [("ann", item, time) for item, time in zip("abcd", times, strict=True)]
    source = opened(table(tmp_path, log[::-1]), "test", time="time")
    assert rows(source) == {"ann": (["a", "b", "c"], ["d"])}


def test_what_is_no_time_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"column time.*is no time"):
        opened(table(tmp_path, [("ann", "a", "soon"), ("ann", "b", "later")]), "train")


def test_a_split_by_time_asks_for_times(tmp_path):
    with pytest.raises(InputError, match=r"--task\.time time"):
        opened(table(tmp_path, LOG), "train", time="", by="time")


def test_codes_stay_texts(tmp_path):
    log = [("007", "01", 1), ("007", "1", 2), ("007", "001", 3), ("7", "01", 4)]
    assert set(rows(opened(table(tmp_path, log), "train"))) == {"007", "7"}


def test_lists_of_items_are_events_in_their_order(tmp_path):
    file = tmp_path / "lists.txt.gz"
    file.write_bytes(gzip.compress(b"u1 a b c d\nu2 c a\n\nu3 b c a\n"))
    source = opened(ItemLists(path=str(file)), "test", time="")
    assert rows(source) == {"u1": (["a", "b", "c"], ["d"]), "u3": (["b", "c"], ["a"])}


def test_a_log_is_read_once_for_all_splits_and_again_where_it_changes(tmp_path, monkeypatch):
    data = table(tmp_path, LOG)
    reads = []
    whole = Table.whole
    monkeypatch.setattr(Table, "whole", lambda self: reads.append(self) or whole(self))
    for split in ("train", "validation", "test"):
        opened(data, split)
    assert len(reads) == 1
    opened(data, "test", by="random")
    assert len(reads) == 2
    assert "dan" in rows(
        opened(table(tmp_path, [*LOG, ("dan", "a", 1)]), "train", by="random", test=0.0, validation=0.0)
    )


def test_given_splits_stay_what_they_are(tmp_path):
    for name, text in (("train", "u1 a b\nu2 c\n"), ("valid", "u1 c\n"), ("test", "u1 d\nu2 a b\n")):
        (tmp_path / f"{name}.txt").write_text(text)
    data = ItemLists(path=str(tmp_path))
    assert rows(opened(data, "test", time="")) == {"u1": (["a", "b", "c"], ["d"]), "u2": (["c"], ["a", "b"])}
    with pytest.raises(InputError, match="splits of their own"):
        opened(data, "test", time="", by="random")


def test_users_without_a_history_are_counted(tmp_path):
    for name, text in (("train", "u1 a b\n"), ("test", "u1 c\nu2 a\n")):
        (tmp_path / f"{name}.txt").write_text(text)
    source = opened(ItemLists(path=str(tmp_path)), "test", time="")
    assert source.dropped == {"users without an earlier event": 1} and source.record_names(np.array([0])) == ["user u1"]


def test_a_missing_column_is_named(tmp_path):
    with pytest.raises(InputError, match=r'task.item.*"item" is not in events.csv'):
        opened(table(tmp_path, LOG, "user,film,time"), "train")


def test_shares_of_a_split_are_shares():
    with pytest.raises(InputError, match="must be shares"):
        EventSplit(validation=0.6, test=0.5)


@pytest.mark.parametrize(
    ("header", "flags"),
    [
        ("user,item,time", ("--task.time", "time")),
        (
            "user_id,movie_id,timestamp",
            ("--task.user", "user_id", "--task.item", "movie_id", "--task.time", "timestamp"),
        ),
    ],
)
def test_events_are_recognised(tmp_path, header, flags):
    suggestion = suggested(table(tmp_path, LOG, header), recipes.names())
    assert (suggestion.recipe, suggestion.flags) == ("recommendation.sequence", flags)


def test_events_with_a_label_are_clicks(tmp_path):
    log = [(user, item, place, place % 2) for place, (user, item, _) in enumerate(LOG * 9)]
    assert suggested(table(tmp_path, log, "user,item,time,clicked"), recipes.names()).recipe == "recommendation.click"


def published(folder, train="0 0 1 2\n1 1 2\n", test="0 3\n1 0 3\n", **others):
    """The layout of LightGCN's sets."""
    for name, text in {"train": train, "test": test, **others}.items():
        (folder / f"{name}.txt").write_text(text)
    return from_path(str(folder))


def test_the_published_layout_keeps_its_test_split_and_holds_validation_out_of_training(tmp_path):
    train = "".join(f"{user} {' '.join(map(str, range(user % 3, 30)))}\n" for user in range(40))
    data = published(tmp_path, train, "".join(f"{user} 30 31\n" for user in range(40)))
    assert isinstance(data, ItemLists) and suggested(data, recipes.names()).recipe == "recommendation.linear"
    events = read_events(data, "user", "item", "", EventSplit(validation=0.2))
    assert events.by == "given" and int((events.part == 2).sum()) == 80
    held_out = int((events.part == 1).sum())
    assert 0.15 < held_out / int((events.part < 2).sum()) < 0.25
    assert any(f"no validation split: {held_out:,}" in note for note in events.notes)
    with_own = published(tmp_path, train, valid="0 30\n")
    assert int((read_events(with_own, "user", "item", "", EventSplit()).part == 1).sum()) == 1


def test_numbers_of_the_published_layout_bear_their_names(tmp_path):
    items, users = "org_id remap_id\nB00 x 0\nB01 1\nB02 2\nB03 3\n", "org_id remap_id\nann 0\nbob 1\n"
    data = published(tmp_path, item_list=items, user_list=users)
    assert rows(opened(data, "test", time="", by="given", validation=0.0)) == {
        "ann": (["B00 x", "B01", "B02"], ["B03"]),
        "bob": (["B01", "B02"], ["B00 x", "B03"]),
    }
    (tmp_path / "item_list.txt").write_text(items + "again 3\n")
    with pytest.raises(InputError, match=r"item_list\.txt line 6.*has a name"):
        data.open("train")


def test_lines_of_lists_that_cannot_be_read_are_counted_and_named(tmp_path):
    train = "0 1 2 3\n1\n\n" + "".join(f"{user} 1 2\n" for user in range(2, 12_000)) + "x 1\n3 2,4\n4 -1 2\n"
    items, users = "org_id remap_id\na 1\nb 2\n", "org_id remap_id\nann 0\n"
    data = published(tmp_path, train, "0 2\n", item_list=items, user_list=users)
    assert data.open("train").dropped == {
        "items that item_list does not name": 1,
        "users without items": 1,
        "users that user_list does not name": 11_998,
        "lines that hold more than numbers": 3,
    }
    source = opened(data, "train", time="", validation=0.0)
    assert source.dropped["lines that hold more than numbers"] == 3
    named = source.dropped_names
    assert named["lines that hold more than numbers"] == [f"train.txt line {place}" for place in (12002, 12003, 12004)]
    assert named["users without items"] == ["train.txt line 2"]


def test_a_damaged_split_is_not_taken_for_a_missing_one(tmp_path):
    published(tmp_path)
    (tmp_path / "valid.txt.gz").write_bytes(b"\x1f\x8b and no more")
    with pytest.raises(InputError, match="damaged"):
        opened(from_path(str(tmp_path)), "train", time="")


def test_running_text_is_no_list_of_items(tmp_path):
    for name, text in (("train", "1984 is a novel\n2001 is another\n"), ("test", "7\n")):
        (tmp_path / f"{name}.txt").write_text(text)
    assert isinstance(from_path(str(tmp_path)), Lines)
    (tmp_path / "lists.txt.gz").write_bytes(gzip.compress(b"7 1 2\n8 2 3\n"))
    assert isinstance(from_path(str(tmp_path / "lists.txt.gz")), ItemLists)


def test_libraries_of_articles_and_their_tags_are_read_by_place(tmp_path):
    """Lines whose count is not that of what follows are left out, and others keep their places."""
    (tmp_path / "users.dat").write_text("2 5 0\n3 1\n1 2\n")
    (tmp_path / "item-tag.dat").write_text("1 0\n0\n2 1 7\n")
    (tmp_path / "tags.dat").write_text("biology\nphysics\n")
    events = CiteULike(path=str(tmp_path)).open("train")
    assert events[np.arange(3)]["user"].tolist() == ["0", "0", "2"] and events[np.arange(3)]["item"].tolist() == [
        "5",
        "0",
        "2",
    ]
    assert events.dropped == {"lines of another form": 1}
    tags = CiteULike(path=str(tmp_path), part="tags").whole()
    assert tags[np.arange(3)]["tags"] == [["biology"], [], ["physics"]] and tags.dropped == {
        "tags that tags.dat does not name": 1
    }
    with pytest.raises(InputError, match=r"has no users\.dat"):
        CiteULike(path=str(tmp_path.parent)).open("train")
