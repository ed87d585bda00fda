# %% [markdown]
# # Recommendation: from a log of clicks to a list for each user
#
# You have a log: who was shown what, and whether they clicked. This notebook learns from one how likely a click is
# (DeepFM), checks whether the probabilities can be trusted, and makes a list for a user.
#
# The log is MovieLens-100k: a rating of four or five stars counts as a click. To use your own, go to "The data", and
# set `LOG` to your file.
#
# The whole notebook takes half a minute of processor time.
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
# MovieLens is for research only. The suite downloads nothing by itself. It reads the ratings as TensorFlow Datasets
# prepared them, without TensorFlow; where they are not prepared, the cell below fetches GroupLens' archive (5 MB).

# %%
import csv
import re
import urllib.request
import zipfile

import matplotlib.pyplot as plt
import numpy as np

from suite.data.sources.clicks import MovieLens, split_by_time
from suite.data.sources.datasets import Table, Tfds

ADDRESS = "https://files.grouplens.org/datasets/movielens/ml-100k.zip"
COLUMNS = ("user_id", "movie_id", "genres", "year", "age", "gender", "occupation", "clicked")
SPLITS = ("train", "validation", "test")


def prepared():
    """Rows of the log, and titles by film, of what TensorFlow Datasets prepared."""
    log = []
    names = ("user", "movie", "genres", "year", "age", "gender", "occupation", "click")
    for split in SPLITS:
        opened = MovieLens().open(split)
        rows = opened[np.arange(len(opened))]
        for row in zip(*(rows[name] for name in names), strict=True):
            log.append([*("" if value != value else value for value in row), split])
    raw = Tfds(name="movielens/100k-ratings").open("train")
    films = raw[np.arange(len(raw))]
    return log, dict(zip(films["movie_id"], films["movie_title"], strict=True))


def fetched():
    """The same of the archive."""
    log = []
    archive = Path("own_data/ml-100k.zip")
    if not archive.exists():
        urllib.request.urlretrieve(ADDRESS, archive)
    files = zipfile.ZipFile(archive)
    lines = lambda name: files.read(f"ml-100k/{name}").decode("latin-1").split("\n")
    table = lambda name, mark: [line.rstrip("\r").split(mark) for line in lines(name) if line.strip()]
    genres = [row[0] for row in table("u.genre", "|")]
    films = {row[0]: row for row in table("u.item", "|")}
    users = {row[0]: row for row in table("u.user", "|")}
    ratings = table("u.data", "\t")
    parts = split_by_time(np.array([row[0] for row in ratings]), np.array([int(row[3]) for row in ratings]))
    for (user, film, stars, _), part in zip(ratings, parts, strict=True):
        _, age, gender, occupation, _ = users[user]
        kinds = "|".join(name for name, is_it in zip(genres, films[film][5:], strict=True) if is_it == "1")
        year = re.search(r"\((\d{4})\)\s*$", films[film][1])
        row = [user, film, kinds, year[1] if year else "", age, int(gender == "M"), occupation, int(int(stars) >= 4)]
        log.append([*row, SPLITS[part]])
    return log, {film: about[1] for film, about in films.items()}


Path("own_data").mkdir(exist_ok=True)
try:
    rows, titles = prepared()
except suite.InputError as missing:
    if SMOKE:
        raise
    print(missing)
    rows, titles = fetched()

# %% [markdown]
# Here a log is written as you might have one, a click or none a row. `split` says what a row is for: the last tenth of
# each user's ratings is the test, the tenth before it validation. A model that recommends must do well on what comes
# *after* what it has seen. A random split would let it look into the future, and flatter it.

# %%
LOG = Path("own_data/clicks.csv")
with LOG.open("w", newline="", encoding="utf-8") as file:
    writer = csv.writer(file)
    writer.writerow([*COLUMNS, "split"])
    writer.writerows(rows[:: 20 if SMOKE else 1])
print(*LOG.read_text(encoding="utf-8").splitlines()[:4], sep="\n")

# %% [markdown]
# ## The recipe
#
# An experiment is a Python object: a task, a model, an optimiser, and how long to train. `suite list recommendation`
# names those that come with the suite. We take the one for own clicks and change some of its fields.
#
# Each column but the label is a feature. What it is taken for (a number, a category, a list of categories) is judged by
# its values and printed; `task.fields` says otherwise where the judgement is wrong. `split` is none of the model's
# business, and so ignored.

# %%
log = Table(path=str(LOG), split="split")
experiment = suite.replace(
    suite.load("recommendation.click", smoke=SMOKE),
    {"task.data": log, "task.label": "clicked", "task.fields.ignored": ("split",)},
)
if not SMOKE:  # what recommendation.movielens_deepfm found to be good on this log
    experiment = suite.replace(
        experiment,
        {
            "optim.learning_rate": 5e-3,
            "optim.weight_decay": 0.03,
            "model.hidden": (64, 32),
            "model.dropout": 0.3,
            "train.batch_size": 2048,
            "train.log_every": 10,
        },
    )
print(experiment.task.fields.describe(experiment.task.source("train"), "clicked"))

# %% [markdown]
# ## Training
#
# The score is the area under the ROC curve (AUC): how often a clicked row gets a higher probability than one that was
# not. 0.5 is chance. The run folder, printed last, keeps all there is to know; an interrupted run goes on from it by
# `suite.resume(folder)`.

# %%
run = suite.train(experiment)
print(f"validation auc {run.metrics['validation/auc']:.3f} after {run.metrics['train/steps']} steps")
print(run.folder)


# %%
def curve(run, name):
    """(steps, values) of one column of the log."""
    pairs = [pair for pair in zip(run.history["step"], run.history[name], strict=True) if pair[1] is not None]
    return zip(*pairs, strict=True)


