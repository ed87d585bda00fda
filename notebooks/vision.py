# %% [markdown]
# # Vision: from a folder of pictures to a classifier
#
# You have pictures, sorted into one folder a class. This notebook trains a small residual network on such a tree, draws
# the pictures it misreads, and asks which part of a picture decides.
#
# The pictures are clothes (Fashion-MNIST). To use your own, go to "The data" and set `PHOTOS` to your folder.
#
# The whole notebook takes some two minutes of processor time.
#
# The first cell installs the suite and says what it finds. Where it asks to restart the session, do so, and run it
# again.

# %%
import importlib
import importlib.metadata
import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

REPOSITORY = ""  # the address it came from, such as "https://github.com/OWNER/NAME"; empty: the package index
EXTRAS = "plots"
SMOKE = "SMOKE" in os.environ  # a few steps of everything: does it run at all?

if importlib.util.find_spec("suite") is None:
    if shutil.which("nvidia-smi"):
        EXTRAS += ",cuda12"
    elif Path("/dev/accel0").exists() or "TPU_ACCELERATOR_TYPE" in os.environ:
        EXTRAS += ",tpu"
    above = (Path.cwd(), *Path.cwd().parents)
    checkout = next((folder for folder in above if (folder / "suite/runs/run.py").is_file()), None)
    origin = f" @ git+{REPOSITORY}" if REPOSITORY else ""
    wanted = f"{checkout}[{EXTRAS}]" if checkout else f"jax-model-suite[{EXTRAS}]{origin}"
    versions = lambda: {package.name: package.version for package in importlib.metadata.distributions()}
    modules = importlib.metadata.packages_distributions()
    loaded, before = {name for module in modules if module in sys.modules for name in modules[module]}, versions()
    if subprocess.run([sys.executable, "-m", "pip", "install", "-q", wanted]).returncode:
        raise RuntimeError(
            f"pip could not install {wanted}.\n"
            "Set REPOSITORY, above in this cell, to the address that this notebook came from, and run the cell again."
        )
    importlib.invalidate_caches()
    after = versions()
    if replaced := sorted(name for name in loaded if name in before and after.get(name) != before[name]):
        raise RuntimeError(
            f"All is installed. This session had loaded {', '.join(replaced)} in another version:\n"
            "restart the session (in Colab: Runtime, Restart session), and run this cell again."
        )

import suite
from suite.workflow.doctor import render as report

print(report(suite.doctor()))

# %% [markdown]
# ## The data
#
# The suite downloads nothing by itself. It reads Fashion-MNIST as TensorFlow Datasets prepared it, without TensorFlow;
# where it is not prepared, the cell below fetches the two files of its authors (4 MB).

# %%
import gzip
import urllib.request

import matplotlib.pyplot as plt
import numpy as np
from PIL import Image

from suite.data.sources.datasets import Folder, Tfds

ADDRESS = "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com"
CLASSES = ["T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"]


def fetched(file, start):
    """The bytes of a packed file behind its header."""
    path = Path("own_data") / file
    path.parent.mkdir(exist_ok=True)
    if not path.exists():
        urllib.request.urlretrieve(f"{ADDRESS}/{file}", path)
    return np.frombuffer(gzip.decompress(path.read_bytes()), np.uint8, offset=start)


try:
    records = Tfds(name="fashion_mnist").open("test")
    rows = records[np.arange(len(records))]
    images, labels = rows["image"], rows["label"]
except suite.InputError as missing:
    if SMOKE:
        raise
    print(missing)
    images = fetched("t10k-images-idx3-ubyte.gz", 16).reshape(-1, 28, 28)
    labels = fetched("t10k-labels-idx1-ubyte.gz", 8)

# %% [markdown]
# Here a folder of pictures is written as you might have one: `own_data/clothes/Coat/17.png`. It is made of
# Fashion-MNIST's 10,000 test pictures alone, a sixth of what there is to learn from, so that it is quick; our own test
# is a tenth of those. Don't compare the result with published ones.

# %%
PHOTOS = Path("own_data/clothes")
count = 500 if SMOKE else len(labels)
names = [name.replace("/", " or ") for name in CLASSES]
for name in names:
    (PHOTOS / name).mkdir(parents=True, exist_ok=True)
