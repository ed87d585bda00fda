"""Images: decoding, augmentation, statistics; and labels."""

import io
import pickle
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from suite.data.preprocessing import decoded_images
from suite.data.preprocessing import image as images
from suite.data.preprocessing.columns import without_broken_images
from suite.data.preprocessing.labels import Labels
from suite.data.sources.datasets import Digits, Folder, Memory
from suite.errors import InputError
from suite.experiment.serialization import from_json, to_json
from suite.tasks.vision.classification import ImageClassification

BATCH = np.random.default_rng(0).integers(1, 256, (16, 12, 10, 3), dtype=np.uint8)


def png(array):
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, "PNG")
    return buffer.getvalue()


def test_decode_bytes_path_and_array_agree(tmp_path):
    (tmp_path / "a.png").write_bytes(png(BATCH[0]))
    for value in (png(BATCH[0]), tmp_path / "a.png", str(tmp_path / "a.png"), BATCH[0]):
        np.testing.assert_array_equal(images.decode(value), BATCH[0])


def test_decode_scales_and_converts():
    assert images.decode(BATCH[0], (6, 5), 1).shape == (6, 5, 1)
    assert images.decode(png(BATCH[0, ..., 0]), None, 3).shape == (12, 10, 3)
    assert images.decode(png(BATCH[0, ..., 0])).shape == (12, 10, 1)


def test_sixteen_bit_images_keep_their_brightness():
    wide = BATCH[0, ..., 0].astype(np.uint16) << 8
    np.testing.assert_array_equal(images.decode(png(wide))[..., 0], BATCH[0, ..., 0])


DEEP = np.linspace(0, 65535, 64).astype(np.uint16).reshape(8, 8)
"""Grey of 16 bits."""


@pytest.mark.parametrize("compression", [None, "tiff_lzw", "tiff_adobe_deflate"])
def test_a_tiff_is_read_as_a_png_of_the_same_pixels(compression):
    for array in (BATCH[0], BATCH[0, ..., 0], DEEP):
        file = encoded(Image.fromarray(array), "TIFF", compression=compression)
        np.testing.assert_array_equal(images.decode(file), images.decode(png(array)))
        assert images.dimensions(file) == array.shape[:2]


@pytest.mark.parametrize("file_format", ["PNG", "TIFF"])
def test_white_of_sixteen_bit_images_may_be_that_of_a_camera_of_twelve(tmp_path, file_format):
    twelve = encoded(Image.fromarray(DEEP >> 4), file_format)
    source = without_broken_images(Memory({"image": [twelve]}), "image", "white", 1)
    assert images.decode(twelve).max() == 15  # as the format says
    assert images.examine(twelve) == ("", ("16 bits", "dark")) and "--task.statistics.white 4095" in source.notes[1]
    np.testing.assert_array_equal(images.decode(twelve, white=4095), ((DEEP >> 4) * 255.0 / 4095).round()[..., None])
    source = without_broken_images(Memory({"image": [twelve]}), "image", "white", 1, white=4095)
    assert [note.split(":")[0] for note in source.notes] == [
        "1 picture of 16 bits a channel, white at 4,095, read as 8 bits"
    ]
    # The statistics, training and requests read alike.
    task = ImageClassification(data=Memory({}), statistics=images.PixelStatistics(white=4095))
    task.statistics.fit(Memory({"image": [twelve]}), "image", tmp_path / "statistics.json")
    task = replace(task, statistics=replace(task.statistics, file=str(tmp_path / "statistics.json")))
    expected = images.decode(twelve, white=4095)[None]
    np.testing.assert_allclose(task.statistics.mean, expected.mean() / 255, rtol=1e-6)
    np.testing.assert_array_equal(task.encode({"image": [twelve]})["image"], expected)
    np.testing.assert_array_equal(task.codec.encode({"image": [twelve]})["image"], expected)


