"""Recipes compiled by the compilers of devices that are not here: `python -m pytest -m tpu_compiler`, or cuda_compiler.

Minutes each, so `-k` chooses: a recipe's name, and of the ways of sharing it over eight devices `data`, `fsdp`,
`tensor`, `sequence`, `slices` or `pmap`.
"""

import importlib.util
import os
from pathlib import Path

import pytest

import suite
from suite.cli.flags import parse
from suite.cli.plan import Plan
from suite.errors import InputError
from suite.experiment import recipes
from suite.experiment.sections import Parallel
from suite.planning.compilers import Absent, compiler_of
from suite.planning.simulation import compiled_cost
from suite.runs import verbs
from tests import own_records
from tests.planning import large

WAYS = {
    "data": {},
    "fsdp": {"parallel.data": 1, "parallel.fsdp": 8},
    "tensor": {"parallel.data": 2, "parallel.fsdp": 2, "parallel.tensor": 2},
    "sequence": {"parallel.data": 4, "parallel.tensor": 2, "parallel.sequence": True},
    "slices": {"parallel.dcn_data": 2},
    "pmap": {"parallel.engine": "pmap"},
}
NOT_ALLOWED = ("parallel", "train.batch_size", "gradient")
"""Fields of which a recipe may refuse a way of sharing."""

on_tpu = [
    pytest.mark.slow,
    pytest.mark.tpu_compiler,
    pytest.mark.skipif(not importlib.util.find_spec("libtpu"), reason="no libtpu: pip install 'jax[tpu]'"),
]
on_cuda = [
    pytest.mark.slow,
    pytest.mark.cuda_compiler,
    pytest.mark.skipif(
        not importlib.util.find_spec("jax_cuda13_plugin"),
        reason="no compiler for CUDA: pip install --no-deps jax-cuda13-plugin jax-cuda13-pjrt, of jax's version",
    ),
]


def described(name, count):
    found = compiler_of(name, count)
    assert not isinstance(found, Absent), found
    return found


def plan(name, way, devices="tpu-v5e-8", answers=False):
    """What the recipe costs; skips where its data is missing, or where it can't be shared so."""
    experiment = recipes.load(name)
    if experiment.task.solved:
        pytest.skip("it is solved in closed form")
    if not getattr(experiment.task.data, "path", "none needed"):
        if name not in own_records.FLAGS:
            pytest.skip("this recipe begins with published weights that no package carries")
        experiment = parse(Plan, [name, *own_records.FLAGS[name].split()]).resolved()
    experiment = suite.replace(experiment, WAYS[way])
    path = getattr(experiment.task.data, "path", "none needed")
    try:
        return verbs.plan(experiment, devices, "real", answers)
    except InputError as error:
        missing = "not prepared" in error.problem or "no such file" in error.problem or not Path(path).exists()
        if missing or any(field in error.where for field in NOT_ALLOWED):
            pytest.skip(str(error).splitlines()[0])
        raise


def compiled(made, devices):
    name, _, count = devices.rpartition("-")
    return compiled_cost((*made, 1000, False), described(name, int(count)))


def wide(cost, *allowed):
    """Sizes of float32 products but of those whose last sizes are ``allowed``."""
    return [size for size in cost["products"].get("f32", ()) if not any(fits(tuple(size), last) for last in allowed)]


def fits(size, last):
    return tuple(each for each in size if each != 1)[-len(last) :] == last


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    """In a folder of records for the recipes that have none."""
    folder, before = tmp_path_factory.mktemp("own"), Path.cwd()
    own_records.write(folder)
    os.chdir(folder)
    yield
    os.chdir(before)


