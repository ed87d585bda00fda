"""Trains a student beside its teacher, or alone, and leaves a run folder of the student that is like any other.

The training has a run folder of its own inside that one, where it goes on after a kill; at the end it is gone.
"""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from suite.compression.run_writer import is_written, write
from suite.data.pipeline.padding import batched
from suite.experiment import sections
from suite.experiment.sections import Experiment
from suite.runs.results import write_result
from suite.runs.run import Run
from suite.surgery import lora
from suite.surgery.teacher import Distilled, Pair, Weights, attached, detached, kept, matched, with_tables
from suite.training.preprocessors import bind
from suite.training.trainer import fit

INSIDE = "training"
"""The folder of the training."""


def teach(student: Experiment, begin: Callable[[], Weights], teacher: Run | None, folder: Path) -> None:
    """Train a student and write its best weights into ``folder``; called again after a kill, go on.

    Args:
        student: its experiment, whose assets lie fitted in ``folder``; ``compression.distill`` says what it learns.
        begin: gives the weights it starts with, where no training has begun.
        teacher: whom it learns from; None: from labels alone.
        folder: the run folder; made whole at the end.

    Raises:
        InputError: the two cannot be compared, or ``folder`` holds the beginning of something else.
        Interrupted: the training was asked to stop; its state is saved.
    """
    inside = folder / INSIDE
    if not is_written(_finished(student), folder, folder):
        teacher = teacher if student.compression.distill.teaches else None
        bound = bind(student, folder)
        lesson = bound if teacher is None else _lesson(bound, teacher)
        _begin(lesson, begin, teacher, folder)
        told = fit(lesson, inside)
        weights = detached(*Run(inside, lesson)._weights)
        _keep_logs(inside, folder)
        rate, _ = told.pop("train/examples_per_second"), told.pop("train/seconds_before")
        write_result(folder, "train", student.name, told, told["train/seconds"], rate)
        write(_finished(student), *weights, folder, inside / "assets")
    shutil.rmtree(inside, ignore_errors=True)


def _keep_logs(inside: Path, folder: Path) -> None:
    shutil.copyfile(inside / "metrics.jsonl", folder / "metrics.jsonl")
    if (inside / "tensorboard").exists():
        shutil.copytree(inside / "tensorboard", folder / "tensorboard", dirs_exist_ok=True)


def _lesson(student: Experiment, teacher: Run) -> Experiment:
    """The experiment that trains a bound student and asks its teacher."""
    settings, task = student.compression.distill, student.task
    source = task.source("train")
    batch = batched(task.encode(source[np.arange(min(2, len(source)))]), ())
    pair = matched(Pair(student=student.model, teacher=kept(teacher.experiment.model)), task, batch, settings)
    return replace(student, task=Distilled(task=task, settings=settings), model=pair)


def _begin(lesson: Experiment, begin: Callable[[], Weights], teacher: Run | None, folder: Path) -> None:
    """The folder of the training with the weights it starts with, if it isn't there."""
    inside = folder / INSIDE
    if is_written(lesson, inside, folder):
        return
    weights = begin()
    if isinstance(lesson.model, Pair) and teacher is not None:
        theirs = plain_weights(teacher)
        weights = with_tables(weights, theirs, lesson.compression.distill.tables)
        weights = attached(lesson.model, weights, theirs, lesson.train.seed)
    write(lesson, *weights, inside, folder / "assets")


def plain_weights(run: Run) -> Weights:
    """(params, model_state) of a run, what fine-tuning added being folded in.

    Raises:
        InputError: the run has adapters, which no matrix can stand for.
    """
    params, model_state = run._weights
    return lora.fold(params, run.experiment.finetune), model_state


def _finished(student: Experiment) -> Experiment:
    """As it is stored: whoever trains it on keeps its zeros, the smallest weights there are, and makes no more."""
    sparsity = replace(student.optim.sparsity, criterion="magnitude", begin=0.0, end=0.0)
    return sections.replace(student, {"optim.sparsity": sparsity}) if sparsity.share else student