@pytest.mark.parametrize(
    ("array", "fault"),
    [
        (DEEP.astype(np.float32), images.FLOATS),
        (DEEP.astype(np.int32) * 2, images.WIDE),
        (-DEEP.astype(np.int32), images.WIDE),
    ],
)
def test_pixels_that_are_no_integers_of_sixteen_bits_are_refused_and_counted(tmp_path, array, fault):
    Image.fromarray(array).save(tmp_path / "a.tif")
    with pytest.raises(InputError, match=fault) as error:
        images.decode(str(tmp_path / "a.tif"))
    assert error.value.where.endswith("a.tif") and "8 or 16 bits" in error.value.fix
    source = without_broken_images(Memory({"image": [str(tmp_path / "a.tif"), png(BATCH[0])]}), "image")
    assert len(source) == 1 and source.dropped == {fault: 1}


def test_corrupt_image_names_the_file(tmp_path):
    path = tmp_path / "bad.png"
    path.write_bytes(b"no image at all")
    with pytest.raises(InputError) as error:
        images.decode(path)
    assert str(error.value) == (
        f"{path}: this image cannot be decoded\n"
        f"  found: cannot identify image file {str(path)!r}\n"
        "  try:   replace or remove the file"
    )
    path.write_bytes(png(BATCH[0])[:200])
    with pytest.raises(InputError, match=r"bad\.png: this image cannot be decoded"):
        images.decode(path)
    assert not images.is_readable(path) and images.is_readable(BATCH[0])


def test_decompression_bomb_is_refused(monkeypatch):
    monkeypatch.setattr(images, "MAX_PIXELS", 100)
    with pytest.raises(InputError, match="more than 100 pixels\n  found: 10 wide, 12 high"):
        images.decode(png(BATCH[0]))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 50)  # Pillow raises at twice its own limit
    with pytest.raises(InputError, match="more than 100 pixels\n  found: 120 pixels\n"):
        images.decode(png(BATCH[0]))


def test_batch_of_the_right_shape_is_not_copied():
    assert images.decode_batch(BATCH, (12, 10), 3) is BATCH
    assert images.decode_batch(BATCH, (6, 5), 1).shape == (16, 6, 5, 1)


def test_batch_of_different_sizes_needs_a_size():
    mixed = [BATCH[0], BATCH[1, :6]]
    with pytest.raises(InputError, match="do not all have the same size"):
        images.decode_batch(mixed, None, 3)
    assert images.decode_batch(mixed, (8, 8), 3).shape == (2, 8, 8, 3)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("augment", [images.Flip(), images.Crop(), images.Cutout(4), images.RandAugment()])