@pytest.mark.usefixtures("own")
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", recipes.names())
class TestEveryRecipe:
    pytestmark = on_tpu

    def test_its_step_compiles_for_eight_tpus(self, name, way):
        cost = plan(name, way)
        assert cost["compiler"].startswith("libtpu") and cost["platform"] == "tpu" and cost["devices"] == 8
        assert cost["memory"]["peak"] > 0

    def test_its_answers_compile_for_eight_tpus(self, name, way):
        if way in ("slices", "pmap"):
            pytest.skip("answers are shared out as by data alone")
        assert plan(name, way, answers=True)["platform"] == "tpu"


TINY = {"layers": 2, "width": 256, "heads": 4, "vocab_size": 512, "context": 128, "batch": 32}


class TestTpu:
    pytestmark = on_tpu

    def test_shared_parameters_are_gathered_twice(self):
        """Once forward, once backward, as bfloat16, behind other work; gradients are summed to the shards."""
        cost = compiled(large.gpt2(parallel=Parallel(data=1, fsdp=8), **TINY), "tpu-v5e-8")
        parameters = 4 * cost["parameters"]
        assert cost["collectives"]["all-gather"]["bytes"] <= 1.1 * parameters
        assert cost["collectives"]["reduce-scatter"]["bytes"] <= 1.1 * parameters
        assert cost["hidden"] >= 20

    def test_products_of_a_block_are_narrow(self):
        cost = compiled(large.gpt2(**TINY), "tpu-v5e-1")
        sums = [(256, 256), (256, 1024), (1024, 256), (512, 256)]  # gradients by weights
        assert not wide(cost, *sums, *(size[::-1] for size in sums), (128, 128), (128, 512))  # scores, logits
        assert len(cost["products"]["bf16"]) >= 20

    def test_rows_of_tables_are_sent_once(self):
        cost = compiled(large.clicks(), "tpu-v5e-8")
        picked = 4096 * 26
        assert cost["collectives"]["all-gather"]["bytes"] <= 1.05 * 4 * picked * (16 + 1)

    @pytest.mark.parametrize("rows", [1_000_000_000])
    def test_a_table_of_a_billion_rows_is_never_moved(self, rows):
        cost = compiled(large.clicks(rows, batch=65_536, parallel=Parallel(data=1, fsdp=256)), "tpu-v5p-256")
        moved = sum(kind["bytes"] for kind in cost["collectives"].values())
        assert moved < 4 * 16 * rows / 50

    @pytest.mark.parametrize("model", ["gpt2_xl", "llama", "bert"])
    def test_large_models_compile_for_a_slice(self, model):
        cost = compiled(getattr(large, model)(batch=256, parallel=Parallel(data=16, fsdp=16)), "tpu-v5p-256")
        assert cost["devices"] == 256 and cost["memory"]["peak"] < 95e9


class TestCuda:
    pytestmark = on_cuda

    def test_attention_is_one_kernel(self):
        if not importlib.util.find_spec("nvidia") or not importlib.util.find_spec("nvidia.cudnn"):
            pytest.skip("no cuDNN: pip install --no-deps nvidia-cudnn-cu13")
        cost = compiled(large.gpt2(layers=2), "h200-1")
        assert cost["library_calls"]["__cudnn$fmhaSoftmax"] == 2
        assert cost["library_calls"]["__cudnn$fmhaSoftmaxBackward"] == 2

    def test_products_of_a_block_are_narrow(self):
        cost = compiled(large.gpt2(**TINY, attention="plain"), "h200-1")
        # gradients by weights; of queries, keys and values they are one product
        sums = [(256, 256), (256, 1024), (1024, 256), (512, 256), (768, 256)]
        assert not wide(cost, *sums, *(size[::-1] for size in sums), (128, 128), (128, 512), (4096, 512))

    @pytest.mark.parametrize("model", ["gpt2_xl", "llama", "bert"])
    def test_large_models_compile_for_eight(self, model):
        cost = compiled(getattr(large, model)(batch=64, parallel=Parallel(data=1, fsdp=8)), "h200-8")
        assert cost["devices"] == 8 and cost["memory"]["peak"] < 141e9
