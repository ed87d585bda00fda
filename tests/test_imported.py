"""suite evaluate FOLDER --data PATH: published weights measured without training, and the run that they become."""

import csv
import json
import re

import numpy as np
import pytest
import soundfile
from flax import nnx
from PIL import Image
from safetensors.numpy import save_file

import suite
from suite.errors import InputError
from suite.models import transformer, wav2vec2
from suite.weights import pretrained, published
from suite.workflow import imported
from tests.parity import golden, test_cifar

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "film", "is", "good", "bad"]


def pure(config, seed=0):
    _, params, rest = nnx.split(config.build(rngs=nnx.Rngs(seed)), nnx.Param, ...)
    return nnx.to_pure_dict(params), nnx.to_pure_dict(rest)


@pytest.fixture(scope="module")
def reviews(tmp_path_factory):
    """(folder of weights that answer by a word, a table of reviews): classes in the weights' own order and spelling."""
    folder = tmp_path_factory.mktemp("reviews")
    config = transformer.Config(
        vocab_size=len(WORDS),
        outputs=3,
        layers=0,
        width=4,
        heads=1,
        max_length=16,
        norm="post",
        embedding_norm=True,
        token_types=2,
        pooling="cls",
        epsilon=1e-12,
    )
    config = transformer.Config(**{**vars(config), "layers": 1, "feed_forward": 4})
    params, rest = pure(config)
    params["encoder"]["tokens"]["embedding"] = np.eye(len(WORDS), 4, -6, dtype=np.float32) * 9
    head = np.zeros((4, 3), np.float32)
    head[2, 0], head[3, 2] = 9, 9
    params["head"]["kernel"] = head
    names = {"id2label": {"0": "POSITIVE", "1": "OTHER", "2": "NEGATIVE"}}
    pretrained.save(config, params, rest, folder / "published", format="bert", about=names)
    (folder / "published" / "vocab.txt").write_text("\n".join(WORDS) + "\n")
    (folder / "published" / "tokenizer_config.json").write_text('{"do_lower_case": true}')
    with (folder / "reviews.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["review", "label"])
        for i in range(60):
            table.writerow([f"the film is {('good', 'bad')[i % 2]} {i}", ("positive", "negative")[i % 2]])
    return folder


def test_texts_by_the_weights_own_classes(reviews, command, tmp_path):
    run = tmp_path / "run"
    printed = command(
        "evaluate",
        reviews / "published",
        "--data",
        reviews / "reviews.csv",
        "--run-dir",
        run,
        "--task.text",
        "review",
        "--split",
        "validation",
    )
    opened = suite.open(run)
    labels = opened.experiment.task.labels.names
    assert labels == ["negative", "positive", "OTHER"]
    # The same numbers as the model's own, row by row: the class of the published id is that of the data's name.
    _, model = pretrained.load(reviews / "published")
    source = opened.experiment.task.source("validation")
    columns = source[np.arange(len(source))]
    rows = [["[CLS]", *text.split(), "[SEP]"] for text in columns["review"]]
    ids = np.array([[WORDS.index(word) if word in WORDS else 1 for word in row] for row in rows])
    said = np.asarray(model(ids, np.ones(ids.shape, bool))).argmax(1)
    wanted = np.mean([("positive", "OTHER", "negative")[i] == y for i, y in zip(said, columns["label"], strict=True)])
    assert f"validation/accuracy              {wanted:.6g}\n" in printed
    stored = json.loads((run / "result.json").read_text())
    assert stored["verb"] == "evaluate" and stored["metrics"]["validation/accuracy"] == pytest.approx(wanted)
    answers = opened.predict({"review": list(columns["review"][:2])})
    assert [answer["label"] for answer in answers] == [("positive", "OTHER", "negative")[i] for i in said[:2]]


def test_classes_that_the_weights_do_not_know_are_refused(reviews, refused, tmp_path):
    rows = (reviews / "reviews.csv").read_text().replace("positive", "splendid")
    (tmp_path / "other.csv").write_text(rows)
    said = refused("evaluate", reviews / "published", "--data", tmp_path / "other.csv", "--task.text", "review")
    assert "column label: names classes that the weights have no output for." in said
    assert "the weights have no splendid (theirs: POSITIVE, OTHER, NEGATIVE)" in said
    assert not (tmp_path / "runs").exists()


def test_weights_without_a_head_are_refused(tmp_path):
    golden.folder(golden.load("bert"), tmp_path / "w")
    (tmp_path / "d.csv").write_text("text,label\n" + "a,x\nb,y\n" * 20)
    with pytest.raises(InputError, match="have no head, so they answer nothing yet"):
        imported.evaluate(str(tmp_path / "w"), str(tmp_path / "d.csv"), folder=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_the_advice_on_weights_without_a_head_names_the_recipe_and_the_data(tmp_path):
    golden.folder(golden.load("bert"), tmp_path / "w")
    with pytest.raises(InputError) as caught:
        imported.evaluate(str(tmp_path / "w"), "d.csv", folder=tmp_path / "run")
    assert caught.value.fix == f"suite train text.finetune --data d.csv --checkpoint.init_from {tmp_path / 'w'}"


@pytest.mark.parametrize(
    "name, kept", [("whisper_generation", "conv1.weight"), ("bert", "word_embeddings"), ("vit", "cls")]
)
def test_weights_that_lack_tensors_are_refused_by_their_names(name, kept, tmp_path):
    """Also where all that is left would pass for a part of the model, as an encoder of Whisper does."""
    case = golden.load(name)
    folder = golden.folder(case, tmp_path / "w")
    held = published.open(folder)
    left = {tensor: held.read(tensor) for tensor in held.readers if kept in tensor}
    assert left
    save_file(left, folder / "model.safetensors")
    with pytest.raises(InputError) as caught:
        imported.evaluate(str(folder), "d.csv", folder=tmp_path / "run")
    said = str(caught.value)
    assert re.search(r"lack \d+ tensors of the model that config.json describes", said)
    assert "; files: config.json" in said and said.count(" more; ") == 1
    assert "decoder" in said or name != "whisper_generation"


def test_runs_have_their_own_data(refused, exported, tmp_path):
    run, _ = exported("images")
    assert "flag --data: goes with published weights." in refused("evaluate", run.folder, "--data", tmp_path)
    assert "flag --task.text: is not one of suite evaluate without --data." in refused(
        "evaluate", run.folder, "--task.text", "a"
    )


def test_images_by_the_published_network(tmp_path):
    weights, tensors = test_cifar.published(tmp_path / "resnet20", classes=3)
    about = {
        "architecture": "resnet20",
        "num_classes": 3,
        "label_names": ["Dog", "cat", "bird"],
        "pretrained_cfg": {"mean": [0.5] * 3, "std": [0.5] * 3, "input_size": [3, 8, 8]},
    }
    (weights / "config.json").write_text(json.dumps(about))
    rng, pixels = np.random.default_rng(0), {}
    for name in ("cat", "dog"):
        for split in ("train", "test"):
            (tmp_path / "photos" / split / name).mkdir(parents=True)
            for i in range(4):
                image = rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)
                Image.fromarray(image).save(tmp_path / "photos" / split / name / f"{i}.png")
                if split == "test":
                    pixels[name, i] = image
    run = imported.evaluate(str(weights), str(tmp_path / "photos"), folder=tmp_path / "run")
    images = np.stack(list(pixels.values())).transpose(0, 3, 1, 2) / 255 * 2 - 1
    wide = {name: value.astype(np.float64) for name, value in tensors.items()}
    said = test_cifar.reference(wide, images, 3).argmax(1)
    right = [("dog", "cat", "bird")[place] == name for place, (name, _) in zip(said, pixels, strict=True)]
    assert run.metrics["test/accuracy"] == pytest.approx(np.mean(right))
    assert run.experiment.precision.compute == "float32"


def test_recordings_by_the_alphabet_of_the_weights(tmp_path):
    config = wav2vec2.Config(
        outputs=6,
        conv_widths=(4, 4),
        conv_kernels=(10, 3),
        conv_strides=(5, 2),
        width=8,
        position_kernel=4,
        position_groups=2,
        layers=1,
        heads=2,
        feed_forward=8,
    )
    params, rest = pure(config)
    params["head"]["bias"] = np.array([0, 0, 0, 0, 99, 0], np.float32)  # says B, and nothing else
    pretrained.save(config, params, rest, tmp_path / "w", format="wav2vec2")
    vocabulary = {symbol: place for place, symbol in enumerate(["<pad>", "<unk>", "|", "A", "B", "</s>"])}
    (tmp_path / "w" / "vocab.json").write_text(json.dumps(vocabulary))
    rows = []
    for i in range(6):
        soundfile.write(tmp_path / f"{i}.wav", 0.1 * np.random.default_rng(i).standard_normal(4000), 16000)
        rows.append(
            {"audio": f"{i}.wav", "text": "b" if i % 2 else "a", "split": ("train", "validation", "test")[i // 2]}
        )
    (tmp_path / "m.jsonl").write_text("\n".join(map(json.dumps, rows)))
    run = imported.evaluate(str(tmp_path / "w"), str(tmp_path / "m.jsonl"), folder=tmp_path / "run")
    assert run.experiment.task.transcriber.units == ["", "\N{REPLACEMENT CHARACTER}", " ", "a", "b"]
    assert run.metrics["test/wer"] == 0.5
