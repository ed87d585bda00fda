"""Open Inference Protocol: tensors in and out, in JSON and binary, by a real client and by hand; answers are those of
/v1."""

import base64
import json

import jsonschema
import numpy as np
import pytest

from suite.contracts.codec import Output
from suite.serving.errors import Refused
from suite.serving.open_inference.signature import OutputTensor, output_tensors
from suite.serving.open_inference.tensors import packed, tensors
from tests.serving.asking import Serving
from tests.serving.conftest import png, tone

TEXTS = ["a fine and moving film", "a dull and tired film"]
HEAD = "Inference-Header-Content-Length"


def tensor(name, data, datatype="BYTES", **more):
    return {"name": name, "shape": [len(data)], "datatype": datatype, "data": data, **more}


def infer(server, model, content, behind=b"", **headers):
    """(status, answer) of a request; what stands behind its JSON comes with the length of the JSON."""
    head = content if isinstance(content, bytes) else json.dumps(content).encode()
    given = {HEAD: str(len(head))} if behind else {}
    named = {key.replace("_", "-"): value for key, value in headers.items()}
    status, _, body = server.request("POST", f"/v2/models/{model}/infer", head + behind, {**given, **named})
    return status, json.loads(body)


def outputs(answered):
    """Name -> data, of an answer that must be one."""
    status, content = answered
    assert status == 200, content
    return {output["name"]: output["data"] for output in content["outputs"]}


def refusal(server, model, content, behind=b"", **headers):
    """(status, words) of a request that must be refused."""
    status, content = infer(server, model, content, behind, **headers)
    assert 400 <= status < 500 and content.keys() == {"error"}, content
    return status, content["error"]


@pytest.fixture(scope="module")
def client(server):
    """NVIDIA's client, as users of Triton and KServe have it."""
    from tritonclient.http import InferenceServerClient

    with InferenceServerClient(f"127.0.0.1:{server.port}") as made:
        yield made


def binary_input(name, values, datatype="BYTES"):
    from tritonclient.http import InferInput

    values = np.array(values, object if datatype == "BYTES" else None)
    made = InferInput(name, list(values.shape), datatype)
    return made.set_data_from_numpy(values)


def test_a_client_of_triton_asks_for_health_and_metadata(client, opened):
    assert client.is_server_live() and client.is_server_ready()
    assert "binary_tensor_data" in client.get_server_metadata()["extensions"]
    version = opened["words"].version
    assert client.is_model_ready("words") and client.is_model_ready("words", version)
    assert not client.is_model_ready("words", "1") and not client.is_model_ready("wards")
    about = client.get_model_metadata("words", version)
    assert (about["name"], about["versions"]) == ("words", [version])
    assert [(each["name"], each["datatype"], each["shape"]) for each in about["inputs"]] == [("review", "BYTES", [-1])]
    shapes = {each["name"]: (each["datatype"], each["shape"]) for each in about["outputs"]}
    assert shapes == {"label": ("BYTES", [-1]), "probability": ("FP32", [-1]), "top": ("FP32", [-1, 2])}
    numbers = {each["name"]: each for each in client.get_model_metadata("clicks")["inputs"]}
    assert numbers["price"]["datatype"] == "FP64" and not numbers["price"]["parameters"]["required"]


def test_a_client_of_triton_gets_the_answers_of_v1(client, server, opened):
    result = client.infer(
        "words", [binary_input("review", TEXTS)], request_id="7", model_version=opened["words"].version
    )
    expected = server.ask("words", TEXTS)
    assert result.get_response()["id"] == "7"
    assert [label.decode() for label in result.as_numpy("label")] == [answer["label"] for answer in expected]
    probabilities = result.as_numpy("probability")
    assert probabilities.dtype == np.float32
    assert probabilities == pytest.approx([answer["probability"] for answer in expected], abs=1e-5)
    (top,) = [each for each in client.get_model_metadata("words")["outputs"] if each["name"] == "top"]
    classes = json.loads(top["parameters"]["classes"])
    for row, answer in zip(result.as_numpy("top"), expected, strict=True):
        assert dict(zip(classes, row.tolist(), strict=True)) == pytest.approx(answer["top"], abs=1e-5)


