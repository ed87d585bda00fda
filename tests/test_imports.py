"""Imports: which room of the suite may import which, and what an import loads.

Rooms stand in an order, and an import goes to a lower room or stays in its own. It counts wherever it stands: at the
top of a module, inside a function, or for the type checker alone. Three places in the order have reasons of their own:

- ``evaluation`` stands below ``surgery``, since a student's loss is a mean over a batch as every task's is.
- ``models`` stand above ``surgery``, whose tables of units a family fills; nothing below ``configs`` imports a model.
- ``exporting`` stands above ``compression`` and ``tuning``: the card of a bundle says how its run was found.

``training`` therefore knows no method of compression, no search and no export.
"""

import ast
import graphlib
import json
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from suite.exporting.agreement import alike
from suite.exporting.exporting import held_back

ROOT = Path(__file__).parent.parent
ROOMS = (
    ("errors", "tree"),
    ("distribution",),
    ("runtime",),
    ("contracts",),
    ("experiment",),
    ("parallel",),
    ("nn",),
    ("data",),
    ("baselines",),
    ("decoding",),
    ("codecs",),
    ("weights",),
    ("bundles",),
    ("evaluation",),
    ("surgery",),
    ("models",),
    ("training",),
    ("planning",),
    ("runs",),
    ("explaining",),
    ("compression", "tuning"),
    ("fitting",),
    ("exporting",),
    ("reporting", "serving"),
    ("workflow",),
    ("cli",),
    ("tasks",),
    ("configs",),
)
"""Rooms of the suite, from low to high: a module imports from its own room and from lower ones."""
LEVEL = {room: level for level, rooms in enumerate(ROOMS) for room in rooms}
TRAINING = (
    "flax",
    "optax",
    "orbax",
    "grain",
    "tensorflow",
    "tensorflow_datasets",
    "torch",
    "tyro",
    "pyarrow",
    "huggingface_hub",
    "suite.tasks",
    "suite.configs",
    "suite.nn",
    "suite.models",
    "suite.surgery",
    "suite.evaluation",
    "suite.training",
    "suite.runs",
)
"""What an answer must do without."""
OF_SERVING = (
    "errors",
    "tree",
    "distribution",
    "runtime",
    "contracts",
    "experiment",
    "data",
    "decoding",
    "codecs",
    "weights",
    "bundles",
    "serving",
)
"""What the server may import: nothing that trains."""
OF_MODELS = (
    "errors",
    "tree",
    "distribution",
    "contracts",
    "experiment",
    "parallel",
    "nn",
    "weights",
    "surgery",
    "models",
)
"""What a model may import: no data, no task."""


BY_NAME = {
    "suite": "the Python API: a name is loaded on first use",
    "suite.experiment.recipes": "recipes, by the name that a user types",
    "suite.experiment.serialization": "classes, by the names that a stored experiment holds",
    "suite.reporting.drawings": "its own modules, each of which registers drawings",
    "suite.reporting.glossary": "modules of metrics, each of which registers their meaning",
    "suite.weights.pretrained": "families of models, by their tables of published weights",
}
"""Modules that import by a string, and what."""
LIBRARIES_OF_CONTRACTS = {"suite.contracts.values": {"PIL", "soundfile"}}
"""Libraries that a contract loads inside a function: they read the header of a file that a request holds."""


def modules():
    """Module name -> its file, for everything that is shipped."""
    files = {}
    for top, prefix in (("suite", ""), ("tasks", "suite."), ("configs", "suite.")):
        for path in (ROOT / top).rglob("*.py"):
            parts = path.relative_to(ROOT).with_suffix("").parts
            if parts[:2] not in (("suite", "tasks"), ("suite", "configs")):  # the links to the other two
                files[prefix + ".".join(parts).removesuffix(".__init__")] = path
    return files


MODULES = modules()


def imports(tree):
    """All modules that a syntax tree imports anywhere: at its top, in functions and for the type checker."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"line {node.lineno}: a relative import"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            yield from (full if full in MODULES else node.module for full in names)


def room(name):
    """The folder or file right below ``suite``; empty for the package itself, which stands above all of them."""
    return name.split(".")[1] if "." in name else ""


TREES = {name: ast.parse(path.read_text(encoding="utf-8")) for name, path in MODULES.items()}
IMPORTS = {
    name: sorted({other for other in imports(tree) if other.split(".")[0] == "suite"} - {name})
    for name, tree in TREES.items()
}


def test_every_room_has_its_level():
    assert {room(name) for name in MODULES} - {"", "__main__"} == LEVEL.keys()


@pytest.mark.parametrize("name", sorted(MODULES))
def test_imports_fall(name):
    own = room(name)
    if own in ("", "__main__"):  # the Python API and the entry of the command line name what they offer
        return
    rising = [
        other for other in IMPORTS[name] if room(other) and room(other) != own and LEVEL[room(other)] >= LEVEL[own]
    ]
    assert not rising, f"{name} must not import {rising}"
    if own == "serving":
        assert not [other for other in IMPORTS[name] if room(other) not in OF_SERVING]
    if own == "models":
        assert not [other for other in IMPORTS[name] if room(other) not in OF_MODELS]
    elif own not in ("tasks", "configs"):  # weights find families by their names
        assert not [other for other in IMPORTS[name] if room(other) == "models"]
    if own == "tasks" and name.count(".") > 2:  # no domain knows another; what several share stands beside them
        domain = name.rsplit(".", 1)[0]
        others = [other for other in IMPORTS[name] if room(other) == "tasks" and other.count(".") > 2]
        assert not [other for other in others if not other.startswith(domain)]


def test_imports_are_seen_wherever_they_stand():
    code = """
