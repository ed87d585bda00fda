"""Pictures with boxes: COCO JSON, Pascal VOC XML, YOLO text files and tables, and what is wrong with them."""

import json
import shlex
import tarfile

import numpy as np
import pytest
from PIL import Image

from suite.cli.shared_flags import OfExperiment
from suite.data.notes import notes, told
from suite.data.sources.datasets import Folder, Table, from_path
from suite.data.sources.detection import BoxFolder
from suite.data.sources.segmentation import MaskFolder
from suite.data.suggestion import suggested
from suite.errors import InputError
from suite.evaluation.bootstrap import check_same_records
from suite.tasks.vision.detection import ObjectDetection
from tests.boxes import (
    WRITERS,
    Drawn,
    Thing,
    drawn,
    voc_text,
    write_coco,
    write_pictures,
    write_voc,
    write_yolo,
    yolo_text,
)


def records(source):
    columns = source[np.arange(len(source))]
    named = zip(columns["image"], columns["boxes"], strict=True)
    return [(str(image).rpartition("/")[2], boxes) for image, boxes in named]


def boxes(source):
    return [json.loads(value) for value in source.column("boxes", np.arange(len(source)))]


def whole(path, **fields):
    return BoxFolder(path=str(path), validation=0.0, test=0.0, **fields).open("train")


@pytest.fixture(scope="module")
def pictures():
    return drawn(12)


@pytest.mark.parametrize("form", WRITERS)
def test_each_format_gives_the_same_records_in_each_split(tmp_path, pictures, form):
    data = BoxFolder(path=str(WRITERS[form](tmp_path / form, pictures)), validation=0.3, test=0.3)
    coco = BoxFolder(path=str(write_coco(tmp_path / "again", pictures[::-1])), validation=0.3, test=0.3)
    for split in ("train", "validation", "test"):
        assert records(data.open(split)) == records(coco.open(split))
    assert len(records(data.open("test"))) > 0
    told = notes({"train": data.open("train")})
    assert any(line.startswith("train: boxes read as") for line in told)
    every = [thing for split in ("train", "validation", "test") for row in boxes(data.open(split)) for thing in row]
    drawn_boxes = sorted((list(map(float, thing.box)), thing.label) for p in pictures for thing in p.things)
    assert sorted((thing["box"], thing["label"]) for thing in every) == drawn_boxes


def test_runs_on_one_set_in_two_formats_can_be_compared(tmp_path, pictures):
    made = {form: BoxFolder(path=str(WRITERS[form](tmp_path / form, pictures))) for form in ("voc", "table")}
    tasks = [(form, ObjectDetection(data=data)) for form, data in made.items()]
    check_same_records(tasks, "train")
    (tmp_path / "table" / "boxes.csv").write_text((tmp_path / "table" / "boxes.csv").read_text().replace("disc", "elf"))
    with pytest.raises(InputError, match="other records"):
        check_same_records(tasks, "train")


@pytest.mark.parametrize("form", WRITERS)
def test_an_archive_is_read_as_its_folder_is(tmp_path, pictures, form):
    folder = WRITERS[form](tmp_path / form, pictures)
    with tarfile.open(tmp_path / "boxes.tar.gz", "w:gz") as archive:
        archive.add(folder, "set")
    packed = whole(tmp_path / "boxes.tar.gz")
    assert boxes(packed) == boxes(whole(folder))
    image = packed.column("image", np.arange(1))[0]
    assert isinstance(image, bytes) and image[1:4] == b"PNG"


@pytest.mark.parametrize("form", WRITERS)
def test_folders_of_splits_are_kept(tmp_path, pictures, form):
    for split, part in {"train": pictures[:6], "valid": pictures[6:9], "test": pictures[9:]}.items():
        WRITERS[form](tmp_path / split, part)
    data = BoxFolder(path=str(tmp_path), format=form)
    assert [len(data.open(split)) for split in ("train", "validation", "test")] == [6, 3, 3]