def test_augmentations_are_seeded_and_leave_their_input_alone(augment, channels):
    batch = np.ascontiguousarray(BATCH[..., :channels])
    before = batch.copy()
    first, again, other = (augment(batch, np.random.default_rng(seed)) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    np.testing.assert_array_equal(batch, before)
    assert first.shape == batch.shape and first.dtype == np.uint8
    assert (first != batch).any() and (first != other).any()


def test_flip_mirrors_whole_images():
    flipped = images.Flip()(BATCH, np.random.default_rng(0))
    same = (flipped == BATCH).all((1, 2, 3))
    assert ((flipped == BATCH[:, :, ::-1]).all((1, 2, 3)) ^ same).all() and 2 < same.sum() < 14


def test_crop_shifts_each_image_within_its_padding():
    padded = np.pad(BATCH, ((0, 0), (2, 2), (2, 2), (0, 0)))
    for place, shifted in enumerate(images.Crop(2)(BATCH, np.random.default_rng(0))):
        windows = [padded[place, y : y + 12, x : x + 10] for y in range(5) for x in range(5)]
        assert any((shifted == window).all() for window in windows)


def test_cutout_blackens_at_most_its_square():
    holes = (images.Cutout(4)(BATCH, np.random.default_rng(0)) == 0).all(-1).sum((1, 2))
    assert holes.max() == 16 and holes.min() >= 4


def test_strong_randaugment_changes_more():
    changes = [
        np.abs(images.RandAugment(2, m)(BATCH, np.random.default_rng(0)).astype(int) - BATCH).mean() for m in (1, 30)
    ]
    assert changes[0] < changes[1]


def test_mixup_mixes_images_as_its_weights_say():
    labels = np.arange(16)
    mixed, first, other, weight = images.Mixup(0.4).mix(BATCH, labels, np.random.default_rng(0))
    share = weight[:, None, None, None]
    np.testing.assert_allclose(mixed, share * BATCH[first] + (1 - share) * BATCH[other], rtol=1e-5)
    assert mixed.dtype == weight.dtype == np.float32 and weight.shape == (16,) and np.ptp(weight) > 0


def test_statistics_are_those_of_the_whole_split(tmp_path):
    source = Digits().open("train")
    images.PixelStatistics().fit(source, "image", tmp_path / "s.json")
    statistics = images.PixelStatistics(file=str(tmp_path / "s.json"))
    pixels = source[np.arange(len(source))]["image"] / 255
    np.testing.assert_allclose(statistics.mean, pixels.mean((0, 1, 2)), rtol=1e-5)
    np.testing.assert_allclose(statistics.std, pixels.std((0, 1, 2)), rtol=1e-5)
    assert statistics.sizes() == {"inputs": 64, "height": 8, "width": 8, "channels": 1}
    assert statistics.shape == (8, 8, 1) and len(pickle.dumps(statistics)) < 1000


def test_statistics_of_different_sizes_need_a_size(tmp_path):
    source = Memory({"image": [png(BATCH[0]), png(BATCH[0, :6])]}, {"image": "image"})
    with pytest.raises(InputError, match="do not all have the same size"):
        images.PixelStatistics().fit(source, "image", tmp_path / "s.json")
    images.PixelStatistics(size=(4, 4), channels=1).fit(source, "image", tmp_path / "s.json")
    assert images.PixelStatistics(file=str(tmp_path / "s.json")).shape == (4, 4, 1)


def fitted(tmp_path, values, classes=None):
    Labels().fit(Memory({"label": values}, classes=classes), "label", tmp_path / "l.json")
    return Labels(file=str(tmp_path / "l.json"))


def test_labels_are_learnt_from_values_or_classes(tmp_path):
    words = fitted(tmp_path, ["spam", "ham", " ham"])
    assert words.names == ["ham", "spam"] and words.encode(["spam", "ham "]).tolist() == [1, 0]
    numbers = fitted(tmp_path, np.array([10, 2, 10]))
    assert numbers.names == ["2", "10"] and numbers.encode(np.array([10, 2])).tolist() == [1, 0]
    named = fitted(tmp_path, np.array([1, 0]), {"label": ["cat", "dog"]})
    assert named.encode(np.array([1])).tolist() == [1] and named.encode(["dog"]).tolist() == [1]
    assert named.sizes() == {"outputs": 2} and named.encode(["cat"]).dtype == np.int32


def test_unseen_label_message(tmp_path):
    labels = fitted(tmp_path, ["spam", "ham"])
    with pytest.raises(InputError) as error:
        labels.encode(["ham", "spamm"])
    assert str(error.value) == (
        "column of labels: 'spamm' is not a class of the training split\n"
        "  found: known classes: ham, spam\n"
        "  try:   where 'spam' is meant, write that; else correct or remove the record, or train on data that holds "
        "this class"
    )
    with pytest.raises(InputError, match="'-1' is not a class"):
        fitted(tmp_path, np.array([1, 0]), {"label": ["cat", "dog"]}).encode(np.array([-1]))


@pytest.mark.parametrize("missing", ["", " ", None, float("nan")])
def test_missing_labels_are_refused(tmp_path, missing):
    with pytest.raises(InputError, match="some labels are missing\n  found: 2 classes"):
        fitted(tmp_path, ["a", "b", missing])


def test_one_class_is_refused(tmp_path):
    with pytest.raises(InputError, match="there is only one class"):
        fitted(tmp_path, ["a", "a"])


def encoded(image, kind="PNG", **how):
    file = io.BytesIO()
    image.save(file, kind, **how)
    return file.getvalue()


def clear(mode):
    """A black square on transparent ground, in one of the ways that a PNG holds transparency."""
    image = Image.new("RGBA", (4, 4), (0, 0, 0, 0))
    image.paste((0, 0, 0, 255), (1, 1, 3, 3))
    if mode in ("RGBA", "LA"):
        return encoded(image.convert(mode))
    if mode == "palette":
        return encoded(image.quantize(4))
    if mode == "colour key":
        picture = Image.new("RGB", (4, 4), (9, 9, 9))
        picture.paste((0, 0, 0), (1, 1, 3, 3))
        return encoded(picture, transparency=(9, 9, 9))
    if mode == "grey key":
        picture = Image.new("L", (4, 4), 9)
        picture.paste(0, (1, 1, 3, 3))
        return encoded(picture, transparency=9)
    if mode == "GIF":
        picture = Image.new("P", (4, 4), 1)
        picture.putpalette([0, 0, 0, 9, 9, 9])
        picture.paste(0, (1, 1, 3, 3))
        return encoded(picture, "GIF", transparency=1)
    return encoded(image, "WEBP", lossless=True)


SQUARE = np.pad(np.zeros((2, 2), np.uint8), 1, constant_values=255)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "palette", "colour key", "grey key", "GIF", "WEBP"])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.filterwarnings("ignore:Palette images with Transparency")
def test_transparency_is_laid_on_white_in_every_mode(mode, channels):
    picture = clear(mode)
    array = images.decode(picture, None, channels)
    assert (array == SQUARE[..., None]).all()
    assert images.examine(picture) == ("", ("transparent",))
    red = images.decode(picture, None, 3, "#ff0000")
    assert red[0, 0].tolist() == [255, 0, 0] and red[1, 1].tolist() == [0, 0, 0]
    assert images.decode(picture, None, channels, "")[0, 0, 0] < 10  # as before: the colour beneath