from typing import TYPE_CHECKING
import suite.errors
if TYPE_CHECKING:
    from suite.runs import run
def f():
    def g():
        from suite.contracts.task import Task, Program
"""
    seen = set(imports(ast.parse(code)))
    assert seen == {"typing", "suite.errors", "suite.runs.run", "suite.contracts.task"}


def by_string(tree):
    """Calls that import what a string names."""
    names = {node.func for node in ast.walk(tree) if isinstance(node, ast.Call)}
    return any(
        (isinstance(name, ast.Attribute) and name.attr == "import_module")
        or (isinstance(name, ast.Name) and name.id in ("import_module", "__import__"))
        for name in names
    )


def test_few_import_by_a_string():
    assert {name for name, tree in TREES.items() if by_string(tree)} == BY_NAME.keys()


@pytest.mark.parametrize("name", sorted(name for name in MODULES if room(name) == "contracts"))
def test_contracts_import_errors_alone(name):
    """Of the suite; besides, NumPy, and for the type checker the arrays and modules of JAX and Flax."""
    assert {room(other) for other in IMPORTS[name]} <= {"contracts", "errors"}
    tree = TREES[name]
    for_types = [node for node in tree.body if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"]
    named = {other.split(".")[0] for node in for_types for other in imports(node)}
    loaded = {other.split(".")[0] for other in imports(tree)} - sys.stdlib_module_names - {"suite"}
    assert loaded <= {"numpy"} | (named & {"jax", "flax"}) | LIBRARIES_OF_CONTRACTS.get(name, set())


def test_no_circles():
    """Among all imports, also those inside functions and for the type checker."""
    graph = {name: {other for other in IMPORTS[name] if other in MODULES} for name in MODULES if name != "suite"}
    graphlib.TopologicalSorter(graph).prepare()


def test_the_top_level_is_small():
    assert len(list((ROOT / "suite").glob("*.py"))) <= 6


@pytest.mark.parametrize("name", ["tensorflow", "torch", "jax", "flax"])
def test_import_suite_is_light(name):
    code = f"import suite, sys; sys.exit({name!r} in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


def test_the_trainer_loads_no_tensorflow_and_no_torch():
    code = "import suite.training.trainer, suite.runs.run, sys\n"
    code += "sys.exit(bool({'tensorflow', 'torch'} & sys.modules.keys()))"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


@pytest.mark.peers
def test_tensorboard_events_are_written_without_torch(child, tmp_path):
    """tensorboardX imports it where it is installed; whoever wants it later still gets it."""
    code = f"""
import pathlib, sys
from suite.training.logging.loggers import About
from suite.training.logging.tensorboard import TensorBoard
events = TensorBoard()
events.start(About(folder=pathlib.Path({str(tmp_path)!r}), name="x", step=0, fields={{"train.steps": 1}}))
print("torch" in sys.modules)
import torch
"""
    assert child(code) == "False\n"


def blocked(names, code):
    """Code that runs where these modules cannot be imported."""
    return f"""
import sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if any(name == each or name.startswith(each + ".") for each in {names!r}):
            raise ImportError(f"{{name}} is not for this process")

sys.meta_path.insert(0, Blocker())
{code}
"""


ACCELERATOR = ("jax", "jaxlib", "flax", "optax", "orbax", "suite.nn", "suite.parallel")


@pytest.mark.parametrize("rooms", [("contracts", "experiment"), ("data",)])
def test_data_and_contracts_need_no_accelerator(rooms, child):
    names = [name for name in MODULES if room(name) in rooms]
    child(blocked(ACCELERATOR, f"import {', '.join(names)}"))


def test_codecs_need_no_jax(child):
    names = [name for name in MODULES if name.startswith("suite.codecs")]
    names += ["suite.bundles.answering", "suite.bundles.manifest"]
    child(blocked((*TRAINING, "jax"), f"import {', '.join(names)}"))


def test_bundles_answer_without_the_training_code(exported, child, tmp_path):
    """In a process of their own, as in a server; what they say is what the runs say."""
    asked, said = {}, {}
    for name in ("images", "texts", "clicks", "transcripts", "continuations"):
        run, bundle = exported(name)
        columns = {key: list(values[:3]) for key, values in held_back(run)[1].items()}
        if name == "images":
            for i, image in enumerate(columns["image"]):
                Image.fromarray(image[..., 0]).save(tmp_path / f"{i}.png")
            columns["image"] = [str(tmp_path / f"{i}.png") for i in range(3)]
        asked[str(bundle.folder)], said[str(bundle.folder)] = columns, run.predict(columns)
    (tmp_path / "asked.json").write_text(json.dumps(asked, default=float))
    printed = child(
        blocked(
            TRAINING,
            f"""
import json
from suite.bundles.bundle import Bundle
asked = json.load(open({str(tmp_path / "asked.json")!r}))
print(json.dumps({{folder: Bundle.open(folder).predict(columns) for folder, columns in asked.items()}}))
""",
        )
    )
    found = json.loads(printed)
    assert found.keys() == said.keys() and all(alike(found[folder], said[folder]) for folder in said)
