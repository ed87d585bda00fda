"""COCO's metrics of detected boxes: the numbers of pycocotools, in any batches, with intervals."""

import numpy as np
import pytest

from suite.contracts.metric import add
from suite.contracts.metric_meaning import METRICS
from suite.data.preprocessing.letterbox import content, onto_canvas, onto_pictures, placement
from suite.evaluation.bootstrap import Scores
from suite.evaluation.metrics.detection import best_score, detection_scores

NAMES = ("cat", "dog", "owl")
CANVAS = (256, 320)


def made(seed, pictures=12, things=14, answers=40, size=240.0, ties=True):
    """A batch of pictures with boxes, and answers that lie near them or anywhere; some rows hold nothing."""
    rng = np.random.default_rng(seed)
    batch = {
        "boxes": np.zeros((pictures, things, 4), np.float32),
        "labels": np.full((pictures, things), -1, np.int32),
        "crowd": np.zeros((pictures, things), bool),
        "area": np.zeros((pictures, things), np.float32),
        # The canvas has the pictures' pixels, so that both evaluations are given the same numbers.
        "placed": np.tile(np.array([1, 1, 0, 0, 4096, 4096], np.float32), (pictures, 1)),
        "mask": np.ones(pictures, bool),
    }
    outputs = {
        "boxes": np.zeros((pictures, answers, 4), np.float32),
        "scores": np.zeros((pictures, answers), np.float32),
        "labels": np.zeros((pictures, answers), np.int32),
    }
    for row in range(pictures):
        count = int(rng.integers(0, things + 1)) if row else 0
        corner = rng.uniform(0, size, (count, 2))
        sides = np.exp(rng.uniform(np.log(4), np.log(300), (count, 2)))
        boxes = np.concatenate([corner, corner + sides], 1).astype(np.float32).round(1)
        batch["boxes"][row, :count] = boxes
        batch["labels"][row, :count] = rng.integers(0, len(NAMES), count)
        batch["crowd"][row, :count] = rng.random(count) < 0.15
        batch["area"][row, :count] = (sides.prod(1) * rng.uniform(0.5, 1, count)).astype(np.float32)
        near = int(rng.integers(0, answers + 1)) if row != 1 else 0
        for place in range(near):
            source = rng.integers(0, max(count, 1))
            if count and rng.random() < 0.7:
                box = boxes[source] + rng.normal(0, 3, 4)
                label = batch["labels"][row, source] if rng.random() < 0.9 else rng.integers(len(NAMES))
            else:
                start = rng.uniform(0, size, 2)
                box, label = np.concatenate([start, start + rng.uniform(3, 120, 2)]), rng.integers(len(NAMES))
            outputs["boxes"][row, place] = np.concatenate(
                [np.minimum(box[:2], box[2:]), np.maximum(box[:2], box[2:]) + 1]
            )
            score = rng.uniform(0.01, 1)
            outputs["scores"][row, place] = round(score, 1) + 0.01 if ties else score
            outputs["labels"][row, place] = label
    return outputs, batch


def reference(outputs, batch):
    """The numbers of pycocotools; None for its -1, nothing to count."""
    coco, evaluation = pytest.importorskip("pycocotools.coco"), pytest.importorskip("pycocotools.cocoeval")
    truth = coco.COCO()
    annotations = []
    as_stated = lambda box: [float(box[0]), float(box[1]), float(box[2] - box[0]), float(box[3] - box[1])]
    doubles = lambda box: as_stated(np.asarray(box, np.float64).clip(0, 4096))
    for row in range(len(batch["mask"])):
        for place in np.flatnonzero(batch["labels"][row] >= 0):
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": row,
                    "category_id": int(batch["labels"][row, place]),
                    "bbox": doubles(batch["boxes"][row, place]),
                    "area": float(batch["area"][row, place]),
                    "iscrowd": int(batch["crowd"][row, place]),
                }
            )
    images = [{"id": row} for row in range(len(batch["mask"]))]
    categories = [{"id": place, "name": name} for place, name in enumerate(NAMES)]
    truth.dataset = {"images": images, "annotations": annotations, "categories": categories}
    truth.createIndex()
    said = [
        {
            "image_id": int(row),
            "category_id": int(outputs["labels"][row, place]),
            "bbox": doubles(outputs["boxes"][row, place]),
            "score": float(outputs["scores"][row, place]),
        }
        for row, place in zip(*np.nonzero(outputs["scores"]), strict=True)
    ]
    run = evaluation.COCOeval(truth, truth.loadRes(said), "bbox")
    run.evaluate()
    run.accumulate()
    run.summarize()
    named = dict(
        zip(
            ("mAP", "AP50", "AP75", "AP_small", "AP_medium", "AP_large", "AR1", "AR10", "AR100"),
            run.stats,
            strict=False,
        )
    )
    for place, name in enumerate(NAMES):
        known = run.eval["precision"][:, :, place, 0, 2]
        named[f"{name}.AP"] = known[known > -1].mean() if (known > -1).any() else -1
    return {name: float(value) for name, value in named.items() if value > -1}


def values(states):
    return {name: state.value() for name, state in states.items() if not state.absent}