for i, (pixels, label) in enumerate(zip(images[:count], labels[:count], strict=True)):
    Image.fromarray(np.squeeze(pixels)).save(PHOTOS / names[label] / f"{i}.png")

# %% [markdown]
# Before anything is trained, look at the data: counts, balance, sizes, broken pictures, duplicates, and pictures that
# two splits share. The command is `suite data inspect --data own_data/clothes`.

# %%
from suite.data.inspection import inspect
from suite.data.inspection import render as describe

photos = Folder(path=str(PHOTOS))
print(describe(inspect(photos.open)))

# %%
plt.rcParams.update({"figure.dpi": 110, "axes.spines.top": False, "axes.spines.right": False})


def gallery(images, titles, columns=10):
    """Pictures in rows, each under its title."""
    rows = max(-(-len(images) // columns), 1)
    _, axes = plt.subplots(rows, columns, figsize=(columns, 1.35 * rows), layout="constrained", squeeze=False)
    for axis in axes.flat:
        axis.axis("off")
    for axis, image, title in zip(axes.flat, images, titles, strict=False):
        axis.imshow(image, cmap="gray_r")
        axis.set_title(title, fontsize=6.5)


gallery([Image.open(min((PHOTOS / name).glob("*.png"))) for name in names], names)
plt.show()

# %% [markdown]
# ## The recipe
#
# An experiment is a Python object: a task, a model, an optimiser, and how long to train. `suite list vision` names
# those that come with the suite. We take the one for own pictures and change some of its fields; a name that does not
# exist is refused with the nearest one that does.
#
# Size, channels, augmentation, network and epochs are open in this recipe: they are taken from the pictures when
# training begins, and printed, each with its reason. Ours are small, grey and filled to the edge. A field that is set
# here stays as it is: ten epochs are enough to see how it goes.

# %%
experiment = suite.replace(suite.load("vision.classify", smoke=SMOKE), {"task.data": photos})
if not SMOKE:
    experiment = suite.replace(experiment, {"train.epochs": 10.0})
print(experiment.model)
print(experiment.optim)

# %% [markdown]
# ## Training
#
# The run folder, printed last, keeps all there is to know: the recipe, the mean and deviation of the pixels, the log,
# checkpoints. An interrupted run goes on from it by `suite.resume(folder)`.

# %%
run = suite.train(experiment)
print(f"validation accuracy {run.metrics['validation/accuracy']:.3f} after {run.metrics['train/steps']} steps")
print(run.folder)


# %%
def curve(run, name):
    """(steps, values) of one column of the log."""
    pairs = [pair for pair in zip(run.history["step"], run.history[name], strict=True) if pair[1] is not None]
    return zip(*pairs, strict=True)


figure, axes = plt.subplots(1, 2, figsize=(10, 3.2), layout="constrained")
for axis, name in zip(axes, ("loss", "accuracy"), strict=True):
    axis.plot(*curve(run, f"train/{name}"), label="training", color="0.6")
    axis.plot(*curve(run, f"validation/{name}"), "o-", label="validation", color="C0")
    axis.set(xlabel="step", title=name)
    axis.legend(frameon=False)
plt.show()

# %% [markdown]
# The grey line is measured on pictures that are augmented, with dropout, and against smoothed labels; the blue one on
# pictures as they are. So the blue one may well be the better of the two.

# %% [markdown]
# ## The test, and the mistakes

# %%
test = run.evaluate("test").metrics
print(f"test accuracy {test['test/accuracy']:.3f}")

# %%
source = experiment.task.source("test")
columns = source[np.arange(len(source))]
answers = run.predict(columns)
classes = source.classes["label"]
truth = np.asarray(columns["label"])
said = np.array([classes.index(answer["label"]) for answer in answers])
sure = np.array([answer["probability"] for answer in answers])

table = np.zeros((len(classes), len(classes)), int)
np.add.at(table, (truth, said), 1)
shares = table / np.maximum(table.sum(1, keepdims=True), 1)
figure, axis = plt.subplots(figsize=(6.4, 5.4), layout="constrained")
axis.imshow(shares, cmap="Blues", vmin=0, vmax=1)
for row, column in np.argwhere(table):
    colour = "white" if shares[row, column] > 0.5 else "black"
    axis.text(column, row, table[row, column], ha="center", va="center", fontsize=8, color=colour)
axis.set_xticks(range(len(classes)), classes, rotation=45, ha="right")
axis.set_yticks(range(len(classes)), classes)
axis.set(xlabel="answer", ylabel="truth")
plt.show()

# %% [markdown]
# These are the pictures that the model misread while it was surest of itself. Some would puzzle a person too.

# %%
wrong = np.flatnonzero(said != truth)
wrong = wrong[np.argsort(-sure[wrong])][:20]
gallery(
    [Image.open(columns["image"][i]) for i in wrong],
    [f"{classes[said[i]]} {sure[i]:.0%}\nis {classes[truth[i]]}" for i in wrong],
)
plt.show()

# %% [markdown]
# ## Asking it
#
# `predict` takes arrays, or paths of files of any size, and prepares them just as training did. On the command line:
# `suite predict RUN --input FOLDER`.

# %%
for path, answer in zip(columns["image"][:3], run.predict(columns["image"][:3]), strict=True):
    print(f"{answer['label']} ({answer['probability']:.0%}): {path}")

# %% [markdown]
# Which part of a picture decides? Cover one patch after another, and see how far the probability of the answer falls.
# Where it is red, the model saw what it goes by; where it is blue, what was covered had spoken against the answer.


# %%
def occlusion(run, image, patch=7, stride=3):
    """(h, w): how much the probability of the answer falls where a patch around a pixel is covered."""
    height, width = image.shape
    tops, lefts = range(0, height - patch + 1, stride), range(0, width - patch + 1, stride)
    corners = [(top, left) for top in tops for left in lefts]
    covered = np.repeat(image[None], len(corners) + 1, 0)
    for i, (top, left) in enumerate(corners, 1):
        covered[i, top : top + patch, left : left + patch] = np.median(image)
    first, *others = run.predict(covered)
    falls, counts = np.zeros(image.shape), np.zeros(image.shape)
    for (top, left), answer in zip(corners, others, strict=True):
        place = np.s_[top : top + patch, left : left + patch]
        falls[place] += first["probability"] - answer["top"].get(first["label"], 0.0)
        counts[place] += 1
    return first, falls / np.maximum(counts, 1)


shown = [np.flatnonzero((truth == c) & (said == truth))[:1] for c in range(len(classes))]
shown = np.concatenate(shown)[:5] if any(map(len, shown)) else np.arange(5)
figure, axes = plt.subplots(2, len(shown), figsize=(2 * len(shown), 4.2), layout="constrained", squeeze=False)
for (above, below), i in zip(axes.T, shown, strict=True):
    pixels = np.asarray(Image.open(columns["image"][i]))
    answer, falls = occlusion(run, pixels)
    above.imshow(pixels, cmap="gray_r")
    above.set_title(f"{answer['label']} {answer['probability']:.0%}", fontsize=8)
    below.imshow(pixels, cmap="gray_r", alpha=0.4)
    limit = max(np.abs(falls).max(), 1e-6)
    below.imshow(falls, cmap="RdBu_r", vmin=-limit, vmax=limit, alpha=0.6)
    above.axis("off")
    below.axis("off")
plt.show()

# %% [markdown]
# ## Where next
#
# - Your own pictures: set `PHOTOS`. Without `train.epochs` the recipe trains for as long as their number asks for.
# - From published weights: `vision.finetune` begins with a ResNet or a vision transformer that has seen a million
#   pictures. `checkpoint.init_from` names a folder, or a model on the Hugging Face hub, which is then fetched:
#
#   ```
#   suite train vision.finetune --data own_data/clothes --checkpoint.init_from microsoft/resnet-18 --run-dir runs/tuned
#   suite convert runs/tuned --to for_transformers
#   ```
#
#   The second line writes what `transformers` loads by `AutoModelForImageClassification.from_pretrained`.
# - All of Fashion-MNIST: `suite train vision.fashion_mnist_resnet`; its recipe says what it reaches, and in what time.
# - The other notebooks: text, speech, recommendation, and from laptop to TPU pod.