def test_an_opaque_picture_with_alpha_is_not_counted():
    opaque = Image.new("RGBA", (4, 4), (1, 2, 3, 255))
    assert images.examine(encoded(opaque)) == ("", ())
    assert (images.decode(encoded(opaque), None, 3) == [1, 2, 3]).all()


def test_arrays_with_alpha_are_laid_on_the_background_too():
    array = np.zeros((2, 4, 4, 4), np.uint8)
    array[:, 1:3, 1:3, 3] = 255
    assert (images.decode_batch(array, None, 3) == SQUARE[..., None]).all()
    source = without_broken_images(Memory({"image": array}), "image", "white", 3)
    assert source.notes == ("2 pictures with transparency, laid on white (--task.background): record 1, record 2",)
    assert not without_broken_images(Memory({"image": array}), "image", "white", 4).notes


def task(**fields):
    return ImageClassification(
        data=Folder(path=""), statistics=images.PixelStatistics(size=(4, 4), channels=3), **fields
    )


def test_the_background_is_one_for_statistics_training_and_requests(tmp_path):
    values = [clear("RGBA")] * 2
    for colour, level in (("white", 255), ("black", 0)):
        made = task(background="" if colour == "white" else colour)
        made.statistics.fit(Memory({"image": values}), "image", tmp_path / "s.json")
        bound = replace(made, statistics=replace(made.statistics, file=str(tmp_path / "s.json")))
        (row,) = bound.encode({"image": values[:1]})["image"]
        assert row[0, 0, 0] == level and bound.statistics.mean[0] == pytest.approx(level * 0.75 / 255)
        codec = from_json(to_json(bound.codec))
        assert (codec.encode({"image": values[:1]})["image"][0] == row).all()
    stored = to_json(task())
    del stored["statistics"]["background"], stored["background"]  # as runs of before this field
    assert from_json(stored).statistics.background == ""
    with pytest.raises(InputError, match="no colour"):
        task(background="whiteish")


