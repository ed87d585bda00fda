"""Models in ONNX of strangers: what needs more than itself and an engine is refused before an engine reads it."""

import numpy as np
import pytest

from suite.bundles.onnx_files import MOST_DEPTH, check
from suite.errors import InputError

onnx = pytest.importorskip("onnx", reason="writes ONNX: the extra onnx")
helper, numpy_helper = onnx.helper, onnx.numpy_helper


def entry(name="x"):
    return helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [2])


def model(nodes=(), tensors=(), **more):
    nodes = list(nodes) or [helper.make_node("Identity", ["x"], ["y"])]
    graph = helper.make_graph(nodes, "case", [entry()], [entry("y")], list(tensors))
    return helper.make_model(graph, **more)


def elsewhere():
    tensor = numpy_helper.from_array(np.zeros(2, np.float32), "w")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../../etc/passwd")
    return tensor


def nested(depth):
    node = helper.make_node("Identity", ["x"], ["y"])
    for _ in range(depth):
        body = helper.make_graph([node], "body", [], [entry("y")])
        node = helper.make_node("If", ["x"], ["y"], then_branch=body, else_branch=body)
    return node


def constant_elsewhere():
    return helper.make_node("Constant", [], ["y"], value=elsewhere())


HOSTILE = {
    "numbers in files beside it": lambda: model(tensors=[elsewhere()]),
    "operators of strangers": lambda: model([helper.make_node("Run", ["x"], ["y"], domain="strangers")]),
    "functions of its own": lambda: model(
        functions=[helper.make_function("f", "Own", ["x"], ["y"], [helper.make_node("Identity", ["x"], ["y"])], [])]
    ),
    "graphs within graphs": lambda: model([nested(MOST_DEPTH + 1)]),
}


def test_a_model_of_the_standard_s_operators_is_let_through():
    inner = helper.make_graph([helper.make_node("Add", ["x", "w"], ["y"])], "body", [], [entry("y")])
    choice = helper.make_node("If", ["x"], ["y"], then_branch=inner, else_branch=inner)
    check(model([choice], [numpy_helper.from_array(np.zeros(2, np.float32), "w")]).SerializeToString(), "it")


@pytest.mark.parametrize("found", HOSTILE)
def test_what_leads_elsewhere_is_refused(found):
    with pytest.raises(InputError, match="needs what a bundle may not have") as error:
        check(HOSTILE[found]().SerializeToString(), 'file "program/0.onnx"')
    assert error.value.found.startswith(found)


@pytest.mark.parametrize("within", ["constant", "branch"])
def test_numbers_elsewhere_are_found_in_nodes_and_in_their_graphs(within):
    node = constant_elsewhere()
    if within == "branch":
        body = helper.make_graph([node], "body", [], [entry("y")])
        node = helper.make_node("If", ["x"], ["y"], then_branch=body, else_branch=body)
    with pytest.raises(InputError, match="may not have"):
        check(model([node]).SerializeToString(), "it")


@pytest.mark.parametrize("content", [b"", b"\x0b", b"\x3a\xff\xff\x03", b"\xff" * 20, b"\x38\x01", b"{}"])
def test_what_is_no_model_is_refused(content):
    with pytest.raises(InputError, match="is no model in ONNX"):
        check(content, "it")


def test_no_beginning_of_a_model_is_taken_for_one_or_ends_otherwise():
    """Cut anywhere: let through only where the rest held no part of the graph, else refused in words."""
    whole = model(tensors=[numpy_helper.from_array(np.zeros(2, np.float32), "w")]).SerializeToString()
    for size in range(len(whole)):
        try:
            check(whole[:size], "it")
        except InputError as error:
            assert "is no model in ONNX" in str(error)
