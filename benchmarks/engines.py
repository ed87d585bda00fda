"""Inference on a processor by the engines of a bundle: XLA in bfloat16 and int8, ONNX Runtime, OpenVINO.

Networks of random weights, as a bundle computes them: the programs of `suite.exporting.tracing` by XLA, the models of
`suite.exporting.onnx` by `suite.bundles.engines`. All of a case in one process, in turn, round after round: the medians
of processor time (user and system, all threads) and of time on the clock, in ms. On a busy machine the first is the one
to trust. The ratio is the least of XLA's over that of the others.

    python -m benchmarks.engines --to engines.json
    python -m benchmarks.engines bert-1x32 resnet-1 --rounds 5
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

VOCAB = 30_522
FIELDS, ROWS = 26, 100_000
TEXTS = {"bert": {}, "minilm": {"layers": 6, "width": 384, "heads": 12, "feed_forward": 1536}}
CASES = (
    *(f"{name}-{shape}" for name in TEXTS for shape in ("1x32", "1x128", "8x128")),
    "resnet-1",
    "resnet-8",
    "deepfm-1",
    "deepfm-1000",
)
PAUSE_S = 0.05
"""Between calls, in which the threads of the engine before stop waiting for work."""


def text_model(name: str, **more: Any) -> Any:
    """An encoder of BERT-base's or MiniLM's size with two classes."""
    from suite.models.transformer import Config

    sizes = {"layers": 12, "width": 768, "heads": 12, "feed_forward": 3072, **TEXTS[name]}
    kept = {"norm": "post", "embedding_norm": True, "token_types": 2, "epsilon": 1e-12, "max_length": 512}
    return Config(vocab_size=VOCAB, outputs=2, **kept, **sizes)  # type: ignore[arg-type]


def case(name: str) -> tuple[Any, Callable[[Any, dict[str, Any]], Any], dict[str, np.ndarray]]:
    """The configuration of a case's network, how it is called, and a batch."""
    rng = np.random.default_rng(0)
    kind, _, shape = name.partition("-")
    if kind in TEXTS:
        rows, length = map(int, shape.split("x"))
        tokens = rng.integers(0, VOCAB, (rows, length)).astype(np.int32)
        batch = {"mask": np.ones(rows, bool), "tokens": tokens, "tokens_mask": np.ones((rows, length), bool)}
        return text_model(kind), lambda model, batch: model(batch["tokens"], batch["tokens_mask"]), batch
    rows = int(shape)
    if kind == "resnet":
        from suite.models import resnet

        images = rng.standard_normal((rows, 224, 224, 3)).astype(np.float32)
        batch = {"images": images, "mask": np.ones(rows, bool)}
        return resnet.resnet50(channels=3, outputs=1000), lambda model, batch: model(batch["images"]), batch
    from suite.models import deepfm

    offsets = np.arange(FIELDS) * ROWS
    batch = {
        "dense": rng.standard_normal((rows, 13)).astype(np.float32),
        "ids": (rng.integers(0, ROWS, (rows, FIELDS)) + offsets).astype(np.int32),
        "mask": np.ones(rows, bool),
        "weights": np.ones((rows, 0), np.float32),
    }
    config = deepfm.Config(inputs=13, rows=FIELDS * ROWS, fields=FIELDS, width=10, hidden=(400, 400, 400))
    return config, lambda model, batch: model(batch["dense"], batch["ids"], batch["weights"]), batch


