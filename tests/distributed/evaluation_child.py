"""Opens a run over the devices that this process has, and says as JSON what it is measured by and what it answers.

Arguments: the run folder; the prompt; the seeds that it is answered with.
"""

import dataclasses
import json
import sys

import jax
import numpy as np

import suite
from suite.data.pipeline.padding import bucket, pad
from suite.parallel.batch_shards import placer


def main(folder: str, prompt: str = "", *numbers: str) -> None:
    run = suite.open(folder, allow=("tests",))
    said = {"devices": jax.device_count(), "metrics": run.evaluate("validation").metrics}
    if prompt:
        seeds = [int(number) for number in numbers]
        said["answers"] = {name: answered(run, engine, prompt, seeds) for name, engine in ENGINES.items()}
    else:
        said["answers"] = run.predict({"digits": [[1, 2, 3], [0] * 12, [3]]})
    print(json.dumps(said))


ENGINES = {"jit": "jit", "pmap": "pmap"}


def answered(run, engine, prompt, seeds):
    """Of each seed: the continuation alone, at each place of a batch of eight others, and spread over all devices."""
    experiment = suite.replace(run.experiment, {"parallel.engine": engine})
    run = dataclasses.replace(run, experiment=experiment)
    said = {}
    for seed in seeds:
        answers = [run.predict([prompt], seed)[0]["continuation"]]
        for place in range(8):
            company = [f"another {i}" for i in range(8)]
            company[place] = prompt
            own = [seed + 1 + i for i in range(8)]
            own[place] = seed
            answers.append(run.predict(company, own)[place]["continuation"])
        answers += [answer["continuation"] for answer in run.predict([prompt] * 8, seed)]
        answers += spread(run, prompt, seed)
        said[seed] = answers
    return said


def spread(run, prompt, seed):
    """Continuations of the same in all rows of a batch that is spread over the mesh."""
    rows = run.codec.encode({run.codec.primary: [prompt] * 8})
    batch = pad(rows, np.ones(8, bool), bucket(rows, run.lengths), seed)
    program = run._program
    outputs = jax.device_get(program.predict(*run.variables, placer(program.mesh)(batch), None))
    return [answer["continuation"] for answer in run.codec.decode(outputs, {})]


if __name__ == "__main__":
    main(*sys.argv[1:])