def test_a_client_of_triton_sends_files_and_tables(client, server):
    from tritonclient.http import InferRequestedOutput

    pictures = [png(0), png(255, (30, 20))]
    inputs = [binary_input("image", pictures)]
    result = client.infer("digits", inputs, outputs=[InferRequestedOutput("label", binary_data=False)])
    expected = server.ask("digits", [base64.b64encode(picture).decode() for picture in pictures])
    assert result.as_numpy("label").tolist() == [answer["label"] for answer in expected]
    assert result.as_numpy("top") is None, "only what was asked for"
    sounds = client.infer("sounds", [binary_input("audio", [tone()])]).as_numpy("label")
    assert sounds[0].decode() == server.ask("sounds", [base64.b64encode(tone()).decode()])[0]["label"]
    inputs = [
        binary_input("price", np.array([3.5, np.nan], np.float32), "FP32"),
        binary_input("shop", ["a", ""]),
        binary_input("tags", ['["x1", "y2"]', "[]"]),
    ]
    records = [{"price": 3.5, "shop": "a", "tags": ["x1", "y2"]}, {"price": None, "shop": None, "tags": []}]
    expected = server.ask("clicks", records)
    result = client.infer("clicks", inputs)
    assert result.as_numpy("probability") == pytest.approx([answer["probability"] for answer in expected], abs=1e-5)
    assert result.as_numpy("unseen").tolist() == [answer["unseen"] for answer in expected]


def test_a_client_of_triton_reads_why_it_is_refused(client):
    from tritonclient.utils import InferenceServerException

    with pytest.raises(InferenceServerException) as error:
        client.infer("words", [binary_input("reviews", TEXTS)])
    assert str(error.value) == '[400] tensor "reviews": is no input of this model.\nTry: review'


def test_answers_name_every_class_where_those_of_v1_name_the_likeliest(server, opened):
    """Asked in company of requests of /v1, which still name three."""
    from concurrent.futures import ThreadPoolExecutor

    encoded = base64.b64encode(png(100)).decode()
    classes = opened["digits"].codec.labels.names
    assert len(classes) > 3
    with ThreadPoolExecutor(8) as pool:
        asked = [pool.submit(infer, server, "digits", {"inputs": [tensor("image", [encoded])]}) for _ in range(4)]
        others = [pool.submit(server.ask, "digits", [encoded]) for _ in range(4)]
        full, short = [outputs(each.result()) for each in asked], [each.result()[0] for each in others]
    for one, other in zip(full, short, strict=True):
        assert len(one["top"]) == len(classes) and sum(one["top"]) == pytest.approx(1, abs=1e-4)
        assert len(other["top"]) == 3
        named = dict(zip(classes, one["top"], strict=True))
        assert other["top"] == pytest.approx({name: named[name] for name in other["top"]}, abs=1e-4)


@pytest.mark.parametrize(
    "inputs",
    [
        [tensor("review", TEXTS)],
        [{**tensor("review", TEXTS), "shape": [2, 1]}],
        [{**tensor("review", [[text] for text in TEXTS]), "shape": [2, 1]}],
    ],
)
def test_tensors_flat_and_nested(server, inputs):
    expected = server.ask("words", TEXTS)
    assert outputs(infer(server, "words", {"inputs": inputs}))["label"] == [answer["label"] for answer in expected]


def test_numbers_and_lists_of_every_form(server):
    expected = server.ask("clicks", [{"price": 3, "shop": 7, "tags": ["x1", "y2"]}] * 2)
    for datatype in ("FP16", "FP32", "FP64", "INT8", "UINT64"):
        for tags in (
            tensor("tags", ['["x1", "y2"]'] * 2),
            {"name": "tags", "shape": [2, 2], "datatype": "BYTES", "data": ["x1", "y2"] * 2},
        ):
            inputs = [tensor("price", [3, 3], datatype), tensor("shop", [7, 7], "INT64"), tags]
            answered = outputs(infer(server, "clicks", {"inputs": inputs}))
            assert answered["probability"] == [answer["probability"] for answer in expected]


def test_what_is_not_understood_is_named_in_the_answer(server):
    content = {
        "inputs": [tensor("review", TEXTS[:1], parameters={"content_type": "str"})],
        "parameters": {"priority": 1},
    }
    status, answered = infer(server, "words", content)
    assert status == 200 and answered["parameters"] == {"ignored": "priority, review.content_type"}
    assert "parameters" not in infer(server, "words", {"inputs": [tensor("review", TEXTS)]})[1]


