"""The peer of `benchmarks.serving`: FastAPI, PyTorch and transformers, as somebody who cares would write it.

The same weights, tokenizer and cut as ours, bfloat16, a thread a core, inference mode, scaled dot-product attention;
the same queue and batching policy (`suite.serving.batching`), told how long batches take as ours is; each batch
padded to its own longest text, in eights. Started by `benchmarks.serving`:

    python -m benchmarks.torch_server FOLDER PORT SIZES [--compile]
"""

import asyncio
import os
import sys
import time
from contextlib import asynccontextmanager
from typing import Any

from benchmarks.harness import keep_pages
from tests.parity.golden import mend_torch

MOST_TOKENS = 64
LENGTHS = (16, 32, 48, 64)


def make_app(folder: str, sizes: tuple[int, ...], compiled: bool) -> Any:
    """The application; the model is loaded and warmed when it starts."""
    import torch
    from fastapi import FastAPI, Request
    from fastapi.responses import JSONResponse
    from tokenizers import Tokenizer
    from transformers import AutoModelForSequenceClassification

    from suite.serving.batching import Batcher

    torch.manual_seed(0)
    model = AutoModelForSequenceClassification.from_pretrained(folder, num_labels=2, dtype=torch.bfloat16).eval()
    forward = torch.compile(model) if compiled else model
    tokenizer = Tokenizer.from_file(f"{folder}/tokenizer.json")
    tokenizer.enable_truncation(MOST_TOKENS)
    tokenizer.no_padding()
    names = ["negative", "positive"]

    def compute(rows: list[list[int]], length: int, size: int) -> list[dict[str, Any]]:
        longest = length if compiled else -(-max(map(len, rows)) // 8) * 8
        count = size if compiled else len(rows)
        ids = torch.zeros((count, longest), dtype=torch.long)
        mask = torch.zeros((count, longest), dtype=torch.long)
        mask[:, 0] = 1
        for i, row in enumerate(rows):
            ids[i, : len(row)] = torch.tensor(row)
            mask[i, : len(row)] = 1
        with torch.inference_mode():
            shares = forward(input_ids=ids, attention_mask=mask).logits.float().softmax(-1)[: len(rows)]
        return [
            {"label": names[max(range(2), key=row.__getitem__)], "top": dict(zip(names, row, strict=True))}
            for row in shares.tolist()
        ]

    def seconds(length: int, size: int) -> float:
        """Of a batch, after one that compiles: as `Bundle.warm` measures ours."""
        for _ in range(2):
            begun = time.perf_counter()
            compute([[101] * length] * size, length, size)
        return time.perf_counter() - begun

    state: dict[str, Any] = {}

    @asynccontextmanager
    async def lifespan(app: FastAPI):
        shapes = [(length, size) for length in LENGTHS for size in sizes]
        measured = {(length, size): await asyncio.to_thread(seconds, length, size) for length, size in shapes}
        state["batcher"] = Batcher(compute, sizes, wait=0.002, capacity=256, seconds=measured)
        print("ready", flush=True)
        yield

    app = FastAPI(lifespan=lifespan)

    @app.post("/predict")
    async def predict(request: Request) -> JSONResponse:
        texts = (await request.json())["inputs"]
        rows = [tokenizer.encode(text).ids for text in texts]
        lengths = [next(length for length in LENGTHS if length >= len(row)) for row in rows]
        answers = await state["batcher"].submit(list(zip(rows, lengths, strict=True))).answers(30, 30)
        return JSONResponse({"answers": answers})

    return app


if __name__ == "__main__":
    keep_pages()
    mend_torch()
    import torch
    import uvicorn

    torch.set_num_threads(len(os.sched_getaffinity(0)))  # as many as XLA takes
    given = [argument for argument in sys.argv[1:] if not argument.startswith("--")]
    application = make_app(given[0], tuple(map(int, given[2].split(","))), "--compile" in sys.argv)
    uvicorn.run(application, port=int(given[1]), loop="uvloop", http="httptools", log_level="error", access_log=False)
