"""Who may import whom, and what ``import suite`` costs."""

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
LOADER = "suite.experiment.recipes"  # finds the recipes by name, for the command line and for suite.load
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
    "tasks",
    "configs",
    "suite.nn",
    "suite.models",
    "suite.training",
    "suite.runs.run",
    "suite.evaluation.evaluate",
    "suite.evaluation.losses",
)
"""What an answer must do without."""
NN = ("suite.nn", "suite.errors")
CODECS = ("suite.codecs", "suite.data", "suite.decoding", "suite.contracts.task", "suite.errors")
SERVING = (
    "suite.bundles",
    *CODECS,
    "suite.experiment.sections",
    "suite.runtime.allocation",
    "suite.runtime.compilation",
)
MODELS = (
    *NN,
    "suite.contracts.task",
    "suite.weights.imports",
    "suite.models",
    "suite.training.precision",
    "suite.surgery.units",
)


def modules():
    """Module name -> its file, for everything that is shipped."""
    files = [path for top in ("suite", "tasks", "configs") for path in (ROOT / top).rglob("*.py")]
    return {".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path for path in files}


MODULES = modules()


def imports(name, nodes):
    """Our own modules that these statements import; each name of ``from x import y`` may be a module."""
    for node in nodes:
        if isinstance(node, ast.Import):
            found = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{name}: a relative import"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            found = [each if each in MODULES else node.module for each in names]
        else:
            continue
        yield from (each for each in found if each.split(".")[0] in ("suite", "tasks", "configs"))


def allowed(name, other):
    top, part = name.split(".")[0], ".".join(name.split(".")[:2])
    if top == "configs" or (name == LOADER and other == "configs"):
        return True
    if other.startswith("configs"):
        return False
    if top == "tasks":
        return other.startswith("suite") or ".".join(other.split(".")[:2]) == part == other
    if other.startswith("tasks"):
        return False
    if part == "suite.nn":
        return other.startswith(NN)
    if part == "suite.codecs":
        return other.startswith(CODECS)
    if part == "suite.bundles":
        return other.startswith(SERVING)
    if part == "suite.models":
        return other.startswith(MODELS)
    if part == "suite.serving":
        return other.startswith(("suite.serving", *SERVING))
    return not other.startswith("suite.models")


@pytest.mark.parametrize("name", sorted(MODULES))
def test_direction(name):
    tree = ast.parse(MODULES[name].read_text(encoding="utf-8"))
    wrong = [other for other in imports(name, ast.walk(tree)) if not allowed(name, other)]
    assert not wrong, f"{name} must not import {wrong}"


def test_no_cycles():
    """Among imports that run when a module is loaded; those inside functions and for the type checker don't."""
    graph = {}
    for name, path in MODULES.items():
        graph[name] = set(imports(name, ast.parse(path.read_text(encoding="utf-8")).body)) - {name}
        if path.name == "__init__.py":  # a package that gathers its modules is loaded before them anyway
            graph[name] = {other for other in graph[name] if not other.startswith(name + ".")}
    graphlib.TopologicalSorter(graph).prepare()


@pytest.mark.parametrize("name", ["tensorflow", "torch", "jax", "flax"])
def test_import_suite_is_light(name):
    code = f"import suite, sys; sys.exit({name!r} in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


def test_the_trainer_loads_no_tensorflow_and_no_torch():
    code = "import suite.training.trainer, suite.runs.run, sys\n"
    code += "sys.exit(bool({'tensorflow', 'torch'} & sys.modules.keys()))"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


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