@pytest.mark.parametrize(
    "case",
    [
        pytest.param({"seed": seed, "ties": seed % 2 == 0}, id=f"crowds, sizes and empty pictures {seed}")
        for seed in range(4)
    ]
    + [
        pytest.param({"seed": 7, "pictures": 3, "answers": 400}, id="more than 100 answers"),
        pytest.param({"seed": 8, "pictures": 4, "things": 1}, id="classes and sizes without a box"),
        pytest.param({"seed": 9, "pictures": 2, "size": 6.0}, id="boxes upon one another"),
    ],
)
def test_metrics_are_those_of_pycocotools(case, capsys):
    outputs, batch = made(**case)
    ours, theirs = values(detection_scores(outputs, batch, NAMES)), reference(outputs, batch)
    assert ours.keys() == theirs.keys()
    for name, value in theirs.items():
        assert ours[name] == pytest.approx(value, abs=1e-6), name


def test_sums_over_batches_are_the_metrics_of_all():
    outputs, batch = made(3)
    whole = detection_scores(outputs, batch, NAMES)
    sums = {}
    for start in range(0, 12, 5):
        part = lambda arrays, start=start: {name: value[start : start + 5] for name, value in arrays.items()}
        sums = add(sums, detection_scores(part(outputs), part(batch), NAMES))
    assert values(sums) == values(whole)
    masked = {**batch, "mask": np.arange(12) < 5, "placed": batch["placed"] * (np.arange(12) < 5)[:, None]}
    assert values(detection_scores(outputs, masked, NAMES)) != values(whole)


def test_perfect_boxes_score_one_and_missing_sizes_are_left_out():
    _, batch = made(5)
    batch["crowd"][:] = False
    batch["area"] = np.minimum(batch["area"], 900)
    perfect = {"boxes": batch["boxes"], "scores": np.where(batch["labels"] >= 0, 0.9, 0), "labels": batch["labels"]}
    scores = values(detection_scores(perfect, batch, NAMES))
    assert scores["mAP"] == pytest.approx(1) and scores["AP_small"] == pytest.approx(1)
    assert "AP_medium" not in scores and "AP_large" not in scores


def test_interval_over_pictures_holds_the_value():
    outputs, batch = made(6, pictures=30)
    one = lambda arrays, row: {name: value[row : row + 1] for name, value in arrays.items()}
    states = [detection_scores(one(outputs, row), one(batch, row), NAMES) for row in range(30)]
    scores = Scores({"mAP": [state["mAP"] for state in states]}, np.arange(30))
    interval = scores.interval("mAP")
    assert interval.value == pytest.approx(detection_scores(outputs, batch, NAMES)["mAP"].value())
    assert interval.low < interval.value < interval.high
    # Each picture counted as often as drawn is the metric of the pictures so often.
    drawn = np.array([2, 2, 5, 9, 9, 9])
    weights = np.bincount(drawn, minlength=30)[None]
    rows = [state["AR100"] for state in states]
    again = [rows[place] for place in drawn]
    total = again[0]
    for state in again[1:]:
        total += state
    assert type(rows[0]).resampled(rows, weights)[0] == pytest.approx(total.value())


def test_every_metric_is_explained():
    states = detection_scores(*made(0, pictures=1), NAMES)
    assert all(name in METRICS or name.rpartition(".")[2] in METRICS for name in states)


@pytest.mark.parametrize("stored", [(480, 640), (640, 480), (31, 500), (1, 3)])
def test_boxes_return_from_the_canvas_to_the_pixels_they_had(stored):
    placed = placement(stored, CANVAS)
    rng = np.random.default_rng(0)
    corners = np.sort(rng.uniform(0, 1, (9, 2, 2)), 1).reshape(9, 4) * [stored[1], stored[0], stored[1], stored[0]]
    back = onto_pictures(onto_canvas(corners, placed)[None], placed[None])[0]
    assert np.abs(back - corners).max() < 1e-3 * max(stored) / 100
    left, top, right, bottom = content(placed[None])[0]
    assert left >= 0 and top >= 0 and right <= CANVAS[1] and bottom <= CANVAS[0]
    assert (right - left == CANVAS[1]) or (bottom - top == CANVAS[0])


@pytest.mark.parametrize("seed", range(4))
def test_the_least_score_is_that_of_the_best_f1(seed):
    """Beside F1 of every threshold, counted answer by answer."""
    outputs, batch = made(seed)
    state = detection_scores(outputs, batch, NAMES)["mAP"]
    answers, truths = state.rows()
    answers = answers[(answers["ignored"][:, 0] & 1) == 0]
    boxes = truths["counts"][:, 0].sum()

    def f1(score):
        said = answers["score"] >= score
        hits = (said & ((answers["matched"][:, 0] & 1) != 0)).sum()
        return 2 * hits / (said.sum() + boxes), hits / max(said.sum(), 1), hits / boxes

    score, precision, recall = best_score(state)
    best = max(f1(one)[0] for one in np.unique(answers["score"]))
    assert f1(score) == pytest.approx((best, precision, recall)) and 0 < score < 1


def test_without_a_right_answer_no_least_score_is_learnt():
    outputs, batch = made(0)
    wrong = {**outputs, "labels": np.full_like(outputs["labels"], 99)}
    assert best_score(detection_scores(wrong, batch, NAMES)["mAP"]) == (0.0, 0.0, 0.0)