def test_splits_of_lists_and_of_a_description(tmp_path, pictures):
    folder = write_voc(tmp_path / "voc", pictures)
    lists = folder / "ImageSets" / "Main"
    lists.mkdir(parents=True)
    names = [picture.name[:-4] for picture in pictures]
    for split, part in {"trainval": names[:9], "val": names[6:9], "test": names[9:11]}.items():
        (lists / f"{split}.txt").write_text("\n".join(part))
    (lists / "disc_train.txt").write_text("\n".join(f"{name} -1" for name in names))
    data = BoxFolder(path=str(folder))
    assert [len(data.open(split)) for split in ("train", "validation", "test")] == [6, 3, 2]
    assert data.open("train").dropped == {"in no list of ImageSets": 1}

    folder = write_yolo(tmp_path / "yolo", pictures)
    described = 'path: ../somewhere\ntrain: ../images\nval: held_out.txt\nnc: 2\nnames: {0: "disc", 1: square}\n'
    (folder / "data.yaml").write_text(described)
    (folder / "held_out.txt").write_text("\n".join(f"./images/{picture.name}" for picture in pictures[:4]))
    data = BoxFolder(path=str(folder))
    assert [len(data.open(split)) for split in ("train", "validation")] == [8, 4]
    assert {thing["label"] for row in boxes(data.open("train")) for thing in row} == {"disc", "square"}
    with pytest.raises(InputError, match="there is no split 'test'"):
        data.open("test")


def stated(boxes, size=(48, 64), name="a.png"):
    things = [Thing(label, box) for label, box in boxes]
    return Drawn(name, np.full((*size, 3), 128, np.uint8), things)


BAD = stated(
    [
        ("disc", (10, 10, 20, 20)),
        ("disc", (10, 10, 20, 20)),
        ("disc", (5, 5, 5, 30)),
        ("disc", (-20, 3, -5, 9)),
        ("square", (50, 40, 80, 60)),
        ("elf", (1, 1, 9, 9)),
    ]
)


@pytest.mark.parametrize("form", WRITERS)
def test_boxes_that_cannot_be_learnt_are_counted_and_named(tmp_path, form):
    good = stated([("disc", (0, 0, 64, 48))], name="b.png")
    labels = ("disc", "square", "elf")
    if form == "coco":
        folder = write_coco(tmp_path, [BAD, good], labels)
        content = json.loads((folder / "boxes.json").read_text())
        (folder / "boxes.json").write_text(json.dumps({**content, "categories": content["categories"][:2]}))
    elif form == "yolo":
        folder = write_yolo(tmp_path, [good])
        write_pictures(folder / "images", [BAD])
        (folder / "labels" / "a.txt").write_text(yolo_text(BAD, labels))
    elif form == "table":
        folder = WRITERS[form](tmp_path, [BAD, good])
        rows = (folder / "boxes.csv").read_text()
        (folder / "boxes.csv").write_text(rows.replace(",elf", ","))
    else:
        folder = write_voc(tmp_path, [BAD, good])
        file = folder / "Annotations" / "a.xml"
        file.write_text(file.read_text().replace("<name>elf</name>", "<name> </name>"))
    source = whole(folder)
    lines = told(source.dropped, source.dropped_names)
    named = "a.xml" if form == "voc" else "a.png"
    for reason in (
        "box without area",
        "box outside its picture",
        "box of an unknown class",
        "box that is stated twice",
    ):
        assert f"1 left out, {reason}: {named}" in lines
    assert "1 boxes that reach beyond their picture, and are cut at its border" in source.notes
    assert [[thing["box"] for thing in row] for row in boxes(source)] == [
        [[10.0, 10.0, 20.0, 20.0], [50.0, 40.0, 64.0, 48.0]],
        [[0.0, 0.0, 64.0, 48.0]],
    ]


