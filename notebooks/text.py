# %% [markdown]
# # Text: from a table of reviews to a classifier
#
# You have a table: a text in one column, what you want to know about it in another. This notebook trains a classifier
# on such a table, looks at what it gets wrong, and does it again from published weights.
#
# The texts are phrases from film reviews (SST-2, the Stanford Sentiment Treebank), each positive or negative. To use
# your own table, go to "The data", set `TABLE` to its path, and name its columns.
#
# The whole notebook takes some five minutes of processor time, of which fine-tuning takes most.
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
# The suite downloads nothing by itself. It reads SST-2 as TensorFlow Datasets prepared it, without TensorFlow; where it
# is not prepared, the cell below fetches the archive of its authors (7 MB).

# %%
import csv
import urllib.request
import zipfile

import matplotlib.pyplot as plt
import numpy as np

from suite.data.sources.datasets import Tfds

ADDRESS = "https://dl.fbaipublicfiles.com/glue/data/SST-2.zip"
Path("own_data").mkdir(exist_ok=True)


def prepared(split):
    """Texts and labels (0 negative, 1 positive) of a split that TensorFlow Datasets prepared."""
    records = Tfds(name="glue/sst2").open(split)
    rows = records[np.arange(len(records))]
    return list(zip(rows["sentence"], rows["label"], strict=True))


def fetched(file):
    """The same from the archive."""
    archive = Path("own_data/SST-2.zip")
    if not archive.exists():
        urllib.request.urlretrieve(ADDRESS, archive)
    lines = zipfile.ZipFile(archive).read(f"SST-2/{file}").decode("utf-8").splitlines()[1:]
    return [(text, int(label)) for text, label in (line.split("\t") for line in lines)]


try:
    phrases, sentences = prepared("train"), prepared("validation")
except suite.InputError as missing:
    if SMOKE:
        raise
    print(missing)
    phrases, sentences = fetched("train.tsv"), fetched("dev.tsv")

# %% [markdown]
# Here a table is written as you might have one: `review`, `label`, and `split`, which says what a row is for. The last
# is not a must. A table without it is split 80/10/10 by a hash of each row, so a row keeps its split when others are
# added.
#
# We need it because SST-2's training phrases are parts of sentences and overlap. If phrases of one sentence were in
# training and in test, the test would flatter the model. The whole sentences of SST-2's own validation split have no
# part in training, so they are our test.

# %%
TABLE = Path("own_data/reviews.csv")
rng = np.random.default_rng(0)
classes = ("negative", "positive")
chosen = rng.permutation(len(phrases))[: 600 if SMOKE else 11_000]

