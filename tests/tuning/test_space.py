"""Search spaces: checked against the recipe before anything runs, and what is refused says why."""

import math

import pytest

import suite
from suite.errors import InputError
from suite.experiment.goal import Choice, Range, Search
from suite.tuning import space
from tests import toy


def dimensions(*parts, **changes):
    named = {name.replace("__", "."): value for name, value in changes.items()}
    return space.dimensions(suite.replace(toy.experiment(), {"search": Search(space=parts), **named}))


def test_without_a_space_the_learning_rate_is_searched():
    (part,) = dimensions(optim__learning_rate=1e-2)
    assert (part.field, part.own, part.inside) == ("optim.learning_rate", 1e-2, True)
    assert part.values == Range(field="optim.learning_rate", low=1e-2 / 5, high=5e-2, log=True)
    assert str(part) == "optim.learning_rate: 0.002 to 0.05 (by factors)"


@pytest.mark.parametrize(
    "part, message",
    [
        (
            Range(field="optim.learning_rat", low=1, high=2),
            'field optim.learning_rat: "learning_rat" is no field here.\n  found: name, learning_rate,',
        ),
        (Range(field="model.depth", low=1, high=2), 'field model.depth: "depth" is no field here.'),
        (Range(field="optim", low=1, high=2), "field search.space, optim: is no number, so it has no range: Optim("),
        (
            Range(field="optim.learning_rate", low=1e-2, high=1e-3),
            "field search.space, optim.learning_rate: has no range from 0.01 to 0.001.\n  try:   low less than high",
        ),
        (
            Range(field="optim.learning_rate", low=0, high=math.inf),
            "field search.space, optim.learning_rate: has no range from 0 to inf.\n  try:   low less than high",
        ),
        (
            Range(field="optim.learning_rate", low=0, high=1, log=True),
            "field search.space, optim.learning_rate: cannot be searched by factors from 0.\n"
            "  try:   low above 0, or log=False",
        ),
        (
            Range(field="train.batch_size", low=8, high=64),
            "field search.space, train.batch_size: is a whole number: 16.\n"
            '  try:   Range(field="train.batch_size", whole=True, ...)',
        ),
        (
            Range(field="train.batch_size", low=8.5, high=64, whole=True),
            "field search.space, train.batch_size: has whole numbers only, and runs from 8.5 to 64.\n"
            "  try:   whole bounds",
        ),
        (
            Range(field="optim.schedule", low=0, high=1),
            "field search.space, optim.schedule: is no number, so it has no range: 'cosine'.\n"
            "  found: one of 'cosine', 'linear', 'constant'\n"
            '  try:   Choice(field="optim.schedule", among=(...))',
        ),
        (
            Range(field="parallel.sequence", low=0, high=1),
            "field search.space, parallel.sequence: is no number, so it has no range: False.\n  found: bool\n"
            '  try:   Choice(field="parallel.sequence", among=(...))',
        ),
        (
            Choice(field="optim.schedule", among=("cosine", "cosin")),
            "field search.space, optim.schedule: cannot be 'cosin'.\n"
            "  found: one of 'cosine', 'linear', 'constant'\n  try:   values like its own, 'cosine'",
        ),
        (
            Choice(field="train.batch_size", among=(16, "32")),
            "field search.space, train.batch_size: cannot be '32'.\n  found: int\n  try:   values like its own, 16",
        ),
        (
            Choice(field="train.batch_size", among=(True,)),
            "field search.space, train.batch_size: cannot be True.\n  found: int\n  try:   values like its own, 16",
        ),
        (
            Choice(field="pipeline.buckets", among=((6, 12), (6, "12"))),
            "field search.space, pipeline.buckets: cannot be (6, '12').\n"
            "  found: one of tuple[int, ...], collections.abc.Mapping[str, tuple[int, ...]]\n"
            "  try:   values like its own, (6, 12)",
        ),
        (
            Choice(field="train.batch_size", among=()),
            "field search.space, train.batch_size: has no values to choose from.\n  try:   among=(1, 2)",
        ),
        (Choice(field="train.ema", among=(0, 0.0, 0.9)), "field search.space, train.ema: has the value 0.0 twice."),
        (
            Choice(field="goal.metric", among=("accuracy", "loss")),
            "field search.space, goal.metric: says what the search is for, so no search changes it.",
        ),
        (
            Range(field="search.seed", low=0, high=9, whole=True),
            "field search.space, search.seed: says what the search is for, so no search changes it.",
        ),
    ],
)
def test_what_is_refused(part, message):
    with pytest.raises(InputError) as error:
        dimensions(part, **({"goal": suite.load("vision.digits_dnn").goal} if part.field.startswith("goal") else {}))
    assert str(error.value).startswith(message), str(error.value)


def test_an_unknown_field_names_the_nearest():
    with pytest.raises(InputError) as error:
        dimensions(Range(field="optim.learning_rat", low=1, high=2))
    assert error.value.fix == "optim.learning_rate"


def test_a_field_is_searched_once():
    part = Choice(field="train.batch_size", among=(8, 16))
    with pytest.raises(InputError) as error:
        dimensions(part, part)
    assert str(error.value) == (
        "field search.space, train.batch_size: is there twice.\n  try:   one Range or Choice a field"
    )


@pytest.mark.parametrize(
    "part, inside",
    [
        (Range(field="optim.learning_rate", low=1e-3, high=1e-2), True),
        (Range(field="optim.learning_rate", low=1e-3, high=9e-3), False),
        (Range(field="train.batch_size", low=8, high=32, whole=True), True),
        (Range(field="train.epochs", low=1, high=3, whole=True), True),
        (Choice(field="train.batch_size", among=(8, 32)), False),
        (Choice(field="train.epochs", among=(1, 2)), True),
        (Choice(field="pipeline.buckets", among=((), (6, 12))), True),
        (Choice(field="finetune.kind", among=("full", "lora")), True),
    ],
)
def test_a_value_of_the_recipe_may_lie_outside(part, inside):
    (made,) = dimensions(part)
    assert made.inside == inside


def test_values_go_through_the_database_and_back():
    """Of a float 1 and 1.0 are one value; tuples are tuples again."""
    floats, tuples, whole = dimensions(
        Choice(field="train.epochs", among=(1, 2.5)),
        Choice(field="pipeline.buckets", among=((), (6, 12))),
        Range(field="train.batch_size", low=8, high=32, whole=True),
    )
    assert floats.labels == ("1.0", "2.5") and floats.stored == "1.0" and floats.read("2.5") == 2.5
    assert tuples.labels == ("[]", "[6, 12]") and tuples.read("[6, 12]") == (6, 12)
    assert whole.stored == 16 and whole.read(20) == 20