def test_pictures_that_are_missing_broken_or_of_another_size_are_counted(tmp_path):
    names = ("a.png", "b.png", "c.png", "d.png")
    folder = write_voc(tmp_path, [stated([("disc", (0, 0, 9, 9))], name=name) for name in names])
    (folder / "JPEGImages" / "b.png").unlink()
    (folder / "JPEGImages" / "c.png").write_bytes(b"no picture")
    Image.fromarray(np.zeros((30, 30, 3), np.uint8)).save(folder / "JPEGImages" / "d.png")
    Image.fromarray(np.zeros((30, 30, 3), np.uint8)).save(folder / "JPEGImages" / "e.png")
    source = whole(folder)
    assert len(source) == 1
    assert source.dropped == {
        "no such picture": 1,
        "broken image": 1,
        "picture of another size than its annotation states": 1,
    }
    assert "1 pictures that no annotation names are not read: JPEGImages/e.png" in source.notes


def test_corners_of_voc_count_from_one_unless_one_lies_at_zero(tmp_path):
    edge = stated([("disc", (0, 0, 64, 48))])
    assert boxes(whole(write_voc(tmp_path / "one", [edge])))[0][0]["box"] == [0.0, 0.0, 64.0, 48.0]
    shifted = stated([("disc", (-1, 4, 20, 30))])  # written as 0, 5, 20, 30
    source = whole(write_voc(tmp_path / "zero", [shifted]))
    assert boxes(source)[0][0]["box"] == [0.0, 5.0, 20.0, 30.0]
    assert any("--task.data.first_pixel" in note for note in source.notes)
    again = whole(tmp_path / "zero", first_pixel="1")
    assert boxes(again)[0][0]["box"] == [0.0, 4.0, 20.0, 30.0]
    assert boxes(whole(tmp_path / "one", first_pixel="0"))[0][0]["box"] == [1.0, 1.0, 64.0, 48.0]


def test_boxes_of_a_picture_that_the_camera_turned_turn_with_it(tmp_path):
    # Stored 60 wide and 40 high; a bright patch at columns 5..15, rows 10..30.
    pixels = np.zeros((40, 60, 3), np.uint8)
    pixels[10:30, 5:15] = 255
    for turn in (6, 8, 5, 7):
        folder = write_voc(tmp_path / str(turn), [Drawn("a.jpg", pixels, [Thing("disc", (5, 10, 15, 30))])])
        exif = Image.Exif()
        exif[0x0112] = turn
        Image.fromarray(pixels).save(folder / "JPEGImages" / "a.jpg", exif=exif, quality=100)
        source = whole(folder)
        from suite.data.preprocessing.image import decode

        seen = decode(source.column("image", np.arange(1))[0])[..., 0] > 128
        down, across = np.nonzero(seen)
        wanted = [across.min(), down.min(), across.max() + 1, down.max() + 1]
        assert boxes(source)[0][0]["box"] == wanted
        assert "1 pictures that the camera turned, whose boxes are turned with them" in source.notes


@pytest.mark.parametrize(("turn", "size"), [(3, (40, 60)), (2, (40, 60)), (6, (40, 40))])
def test_boxes_of_a_turned_picture_whose_size_says_nothing_are_taken_as_of_the_upright_one_and_counted(
    tmp_path, turn, size
):
    folder = write_voc(tmp_path, [stated([("disc", (5, 10, 15, 30))], size)])
    exif = Image.Exif()
    exif[0x0112] = turn
    Image.new("RGB", size[::-1]).save(folder / "JPEGImages" / "a.png", exif=exif)
    source = whole(folder)
    assert boxes(source)[0][0]["box"] == [5, 10, 15, 30]
    assert "1 pictures that the camera turned, whose boxes are taken as of the upright picture" in source.notes


def test_pictures_that_share_an_id_are_left_out_as_their_boxes_are_of_no_one(tmp_path):
    folder = write_coco(tmp_path, [stated([("disc", (1, 1, 9, 9))], name=f"{name}.png") for name in "abc"])
    content = json.loads((folder / "boxes.json").read_text())
    first, second, _ = content["images"]
    second["id"] = first["id"]
    content["images"].append(content["images"][2])  # the same picture twice is one
    (folder / "boxes.json").write_text(json.dumps(content))
    source = whole(folder)
    assert [name for name, _ in records(source)] == ["c.png"]
    lines = told(source.dropped, source.dropped_names)
    assert "2 left out, picture with the id of another one: a.png, b.png" in lines