with TABLE.open("w", newline="", encoding="utf-8") as file:
    writer = csv.writer(file)
    writer.writerow(["review", "label", "split"])
    for i, (text, label) in enumerate(phrases[place] for place in chosen):
        writer.writerow([text.strip(), classes[label], "validation" if i < len(chosen) // 11 else "train"])
    for text, label in sentences:
        writer.writerow([text.strip(), classes[label], "test"])
print(*TABLE.read_text(encoding="utf-8").splitlines()[:5], sep="\n")

# %% [markdown]
# Before anything is trained, look at the data: counts, balance, lengths, duplicates, and records that two splits share.
# The command is `suite data inspect --data own_data/reviews.csv`.

# %%
from suite.data.inspection import inspect
from suite.data.inspection import render as describe
from suite.data.sources.datasets import Table

table = Table(path=str(TABLE), split="split")
print(describe(inspect(table.open)))

# %% [markdown]
# ## The recipe
#
# An experiment is a Python object: a task, a model, an optimiser, and how long to train. `suite list text` names those
# that come with the suite. We take the one for own texts and change some of its fields; a name that does not exist is
# refused with the nearest one that does.

# %%
CHANGES = {"task.data": table, "task.text": "review", "task.max_length": 64}

experiment = suite.replace(suite.load("text.classify", smoke=SMOKE), CHANGES)
experiment = suite.replace(experiment, {"pipeline.buckets": (64,)} if SMOKE else {"train.epochs": 6.0})
print(experiment.model)
print(experiment.optim)

# %% [markdown]
# ## Training
#
# The tokenizer is learnt from the training texts first. The run folder, printed last, keeps all there is to know: the
# recipe, the tokenizer, the log, checkpoints. An interrupted run goes on from it by `suite.resume(folder)`.

# %%
run = suite.train(experiment)
print(f"validation accuracy {run.metrics['validation/accuracy']:.3f} after {run.metrics['train/steps']} steps")
print(run.folder)


# %%
def curve(run, name):
    """(steps, values) of one column of the log."""
    pairs = [pair for pair in zip(run.history["step"], run.history[name], strict=True) if pair[1] is not None]
    return zip(*pairs, strict=True)


plt.rcParams.update({"figure.dpi": 110, "axes.spines.top": False, "axes.spines.right": False})


def curves(run):
    """Loss and accuracy of a run, beside each other."""
    _, axes = plt.subplots(1, 2, figsize=(10, 3.2), layout="constrained")
    for axis, name in zip(axes, ("loss", "accuracy"), strict=True):
        axis.plot(*curve(run, f"train/{name}"), label="training", color="0.6")
        axis.plot(*curve(run, f"validation/{name}"), "o-", label="validation", color="C0")
        axis.set(xlabel="step", title=name)
        axis.legend(frameon=False)


curves(run)
plt.show()

# %% [markdown]
# The grey line is measured on batches with dropout while they are learnt; the blue one on all validation texts. Where
# the grey one goes on falling and the blue one turns, the model begins to learn texts by heart. The checkpoint that is
# kept and served is the one of the best validation accuracy.

# %% [markdown]
# ## The test, and the mistakes

# %%
test = run.evaluate("test").metrics
print(f"test accuracy {test['test/accuracy']:.3f}, validation accuracy {run.metrics['validation/accuracy']:.3f}")

# %% [markdown]
# An accuracy hides what goes wrong. These are the test sentences that the model misread while it was surest of itself.

# %%
source = experiment.task.source("test")
columns = source[np.arange(len(source))]
answers = run.predict(columns)
right = np.array([a["label"] == truth for a, truth in zip(answers, columns["label"], strict=True)])
sure = np.array([answer["probability"] for answer in answers])

for i in np.argsort(-np.where(right, 0, sure))[:8]:
    if not right[i]:
        print(f"{sure[i]:.1%} {answers[i]['label']}, but it is {columns['label'][i]}:\n    {columns['review'][i]}")

# %% [markdown]
# Is a model that says 90 % right in nine of ten cases? On the right, points below the line mean that it is surer than
# it should be.

# %%
figure, (left, middle) = plt.subplots(1, 2, figsize=(10, 3.4), layout="constrained")
bins = np.linspace(0.5, 1, 11)
left.hist([sure[right], sure[~right]], bins, stacked=True, label=["right", "wrong"], color=["C0", "C3"])
left.set(xlabel="probability of the answer", ylabel="sentences", title="How sure it is")
left.legend(frameon=False, loc="upper left")
groups = np.clip(np.digitize(sure, bins) - 1, 0, 9)
filled = [g for g in range(10) if (groups == g).sum() >= 5]
middle.plot([0.5, 1], [0.5, 1], color="0.7")
middle.plot([sure[groups == g].mean() for g in filled], [right[groups == g].mean() for g in filled], "o-")
middle.set(xlabel="probability of the answer", ylabel="share that is right", title="Is it as right as it is sure?")
plt.show()

# %% [markdown]
# ## Asking it
#
# `predict` cleans and cuts texts just as training did. On the command line: `suite predict RUN --input "..."`, or a
# file.

# %%
asked = ["a moving and delightful film", "two hours of tedious chases", "not bad at all"]
for text, answer in zip(asked, run.predict(asked), strict=True):
    print(f"{answer['label']} ({answer['probability']:.1%}): {text}")

# %% [markdown]
# Which words decide? Leave each one out, and see how far the answer moves.


# %%
def occlusion(run, text):
    """How much the probability of positive falls when each word is left out."""
    words = text.split()
    texts = [text, *(" ".join(words[:i] + words[i + 1 :]) for i in range(len(words)))]
    positive = np.array([answer["top"]["positive"] for answer in run.predict(texts)])
    return words, positive[0] - positive[1:]


def bars(axis, words, moves, title):
    """One bar a word, the first on top; red pulls to negative."""
    axis.barh(range(len(words)), moves, color=["C3" if move < 0 else "C0" for move in moves])
    axis.set_yticks(range(len(words)), words)
    axis.invert_yaxis()
    axis.axvline(0, color="0.5", linewidth=0.8)
    axis.set(xlabel="towards positive", title=title)


TEXT = "the plot is thin but the actors are wonderful"
figure, axis = plt.subplots(figsize=(6, 3.2), layout="constrained")
bars(axis, *occlusion(run, TEXT), "Trained from scratch")
plt.show()

# %% [markdown]
# ## From published weights
#
# This model learnt English from a few thousand phrases. MiniLM has read far more, and its weights are free.
# `text.finetune` begins with them; here only low-rank additions to its layers (LoRA) are trained. The classifier reads
# the first token, as BERT's does, so that the result can be given back to Hugging Face's `transformers`.
#
# The weights are fetched from the Hugging Face hub, by the name in `checkpoint.init_from`, or from a folder that it
# names.

# %%
from suite.configs.text.sst2_minilm import shrunk  # a small model in MiniLM's place, for a run of seconds

finetuning = suite.replace(
    suite.load("text.finetune", smoke=SMOKE),
    {
        **CHANGES,
        "model.pooling": "cls",
        "finetune.kind": "lora",
        "finetune.targets": ("encoder",),
        "optim.learning_rate": 1e-3,
        "optim.layer_decay": 1.0,
        "optim.rates": (),
        "optim.frozen": (),
    },
)
finetuning = shrunk(finetuning) if SMOKE else suite.replace(finetuning, {"train.epochs": 1.0})
if SMOKE and not Path(finetuning.task.tokenizer.source).is_dir():
    tuned = None
    print("left out, since nothing is to be downloaded now")
else:
    tuned = suite.train(finetuning)
    again = tuned.evaluate("test").metrics["test/accuracy"]
    print(f"test accuracy {again:.3f} from published weights, {test['test/accuracy']:.3f} from scratch")

# %%
if tuned:
    figure, axes = plt.subplots(1, 2, figsize=(10, 3.2), layout="constrained", sharex=True)
    bars(axes[0], *occlusion(run, TEXT), "Trained from scratch")
    bars(axes[1], *occlusion(tuned, TEXT), "From published weights")
    plt.show()

# %% [markdown]
# ## Where next
#
# The cell below writes what `transformers` loads: `AutoModelForSequenceClassification.from_pretrained(folder)`.

# %%
if tuned:
    written = suite.convert(tuned.folder, tuned.folder / "for_transformers")
    print(f"{written.format}: {written.tensors} tensors in {written.folder}: {', '.join(written.files)}")

# %% [markdown]
# - Your own table: set `TABLE`, and the names of its columns by `task.text` and `task.label`; leave out `split="split"`
#   where there is no such column.
# - More of the same: `suite train text.sst2_minilm_10k` takes 10,000 texts and reaches 87.7 %; the recipe says how.
# - The other notebooks: vision, speech, recommendation, and from laptop to TPU pod.