BAD = tensor("review", ["a"])


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"inputs": [tensor("review", [3], "INT32")]}, "review[0]: must be a string, not a number."),
        ({"inputs": [tensor("review", ["a", 3])]}, 'tensor "review": is of BYTES, and holds a number.'),
        ({"inputs": [tensor("review", ["a", None])]}, "review[1]: a value is missing: a string is wanted."),
        ({"inputs": [{**BAD, "shape": [2]}]}, 'tensor "review": its data are not the 2 elements of its shape.'),
        ({"inputs": [{**BAD, "shape": [1, 2], "data": ["a", "b"]}]}, "has 2 elements a record, and one is taken."),
        ({"inputs": [{**BAD, "shape": [-1]}]}, "its shape must be a list of one to 8 sizes"),
        ({"inputs": [{**BAD, "shape": [10**300] * 8}]}, "more than 1,000,000 elements"),
        ({"inputs": [{**BAD, "shape": [0], "data": []}]}, "has no element."),
        ({"inputs": [{**BAD, "datatype": "BF16"}]}, 'has the datatype "BF16".'),
        ({"inputs": [{**BAD, "datatype": {}}]}, 'has the datatype "{}".'),
        ({"inputs": [BAD, BAD]}, "occurs twice."),
        ({"inputs": [{**BAD, "date": []}]}, '"date" is not understood.'),
        ({"inputs": [tensor("review", ["a"] * 65)]}, "65 records, of at most 64."),
        ({"inputs": [BAD], "outputs": [{"name": "lable"}]}, 'outputs: {"name": "lable"} is no output of this model'),
        ({"inputs": [BAD], "outputs": [{"name": "top", "parameters": {"classification": 2}}]}, "classification is not"),
        ({"inputs": [BAD], "parameters": {"binary_data_output": 1}}, "binary_data_output: must be true or false"),
        ({"inputs": [BAD], "parameters": {"timeout": -1}}, "timeout: is no number of microseconds."),
        ({"inputs": [BAD], "parameters": {"a": [1]}}, "parameter a must be a string, a number or a boolean"),
        ({"inputs": [{**BAD, "parameters": {"shared_memory_region": "x"}}]}, "memory is not shared with clients."),
        ({"inputs": [{**BAD, "parameters": {"binary_data_size": 4}}]}, "has both data and binary_data_size."),
        ({"inputs": [BAD], "id": 3}, "id: must be a string, not a number."),
        ({"input": [BAD]}, "inputs: the list of inputs is missing (found: input)."),
        (b"{", "the body is not JSON"),
    ],
)
def test_a_malformed_request_is_refused_in_words(server, content, words):
    status, said = refusal(server, "words", content)
    assert words in said and status in (400, 413)


def test_values_at_odds_with_their_datatype(server):
    for datatype, value in (("UINT8", 256), ("INT32", 1.5), ("BOOL", 1), ("FP32", "1"), ("INT8", True)):
        assert refusal(server, "clicks", {"inputs": [tensor("price", [value], datatype)]})[0] == 400
    assert "larger than any number" in refusal(server, "clicks", {"inputs": [tensor("price", [1e300], "FP32")]})[1]
    uneven = [tensor("price", [1, 2], "FP32"), tensor("shop", ["a"])]
    assert "has 1 records, and price 2." in refusal(server, "clicks", {"inputs": uneven})[1]
    assert "is not base64" in refusal(server, "digits", {"inputs": [tensor("image", ["?"])]})[1]


def test_binary_tensors_that_are_cut_or_too_long(server):
    element = packed(["film"], "BYTES")

    def asked(size, behind=element):
        item = {"name": "review", "shape": [1], "datatype": "BYTES", "parameters": {"binary_data_size": size}}
        return {"inputs": [item]}, behind

    assert outputs(infer(server, "words", *asked(len(element))))["label"]
    assert "are not 1 elements" in refusal(server, "words", *asked(5))[1]
    assert "bytes are left behind the JSON" in refusal(server, "words", *asked(9))[1]
    assert "stand behind the last tensor" in refusal(server, "words", *asked(len(element), element + b"x"))[1]
    assert "are not 1 elements" in refusal(server, "words", *asked(8, b"\xff\xff\xff\xffabcd"))[1]
    assert "is not UTF-8 text" in refusal(server, "words", *asked(5, b"\1\0\0\0\xff"))[1]
    assert "is no number of bytes of a body" in refusal(server, "words", asked(8)[0], **{HEAD: "9999"})[1]


def test_binary_tensors_stand_in_the_order_of_the_json():
    items = [
        {"name": "x", "shape": [2], "datatype": "INT16", "parameters": {"binary_data_size": 4}},
        {"name": "y", "shape": [1], "datatype": "BOOL", "data": [True]},
        {"name": "z", "shape": [2, 1], "datatype": "BYTES", "parameters": {"binary_data_size": 9}},
    ]
    behind = packed([-2, 300], "INT16") + packed(["", "ab"], "BYTES")[:9]
    with pytest.raises(Refused):
        tensors(items, memoryview(behind))
    behind = packed([-2, 300], "INT16") + packed(["", "a"], "BYTES")
    x, y, z = tensors(items, memoryview(behind))
    assert (x.values, y.values, z.values) == ([-2, 300], [True], [b"", b"a"])