def test_text_files_without_a_picture_are_named_and_numbers_of_classes_are_kept(tmp_path):
    folder = write_yolo(tmp_path, [stated([("disc", (1, 1, 9, 9)), ("square", (20, 20, 30, 30))])])
    for file in folder.glob("*.yaml"):
        file.unlink()
    (folder / "classes.txt").write_text("disc\n\nsquare\n\n")
    (folder / "labels" / "a.txt").write_text("0 0.1 0.1 0.1 0.1\n2 0.5 0.5 0.1 0.1\n")
    (folder / "labels" / "ghost.txt").write_text("0 0.1 0.1 0.1 0.1\n")
    (folder / "labels" / "readme.txt").write_text("made by hand\n")
    source = whole(folder)
    assert [thing["label"] for thing in boxes(source)[0]] == ["disc", "square"]
    assert source.dropped == {"text file without a picture": 1}
    assert told(source.dropped, source.dropped_names) == ["1 left out, text file without a picture: labels/ghost.txt"]


@pytest.mark.parametrize(
    ("content", "message"),
    [("names: [Größe]\ntrain: images".encode("latin-1"), "iconv"), (b"names:\n\t- disc\n", "line 2")],
)
def test_a_description_that_cannot_be_read_is_refused(tmp_path, pictures, content, message):
    folder = write_yolo(tmp_path, pictures)
    for file in folder.glob("*.yaml"):
        file.unlink()
    (folder / "data.yaml").write_bytes(content)
    with pytest.raises(InputError, match=message):
        whole(folder)


def test_a_table_of_boxes_in_another_encoding_is_refused_with_a_command(tmp_path, pictures):
    folder = WRITERS["table"](tmp_path, pictures)
    rows = (folder / "boxes.csv").read_text().replace("disc", "größe")
    (folder / "boxes.csv").write_bytes(rows.encode("latin-1"))
    with pytest.raises(InputError, match="iconv"):
        whole(folder)


def test_documents_with_entities_are_not_read(tmp_path):
    folder = write_voc(tmp_path, [stated([("disc", (0, 0, 9, 9))], name="b.png")])
    entity = '<!DOCTYPE a [<!ENTITY e SYSTEM "file:///etc/passwd">]>'
    write_pictures(folder / "JPEGImages", [BAD])
    for encoding in ("utf-8", "utf-16"):
        text = entity + voc_text(BAD).replace("elf", "&e;")
        (folder / "Annotations" / "a.xml").write_bytes(text.encode(encoding))
        assert whole(folder).dropped == {"no annotation of a picture": 1}


def test_crowds_difficult_objects_and_stated_areas(tmp_path):
    folder = write_coco(tmp_path / "coco", [stated([("disc", (0, 0, 10, 10)), ("disc", (20, 20, 30, 30))])])
    content = json.loads((folder / "boxes.json").read_text())
    content["annotations"][0]["iscrowd"] = 1
    content["annotations"][1]["area"] = 55.5
    (folder / "boxes.json").write_text(json.dumps(content))
    crowd, other = boxes(whole(folder))[0]
    assert crowd["crowd"] is True and "area" not in crowd
    assert other["area"] == 55.5 and "crowd" not in other
    folder = write_voc(tmp_path / "voc", [stated([("disc", (0, 0, 10, 10))])])
    file = folder / "Annotations" / "a.xml"
    file.write_text(file.read_text().replace("<difficult>0", "<difficult>1"))
    assert boxes(whole(folder))[0][0]["crowd"] is True
    assert "crowd" not in boxes(whole(folder, difficult=True))[0][0]


def test_polygons_and_numbers_for_classes_of_yolo(tmp_path):
    folder = write_yolo(tmp_path, [stated([])])
    (folder / "labels" / "a.txt").write_text("3 0.25 0.25 0.5 0.25 0.5 0.75\n3 0.1 0.1\n")
    (folder / "classes.txt").unlink()
    write_pictures(folder / "images", [stated([], name="b.png")])
    (folder / "labels" / "b.txt").write_bytes(b"0 0.5 0.5 0.1 0.1 \xff")
    source = whole(folder, format="yolo")
    assert boxes(source) == [[{"box": [16.0, 12.0, 32.0, 36.0], "label": "3"}]]
    assert source.dropped == {"line that states no box": 1, "text file that is not UTF-8": 1}
    assert any("called by their numbers, 3" in note for note in source.notes)