def weights_and_answer(name: str, compute: str, quantized: bool = False) -> tuple[dict[str, Any], Any, dict[str, Any]]:
    """Weights by name, the function of a bundle's program, and a batch."""
    import jax.numpy as jnp
    from flax import nnx

    from suite.experiment.compression import Compression
    from suite.experiment.sections import Precision
    from suite.exporting import tracing
    from suite.surgery import quantize, quantize_weights
    from suite.training import precision

    config, call, batch = case(name)
    model = config.build(rngs=nnx.Rngs(0))
    if quantized:
        model = quantize.attach(model, Compression(quantize="int8"), quantize_weights.rounded)
    graph, params, rest = nnx.split(precision.apply(model, Precision(compute=compute)), nnx.Param, ...)  # type: ignore[arg-type]
    weights = tracing.weights_of(nnx.to_pure_dict(params), nnx.to_pure_dict(rest))
    if compute == "bfloat16":  # as a bundle keeps them
        weights = {
            path: leaf.astype(jnp.bfloat16) if path.endswith("/kernel") and leaf.dtype == np.float32 else leaf
            for path, leaf in weights.items()
        }
    answer = tracing.answering(graph, lambda model, batch, reference=None: {"outputs": call(model, batch)})
    return weights, answer, batch


def by_xla(name: str, compute: str, quantized: bool = False) -> Callable[[], Any]:
    """The program of a bundle, as it is served."""
    import jax

    weights, answer, batch = weights_and_answer(name, compute, quantized)
    program, placed = jax.jit(answer), jax.device_put(weights)
    return lambda: jax.device_get(program(placed, batch))


def model_of(name: str) -> bytes:
    """The network as a model in ONNX, for any number of rows."""
    import jax

    from suite.exporting.onnx.converting import convert

    weights, answer, batch = weights_and_answer(name, "float32")
    (rows,) = jax.export.symbolic_shape("b")
    shapes = {key: jax.ShapeDtypeStruct((rows, *value.shape[1:]), value.dtype) for key, value in batch.items()}
    return bytes(convert(answer, [weights], shapes, name).SerializeToString())


def engines(name: str) -> dict[str, Callable[[], Any]]:
    """What is compared."""
    from suite.bundles.engines import call_of, installed
    from suite.exporting.onnx.quantizing import dynamic, static
    from suite.runtime import allocation

    allocation.keep_memory()
    calls = {"XLA bfloat16": by_xla(name, "bfloat16"), "XLA int8": by_xla(name, "bfloat16", True)}
    content, batch = model_of(name), case(name)[2]
    narrow = static(content, [batch]) if name.startswith("resnet") else dynamic(content)

    def opened(engine: str, model: bytes, precision: str = "float32") -> Callable[[], Any]:
        call = call_of(engine, model, precision)
        return lambda: call({}, batch)

    if "onnxruntime" in installed():
        calls |= {
            "ONNX Runtime float32": opened("onnxruntime", content),
            "ONNX Runtime int8": opened("onnxruntime", narrow),
        }
    if "openvino" in installed():
        calls |= {
            "OpenVINO bfloat16": opened("openvino", content, "bfloat16"),
            "OpenVINO int8": opened("openvino", narrow),
        }
    return calls


def measured(name: str, rounds: int) -> dict[str, dict[str, float]]:
    """Medians of a case, in ms: by engine ``cpu`` and ``wall``."""
    calls = engines(name)
    taken: dict[str, list[tuple[float, float]]] = {engine: [] for engine in calls}
    for turn in range(rounds + 1):
        for engine, call in calls.items():
            time.sleep(PAUSE_S)
            wall, cpu = time.perf_counter(), time.process_time()
            call()
            if turn:  # the first compiles
                taken[engine].append((time.process_time() - cpu, time.perf_counter() - wall))
    return {
        engine: {
            "cpu": 1e3 * statistics.median(cpu for cpu, _ in pairs),
            "wall": 1e3 * statistics.median(wall for _, wall in pairs),
        }
        for engine, pairs in taken.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="*", default=list(CASES), help=f"of {', '.join(CASES)}")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--to", default="", help="file for the figures, as JSON")
    given, figures = parser.parse_args(), {}
    for name in given.cases:
        figures[name] = found = measured(name, given.rounds)
        first = min(about["cpu"] for engine, about in found.items() if engine.startswith("XLA"))
        for engine, about in found.items():
            ratio = f"{first / about['cpu']:.2f}"
            print(
                f"{name:14} {engine:22} cpu {about['cpu']:8.2f}  wall {about['wall']:8.2f}  XLA's cpu / its {ratio}",
                flush=True,
            )
        if given.to:
            Path(given.to).write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
