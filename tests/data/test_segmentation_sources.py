"""Pictures with masks: folders of numbers, palettes and colours, COCO's polygons and runs, and what is wrong."""

import json
import shutil
import tarfile

import numpy as np
import pytest
from PIL import Image, ImageOps

from suite.data.preprocessing.areas import NoArea, area_of, polygon
from suite.data.preprocessing.masks import mask_of
from suite.data.sources.files import from_path
from suite.data.sources.segmentation import MaskFolder
from suite.data.suggestion import suggested
from suite.errors import InputError
from tests.masks import NAMES, WRITERS, drawn, runs_of, write_coco, write_folders


def whole(path, **fields):
    return MaskFolder(path=str(path), validation=0.0, test=0.0, **fields).open("train")


def masks(source):
    return [mask_of(value) for value in source.column("mask", np.arange(len(source)))]


@pytest.fixture(scope="module")
def pairs():
    return drawn(6)


@pytest.mark.parametrize("form", WRITERS)
def test_each_format_gives_the_same_masks(tmp_path, pairs, form):
    folder = WRITERS[form](tmp_path / form, pairs)
    source = whole(folder)
    assert source.classes["mask"] == list(NAMES)
    assert all(np.array_equal(mask, own) for mask, (_, own) in zip(masks(source), pairs, strict=True))
    assert any("read as" in note for note in source.notes)
    with tarfile.open(tmp_path / "all.tar", "w") as archive:
        archive.add(folder, "data")
    assert source.column("mask", np.arange(6)) == whole(tmp_path / "all.tar").column("mask", np.arange(6))


def test_splits_are_those_of_folders_or_of_a_hash(tmp_path, pairs):
    for place, split in enumerate(("train", "val")):
        for part in ("images", "masks"):
            (tmp_path / "a" / part / split).mkdir(parents=True)
            Image.fromarray(pairs[place][part == "masks"]).save(tmp_path / "a" / part / split / "same_name.png")
    data = MaskFolder(path=str(tmp_path / "a"), test=0.0)
    for place, split in enumerate(("train", "validation")):
        assert np.array_equal(masks(data.open(split))[0], pairs[place][1])
    hashed = MaskFolder(path=str(write_folders(tmp_path / "b", pairs)), validation=0.3, test=0.3)
    names = [set(hashed.open(split).column("file", np.arange(len(hashed.open(split))))) for split in ("train", "test")]
    assert names[0] and names[1] and not names[0] & names[1]


def test_masks_of_0_and_255_are_of_two_classes_and_others_of_numbers(tmp_path, pairs):
    binary = [(picture, np.where(mask > 0, 255, 0).astype(np.uint8)) for picture, mask in pairs]
    source = whole(write_folders(tmp_path / "a", binary, names=False))
    assert source.classes["mask"] == ["background", "foreground"] and set(np.unique(masks(source))) == {0, 1}
    ignored = [(picture, np.where(mask == 2, 255, 3 * mask).astype(np.uint8)) for picture, mask in pairs]
    source = whole(write_folders(tmp_path / "b", ignored, names=False))
    assert source.classes["mask"] == ["0", "3"] and set(np.unique(masks(source))) == {0, 1, 255}
    share = np.mean([mask == 2 for _, mask in pairs])
    assert any(note.startswith(f"{share:.1%} of the pixels of masks are 255, and are ignored") for note in source.notes)
    source = whole(tmp_path / "b", ignore=-1)
    assert source.classes["mask"] == ["0", "3", "255"]
    (tmp_path / "a" / "classes.txt").write_text("ground\nthing\n")
    source = whole(tmp_path / "a")
    assert source.classes["mask"] == ["ground", "thing"] and set(np.unique(masks(source))) == {0, 1}


def test_masks_of_one_bit_are_of_0_and_1(tmp_path, pairs):
    folder = write_folders(tmp_path, pairs, names=False)
    for place, (_, mask) in enumerate(pairs):
        Image.fromarray(mask > 0).save(folder / "masks" / f"{place:02}.png")
    source = whole(folder)
    assert source.classes["mask"] == ["background", "foreground"]
    assert all(np.array_equal(own, mask > 0) for own, (_, mask) in zip(masks(source), pairs, strict=True))
    (folder / "classes.txt").write_text("ground\nthing\nother\n")
    assert set(np.unique(masks(whole(folder)))) == {0, 1}


@pytest.mark.parametrize("turn", [5, 6, 7, 8])
def test_a_mask_of_the_stored_picture_turns_with_it(tmp_path, pairs, turn):
    picture, mask = pairs[0]
    folder = write_folders(tmp_path, [pairs[0]])
    exif = Image.Exif()
    exif[0x0112] = turn
    Image.fromarray(picture).save(folder / "images" / "00.png", exif=exif)
    held = Image.fromarray(mask)
    held.getexif()[0x0112] = turn
    source = whole(folder)
    assert np.array_equal(masks(source)[0], np.asarray(ImageOps.exif_transpose(held)))
    assert "1 pictures that the camera turned, whose masks are turned with them" in source.notes


def test_pictures_that_share_an_id_are_left_out_as_their_areas_are_of_no_one(tmp_path, pairs):
    folder = write_coco(tmp_path / "a", pairs[:3])
    content = json.loads((folder / "annotations.json").read_text())
    content["images"][1]["id"] = content["images"][0]["id"]
    (folder / "annotations.json").write_text(json.dumps(content))
    source = whole(folder)
    assert source.column("file", np.arange(len(source))) == ["02.png"]
    assert source.dropped == {"picture with the id of another one": 2, "area of no picture": 2}