def test_a_row_a_picture_with_a_list_of_boxes(tmp_path):
    write_pictures(tmp_path, [stated([]), stated([], name="b.png")])
    found = [{"box": [1, 2, 30, 40], "label": "disc"}]
    rows = [{"image": "a.png", "boxes": found}, {"image": "b.png", "boxes": []}]
    (tmp_path / "boxes.jsonl").write_text("\n".join(map(json.dumps, rows)))
    source = whole(tmp_path / "boxes.jsonl")
    assert boxes(source) == [[{"box": [1.0, 2.0, 30.0, 40.0], "label": "disc"}], []]
    assert "1 pictures without a box" in source.notes


def test_several_formats_in_one_folder_are_told_and_chosen(tmp_path, pictures):
    write_coco(tmp_path, pictures)
    write_yolo_labels = write_yolo(tmp_path, pictures)
    source = whole(write_yolo_labels)
    assert "boxes read as COCO JSON; YOLO text files lie there as well (--task.data.format yolo)" in source.notes
    assert records(whole(tmp_path, format="yolo")) == records(source)
    with pytest.raises(InputError) as error:
        whole(tmp_path, format="voc")
    assert shlex.split(error.value.fix) == ["--task.data.format", "coco"]


def test_a_folder_without_boxes_says_what_lies_there(tmp_path):
    write_pictures(tmp_path, [BAD])
    with pytest.raises(InputError, match=r"holds no boxes that can be read\.\n  found: 1 \.png"):
        whole(tmp_path)


@pytest.mark.parametrize("form", WRITERS)
def test_boxes_are_recognised_where_a_path_is_given(tmp_path, pictures, form):
    folder = WRITERS[form](tmp_path / "set", pictures[:3])
    data = from_path(str(folder))
    assert isinstance(data, BoxFolder) and data.path == str(folder)
    assert suggested(data, ["vision.detect"]).recipe == "vision.detect"
    if form in ("coco", "table"):
        file = next(folder.glob("boxes.*"))
        assert records(whole(from_path(str(file)).path)) == records(whole(folder))


def test_boxes_and_masks_of_one_place_are_read_as_the_recipe_has_them(tmp_path, pictures):
    folder = str(write_coco(tmp_path, pictures[:2]))
    assert isinstance(from_path(folder), BoxFolder)
    of = lambda recipe: OfExperiment(experiment=recipe, data=folder).resolved().task.data
    assert isinstance(of("vision.segment"), MaskFolder) and isinstance(of("vision.detect"), BoxFolder)


def test_what_holds_no_boxes_is_read_as_before(tmp_path):
    write_pictures(tmp_path / "photos" / "cat", [BAD])
    write_pictures(tmp_path / "photos" / "dog", [BAD])
    (tmp_path / "photos" / "dog" / "a.txt").write_bytes("ein großer Hund".encode("latin1"))
    assert isinstance(from_path(str(tmp_path / "photos")), Folder)
    (tmp_path / "houses.csv").write_text("left,right,price\n1,2,3\n2,3,4\n")
    assert isinstance(from_path(str(tmp_path / "houses.csv")), Table)


def test_a_file_of_boxes_finds_its_pictures_elsewhere(tmp_path):
    write_pictures(tmp_path / "pictures", [stated([]), stated([], name="b.png")])
    rows = ["path,class,x1,y1,x2,y2", f"{tmp_path / 'pictures' / 'a.png'},cat,1,2,3,9", "../pictures/b.png,cat,1,2,3,9"]
    (tmp_path / "lists").mkdir()
    (tmp_path / "lists" / "boxes.csv").write_text("\n".join(rows))
    source = whole(tmp_path / "lists" / "boxes.csv")
    assert [row[0]["label"] for row in boxes(source)] == ["cat", "cat"]
    assert source.dropped == {}