plt.rcParams.update({"figure.dpi": 110, "axes.spines.top": False, "axes.spines.right": False})
figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.2), layout="constrained")
left.plot(*curve(run, "train/loss"), label="training", color="0.6")
left.plot(*curve(run, "validation/loss"), "o-", label="validation", color="C0")
left.set(xlabel="step", title="loss")
left.legend(frameon=False)
right.plot(*curve(run, "validation/auc"), "o-")
right.set(xlabel="step", title="AUC, validation")
plt.show()

# %% [markdown]
# ## The test, and where it fails

# %%
test = run.evaluate("test").metrics
print(f"test auc {test['test/auc']:.3f}, calibration {test['test/calibration']:.3f}")

# %% [markdown]
# Two questions that one number does not answer. Are the probabilities right: of rows with 70 %, are seven of ten
# clicked? And how does it fare with films that few people had rated in training?

# %%
from suite.evaluation.metrics.ranking import auc

training, held_out = log.open("train"), log.open("test")
seen, columns = training[np.arange(len(training))], held_out[np.arange(len(held_out))]
said = np.array([answer["probability"] for answer in run.predict(columns)])
clicked = np.asarray(columns["clicked"])

figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.4), layout="constrained")
groups = np.array_split(np.argsort(said), 10)
left.plot([0, 1], [0, 1], color="0.7")
left.plot([said[g].mean() for g in groups], [clicked[g].mean() for g in groups], "o-")
left.set(xlabel="probability of a click", ylabel="share clicked", title="Tenths of the test, by probability")

films, counts = np.unique(seen["movie_id"], return_counts=True)
often = dict(zip(films.tolist(), counts.tolist(), strict=True))
count = np.array([often.get(film, 0) for film in np.asarray(columns["movie_id"]).tolist()])
edges = (0, 5, 20, 50, 100, 200, 10**9)
spans = [(count >= low) & (count < high) for low, high in zip(edges, edges[1:], strict=False)]
found = [
    (low, auc(said[rows], clicked[rows]), rows.sum())
    for low, rows in zip(edges, spans, strict=False)
    if 0 < clicked[rows].sum() < rows.sum()
]
right.plot(range(len(found)), [area for _, area, _ in found], "o-")
right.set_xticks(range(len(found)), [f"{low}+\n{rows:,} rows" for low, _, rows in found], fontsize=8)
right.set(xlabel="ratings of the film in training", title="AUC by how well the film is known")
plt.show()

# %% [markdown]
# ## A list for a user
#
# A recommendation is a prediction for each film that a user has not rated yet, sorted. We take a user, put her or him
# beside every film, and ask for all at once. `predict` takes columns; on the command line a table: `suite predict RUN
# --input new.csv`.

# %%
who = np.asarray(columns["user_id"])
later = {each: clicked[who == each] for each in np.unique(who)}
user = max(later, key=lambda each: later[each].sum() * (1 - later[each]).sum())  # liked some, but not others

one = int(np.flatnonzero(who == user)[0])
_, each = np.unique(seen["movie_id"], return_index=True)
rated = {film for film, rater in zip(seen["movie_id"], seen["user_id"], strict=True) if rater == user}
each = [i for i in each if seen["movie_id"][i] not in rated]
records = {name: [columns[name][one]] * len(each) for name in ("user_id", "age", "gender", "occupation")}
records |= {name: [seen[name][i] for i in each] for name in ("movie_id", "genres", "year")}
chances = np.array([answer["probability"] for answer in run.predict(records)])
best = np.argsort(-chances)[:10]

liked = [
    film
    for film, rater, yes in zip(seen["movie_id"], seen["user_id"], seen["clicked"], strict=True)
    if rater == user and yes
]
print(f"user {user}: {columns['age'][one]:.0f} years, {columns['occupation'][one]}")
print("liked:", "; ".join(titles[str(film)] for film in liked[:8]))

figure, axis = plt.subplots(figsize=(8, 3.4), layout="constrained")
axis.barh(range(len(best)), chances[best])
axis.set_yticks(range(len(best)), [titles[str(records["movie_id"][i])] for i in best])
axis.invert_yaxis()
axis.set(xlabel="probability of four or five stars", title=f"What user {user} might like", xlim=(0, 1))
plt.show()

# %% [markdown]
# Is the list any good? What this user rated later is in the test: were films ranked higher liked more often?
#
# Then the same for all users, as an AUC within each one. It is lower than the AUC over all rows, which also rewards
# knowing who likes nearly everything. For a list only the order within a user counts, so look at this number too.

# %%
ranked = clicked[who == user][np.argsort(-said[who == user])]
half = len(ranked) // 2
print(
    f"user {user} rated {len(ranked)} films later: liked {np.mean(ranked[:half]):.0%} of those ranked higher,"
    f" {np.mean(ranked[-half:]):.0%} of the others"
)
within = [auc(said[who == each], clicked[who == each]) for each, yes in later.items() if 0 < yes.mean() < 1]
print(f"auc within a user {np.mean(within):.3f}, the mean of {len(within)} users; over all rows {test['test/auc']:.3f}")

# %% [markdown]
# ## Where next
#
# - Your own log: `suite train recommendation.click --data clicks.parquet --task.label clicked`. It may be larger than
#   memory.
# - Is the deep part worth it? `recommendation.movielens_lr`, `_fm`, `_dnn` and `_deepfm` are one recipe with four
#   models; their files say what each reaches.
# - Advertising logs: `suite train recommendation.criteo_deepfm`, `recommendation.avazu_deepfm`.
# - The other notebooks: text, vision, speech, and from laptop to TPU pod.