def test_colours_of_no_class_are_ignored_and_counted(tmp_path, pairs):
    folder = write_folders(tmp_path / "a", pairs, "colours")
    (folder / "classes.txt").write_text("name,r,g,b\nbackground,0,0,0\ndisc,200,30,40\n")
    source = whole(folder)
    squares = sum(int((mask == 2).sum()) for _, mask in pairs)
    assert any(
        f"{squares:,} pixels of masks are of no class, and are ignored: #14c85a" in note for note in source.notes
    )
    assert sum(int((mask == 255).sum()) for mask in masks(source)) == squares


def test_what_does_not_fit_is_left_out_and_named(tmp_path, pairs):
    folder = write_folders(tmp_path / "a", pairs)
    (folder / "masks" / "00.png").rename(folder / "masks" / "lonely.png")
    Image.fromarray(pairs[1][1][:-1]).save(folder / "masks" / "01.png")
    (folder / "masks" / "02.png").write_bytes(b"no picture")
    (folder / "images" / "03.png").write_bytes(b"no picture")
    shutil.copy(folder / "masks" / "04.png", folder / "masks" / "04.bmp")
    source = whole(folder)
    assert len(source) == 2
    assert source.dropped == {
        "mask without a picture": 1,
        "picture without a mask": 1,
        "mask of another size than its picture": 1,
        "broken mask": 1,
        "broken image": 1,
        "mask of a picture that has one": 1,
    }


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (lambda folder: (folder / "classes.txt").write_text("cat\ncat\n"), "none twice"),
        (lambda folder: (folder / "classes.txt").write_text("cat\ndog\nbird"), "colour of each class"),
        (lambda folder: shutil.rmtree(folder / "masks"), "holds no masks"),
    ],
)
def test_folders_that_hold_no_masks_are_refused(tmp_path, pairs, write, message):
    folder = write_folders(tmp_path / "a", pairs, "colours")
    write(folder)
    with pytest.raises(InputError, match=message):
        whole(folder)


def test_areas_that_cannot_be_read_are_left_out_and_smaller_ones_are_seen(tmp_path, pairs):
    folder = write_coco(tmp_path / "a", pairs[:1])
    content = json.loads((folder / "annotations.json").read_text())
    square = lambda left, right: [left, left, right, left, right, right, left, right]
    areas = [(1, [square(0, 20)]), (2, [square(5, 10)]), (1, [[1, 2]]), (9, [square(0, 5)]), (2, {"counts": [3]})]
    content["annotations"] = [
        {"id": place, "image_id": 0, "category_id": kind, "segmentation": area}
        for place, (kind, area) in enumerate(areas)
    ]
    (folder / "annotations.json").write_text(json.dumps(content))
    source = whole(folder)
    expected = np.zeros((32, 40), np.uint8)
    expected[:20, :20], expected[5:10, 5:10] = 1, 2
    assert np.array_equal(masks(source)[0], expected)
    assert sum(source.dropped.values()) == 3 and "area of a polygon without three corners" in source.dropped


def test_polygons_cover_the_pixels_whose_middle_they_hold():
    corners = np.array([[2.0, 1.5], [9.2, 3.0], [6.0, 8.4], [5.0, 4.0], [1.0, 7.0]])
    covered = polygon(corners, (9, 11))
    for row, column in np.ndindex(9, 11):
        x, y, inside = column + 0.5, row + 0.5, False
        for (x0, y0), (x1, y1) in zip(corners, np.roll(corners, -1, 0), strict=True):
            if (y0 > y) != (y1 > y):
                inside ^= x < x0 + (y - y0) / (y1 - y0) * (x1 - x0)
        assert covered[row, column] == inside, (row, column)
    assert polygon(np.array([[-5.0, -5.0], [50.0, -5.0], [50.0, 50.0], [-5.0, 50.0]]), (3, 4)).all()


def test_runs_are_those_of_pycocotools():
    coco = pytest.importorskip("pycocotools.mask")
    covered = np.random.default_rng(0).random((37, 23)) < 0.4
    covered[:, 3:9] = True
    packed = coco.encode(np.asfortranarray(covered.astype(np.uint8)))
    stated = {"size": list(packed["size"]), "counts": packed["counts"].decode()}
    assert np.array_equal(area_of(stated, (37, 23)), covered)
    assert np.array_equal(area_of({"counts": runs_of(covered)}, (37, 23)), covered)


NO_AREAS = [
    None,
    [],
    {},
    [[1, 2, 3]],
    [["a"] * 6],
    [[1e300] * 6],
    [[float("nan")] * 6],
    [[[1, 2], [3, 4], [5, 6], 1, 2, 3]],
    {"counts": "\x01"},
    {"counts": [1, -1, 5]},
    {"counts": [4], "size": 5},
    {"counts": [4], "size": [4, 1]},
    {"counts": [10**30]},
]


@pytest.mark.parametrize("stated", NO_AREAS)
def test_what_states_no_area_is_told(stated):
    with pytest.raises(NoArea):
        area_of(stated, (2, 2))


def test_masks_are_recognised_where_a_path_is_given_and_classes_named_so_are_not(tmp_path, pairs):
    data = from_path(str(write_folders(tmp_path / "a", pairs)))
    assert data == MaskFolder(path=str(tmp_path / "a"))
    assert suggested(data, ["vision.segment"]).recipe == "vision.segment"
    for name in ("mask", "no_face"):
        (tmp_path / "b" / name).mkdir(parents=True)
        for place, (picture, _) in enumerate(pairs):
            Image.fromarray(picture).save(tmp_path / "b" / name / f"{place}.png")
    assert type(from_path(str(tmp_path / "b"))).__name__ == "Folder"
    with pytest.raises(InputError, match="holds no masks"):
        from_path(str(tmp_path / "b" / "no_face"), MaskFolder(path="")).open("train")
