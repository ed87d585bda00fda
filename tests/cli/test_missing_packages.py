"""A package that is not installed is told in two lines, with the command that installs it, by every verb."""

import sys
import wave

import pytest

from suite import distribution
from suite.data import cache
from suite.data.sources import datasets
from suite.errors import InputError

NEEDED = {
    "sklearn": ("scikit-learn", "examples", "data inspect vision.digits_dnn"),
    "tyro": ("tyro", "", "plan vision.digits_dnn --train.steps 3"),
    "pyarrow": ("pyarrow", "", "data inspect --data rows.csv"),
    "sentencepiece": ("sentencepiece", "", "train text.encoder --smoke --data rows.csv --task.max_length 8"),
    "soundfile": ("soundfile", "speech", "train speech.classify --smoke --data sounds"),
    "optuna": ("optuna", "tune", "tune vision.digits_dnn --smoke"),
    "qwix": ("qwix", "compress", "run vision.digits_dnn --smoke --quantize int8"),
    "jinja2": ("jinja2", "report", "report nowhere"),
    "fastapi": ("fastapi", "serve", "serve nowhere"),
    "uvicorn": ("uvicorn", "serve", "serve nowhere"),
}
"""Module -> its package, the extra that brings it, and a command that needs it."""


@pytest.mark.parametrize("module", NEEDED)
def test_a_missing_package_is_told_in_two_lines(module, refused, tmp_path, monkeypatch):
    package, extra, line = NEEDED[module]
    rows = [f"text number {i},{'ab'[i % 2]}" for i in range(60)]
    (tmp_path / "rows.csv").write_text("\n".join(["text,label", *rows]) + "\n")
    for name in ("a", "b"):
        (tmp_path / "sounds" / name).mkdir(parents=True)
        for i in range(8):
            with wave.open(str(tmp_path / "sounds" / name / f"{i}.wav"), "wb") as sound:
                sound.setparams((1, 2, 8000, 0, "NONE", ""))
                sound.writeframes(bytes(range(200)) * 40)
    monkeypatch.chdir(tmp_path)
    datasets._digits.cache_clear()
    for loaded in [module, *(name for name in sys.modules if name.startswith(f"{module}."))]:
        monkeypatch.setitem(sys.modules, loaded, None)
    first, second = refused(*line.split()).splitlines()
    assert first.startswith(f"suite {' '.join(line.split()[:1])}") and f"package {package}: is needed" in first
    assert first.endswith("and not installed.")
    assert second == f"  try:   {distribution.install(extra)}"


def test_prepared_datasets_are_of_an_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)
    with pytest.raises(InputError) as error:
        cache.library()
    assert error.value.fix == distribution.install("tfds")


def test_what_the_suite_does_not_ask_for_is_no_advice():
    assert distribution.of_module("their.own") is None and distribution.of_module("suite.no_such") is None
    assert distribution.of_module("PIL.Image").where == "package pillow"


def test_the_name_of_the_package_is_never_advised():
    """``suite`` on the public index belongs to others."""
    root = distribution._ROOT
    texts = [*root.glob("*.md"), *root.glob("docs/**/*.md"), *root.glob("notebooks/*"), root / "pyproject.toml"]
    texts += [path for top in ("suite", "tasks", "configs", "scripts") for path in (root / top).rglob("*.py")]
    for path in texts:
        text = path.read_text(encoding="utf-8")
        for wrong in ("install suite", "install 'suite", 'install "suite', '"suite[', "'suite["):
            assert wrong not in text.replace("pip install suite` is", ""), f"{path} advises {wrong}"