def test_addresses_and_methods(server, opened):
    assert server.get("/v2/health/live") == (200, {"live": True})
    assert server.get("/v2/health/ready") == (200, {"ready": True})
    version = opened["words"].version
    assert server.get(f"/v2/models/words/versions/{version}/ready") == (200, {"name": "words", "ready": True})
    status, content = server.get("/v2/models/words/versions/1")
    assert (status, content) == (404, {"error": f'words is not served in version "1".\nTry: {version}'})
    assert server.get("/v2/models/words:draw")[0] == server.get("/v2/nothing")[0] == 404
    assert server.get("/v2/nothing")[1] == {"error": 'there is no address "/v2/nothing".\nTry: /openapi.json'}
    status, headers, body = server.request("GET", "/v2/models/words/infer")
    assert (status, headers["allow"], set(json.loads(body))) == (405, "POST", {"error"})
    assert infer(server, f"words/versions/{version}", {"inputs": [BAD]})[0] == 200
    assert infer(server, "words:predict", {"inputs": [BAD]})[1]["model_name"] == "words"
    assert refusal(server, "words/versions/1", {"inputs": [BAD]})[0] == 404
    assert refusal(server, "wards", {"inputs": [BAD]})[0] == 404
    assert refusal(server, "words", {"inputs": [BAD]}, Content_Type="text/plain")[0] == 415
    assert refusal(server, "words", {"inputs": [BAD]}, Content_Encoding="gzip")[0] == 415


def test_requests_are_counted_with_those_of_v1(server):
    def count(code):
        name = f'suite_requests_total{{code="{code}",model="sounds",program="predict"}} '
        lines = server.request("GET", "/metrics")[2].decode().splitlines()
        return sum(float(line.removeprefix(name)) for line in lines if line.startswith(name))

    before = count(200), count(400)
    outputs(infer(server, "sounds", {"inputs": [tensor("audio", [base64.b64encode(tone()).decode()])]}))
    refusal(server, "sounds", {"inputs": [BAD]})
    assert (count(200), count(400)) == (before[0] + 1, before[1] + 1)


def test_the_description_holds_for_requests_and_answers(server):
    paths = server.get("/openapi.json")[1]["paths"]
    assert {"/v2", "/v2/health/live", "/v2/health/ready", "/v2/models/words", "/v2/models/words/ready"} <= paths.keys()
    for model in ("words", "clicks"):
        path = paths[f"/v2/models/{model}/infer"]["post"]
        body = path["requestBody"]["content"]["application/json"]
        jsonschema.validate(body["example"], body["schema"])
        status, answered = infer(server, model, {**body["example"], "id": "a"})
        assert status == 200, answered
        jsonschema.validate(answered, path["responses"]["200"]["content"]["application/json"]["schema"])


def test_a_token_is_asked_for_except_by_probes(bundles, tmp_path):
    (tmp_path / "token").write_text("secret\n")
    with Serving(bundles["words"], "--sizes", "1", "--token-file", tmp_path / "token") as server:
        assert server.get("/v2/health/live")[0] == server.get("/v2/health/ready")[0] == 200
        assert server.get("/v2") == (401, {"error": server.get("/v2")[1]["error"]})
        assert refusal(server, "words", {"inputs": [BAD]})[0] == 401
        assert infer(server, "words", {"inputs": [BAD]}, Authorization="Bearer secret")[0] == 200
        status, answered = infer(
            server, "words", {"inputs": [BAD], "parameters": {"timeout": 1}}, Authorization="Bearer secret"
        )
        assert (status, answered) == (504, {"error": "not answered within 1e-06 s."})


def test_outputs_of_each_kind_are_tensors():
    known = (
        Output(name="labels", kind="list", choices=("a", "b")),
        Output(name="top", kind="classes"),
        Output(name="price", kind="number"),
        Output(name="count", kind="number", whole=True),
        Output(name="share", kind="number", low=0, high=1),
        Output(name="text", kind="text"),
        Output(name="mask", kind="mask"),
        Output(name="spans", kind="spans"),
        Output(name="vector", kind="vector"),
    )
    made = {each.output.name: (each.datatype, each.shape, each.structured) for each in output_tensors(known)}
    assert made == {
        "labels": ("BYTES", (), True),
        "top": ("FP32", (2,), False),
        "price": ("FP64", (), False),
        "count": ("INT64", (), False),
        "share": ("FP32", (), False),
        "text": ("BYTES", (), False),
        "mask": ("BYTES", (), False),
        "spans": ("BYTES", (), True),
        "vector": ("FP32", (-1,), False),
    }
    (top,) = output_tensors([Output(name="top", kind="classes")])
    assert (top.datatype, top.structured) == ("BYTES", True), "classes that nobody lists have no places"
    vectors = OutputTensor(known[-1], "FP32", (-1,))
    assert vectors.elements([{"vector": [1.0, 2.0]}, {"vector": [3.0, 4.0]}]) == ([2, 2], [1.0, 2.0, 3.0, 4.0])
    with pytest.raises(RuntimeError, match="different sizes"):
        vectors.elements([{"vector": [1.0]}, {"vector": [3.0, 4.0]}])
    with pytest.raises(ValueError, match="finite"):
        packed([1.0, float("nan")], "FP32")