@pytest.mark.parametrize(
    ("picture", "trait"),
    [
        (encoded(Image.fromarray((np.arange(16).reshape(4, 4) * 4096).astype(np.uint16))), "16 bits"),
        (encoded(Image.new("CMYK", (4, 4), (0, 255, 255, 0)), "JPEG"), "CMYK"),
        (encoded(Image.new("L", (4, 4)), "GIF", save_all=True, append_images=[Image.new("L", (4, 4), 99)]), "animated"),
        (encoded(Image.new("L", (4, 4)), "TIFF", save_all=True, append_images=[Image.new("L", (4, 4), 99)]), "pages"),
    ],
)
def test_what_decoding_changes_is_told(picture, trait):
    assert images.examine(picture) == ("", (trait,))
    source = without_broken_images(Memory({"image": [picture, picture]}), "image", "white", 3)
    assert source.notes[0].startswith("2 ") and source.notes[0].endswith(": record 1, record 2")


def test_a_gif_that_ends_after_a_comma_is_broken_and_not_a_traceback(tmp_path):
    whole = encoded(Image.new("L", (4, 4)), "GIF", save_all=True, append_images=[Image.new("L", (4, 4), 99)])
    for end in range(6, len(whole)):
        (tmp_path / "a.gif").write_bytes(whole[:end])
        try:
            images.decode(str(tmp_path / "a.gif"))
            readable = True
        except InputError as error:
            assert error.where.endswith("a.gif") and error.fix
            readable = False
        assert images.is_readable(str(tmp_path / "a.gif")) == readable
    assert not images.is_readable(whole[: whole.index(b",") + 1])


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_the_orientation_of_a_camera_is_applied():
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = images.decode(encoded(Image.new("RGB", (8, 4)), "JPEG", exif=exif))
    assert turned.shape == (8, 4, 3)
    assert images.decode(encoded(Image.new("RGB", (8, 4)), "JPEG", exif=b"Exif\0\0MM\0*broken")).shape == (4, 8, 3)


def test_dimensions_are_those_that_are_seen(tmp_path):
    file = tmp_path / "turned.jpg"
    exif = Image.Exif()
    exif[images.ORIENTATION] = 6
    Image.fromarray(BATCH[0]).save(file, exif=exif)
    assert images.dimensions(file) == images.decode(file).shape[:2] == (10, 12)
    assert images.dimensions(png(BATCH[0])) == images.dimensions(BATCH[0]) == (12, 10)


def test_grey_is_told_by_what_a_picture_shows(tmp_path):
    grey = np.repeat(BATCH[0, ..., :1], 3, axis=2)
    assert images.is_grey(grey) and images.is_grey(png(grey)) and images.is_grey(png(BATCH[0, ..., 0]))
    assert not images.is_grey(BATCH[0]) and not images.is_grey(png(BATCH[0]))


@pytest.mark.parametrize("kind", ["path", "bytes"])
def test_a_decoded_image_is_kept_until_its_file_changes(kind, tmp_path, monkeypatch):
    file = tmp_path / "a.png"
    file.write_bytes(png(BATCH[0]))
    value = str(file) if kind == "path" else file.read_bytes()
    kept = decoded_images.DecodedImages((12, 10, 3), "white")
    decode, calls = decoded_images.decode, []
    monkeypatch.setattr(decoded_images, "decode", lambda *given: calls.append(given) or decode(*given))
    for _ in range(3):
        np.testing.assert_array_equal(kept([value, value]), [BATCH[0], BATCH[0]])
    assert len(calls) == 1
    file.write_bytes(png(BATCH[1][:, :, ::-1]) + b"longer")
    changed = str(file) if kind == "path" else file.read_bytes()
    np.testing.assert_array_equal(kept([changed]), [BATCH[1][:, :, ::-1]])


def test_images_beyond_the_memory_for_them_are_decoded_again(monkeypatch):
    monkeypatch.setattr(decoded_images, "MOST", BATCH[0].nbytes)
    kept = decoded_images.DecodedImages((12, 10, 3), "white")
    for _ in range(2):
        np.testing.assert_array_equal(kept([png(image) for image in BATCH]), BATCH)
    assert len(kept._kept) == 1
