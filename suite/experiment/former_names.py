"""Former names: where the classes and fields that experiments and bundles of version 0.1 name stand now."""

from collections.abc import Mapping
from typing import Any

FORMER_PACKAGES = {"tasks": "suite.tasks", "configs": "suite.configs"}
"""Packages that moved whole: former name -> name."""

FORMER_MODULES = {
    "suite.compression.distillation": "suite.surgery.teacher",
    "suite.compression.settings": "suite.experiment.compression",
    "suite.config": "suite.experiment.sections",
    "suite.data.audio": "suite.data.preprocessing.audio",
    "suite.data.characters": "suite.data.preprocessing.characters",
    "suite.data.files": "suite.data.sources.files",
    "suite.data.image": "suite.data.preprocessing.image",
    "suite.data.labels": "suite.data.preprocessing.labels",
    "suite.data.parallel": "suite.data.sources.parallel_text",
    "suite.data.running": "suite.data.sources.running_text",
    "suite.data.sampling": "suite.data.sources.sampling",
    "suite.data.sources": "suite.data.sources.datasets",
    "suite.data.speech_sources": "suite.data.sources.speech",
    "suite.data.speech_text": "suite.data.preprocessing.transcripts",
    "suite.data.tabular": "suite.data.preprocessing.tabular",
    "suite.data.tabular_clicks": "suite.data.sources.clicks",
    "suite.data.tabular_schema": "suite.data.preprocessing.tabular_schema",
    "suite.data.text": "suite.data.preprocessing.text",
    "suite.data.tokenizers": "suite.data.preprocessing.tokenizers",
    "suite.data.trees": "suite.data.sources.folders",
    "suite.generation": "suite.decoding.generation",
    "suite.nn.spectral": "suite.nn.audio.spectral",
    "suite.tasks.speech.features": "suite.tasks.audio_features",
}
"""Modules that moved whole: former name -> name."""

FORMER_CLASSES = {
    "suite.data.sources.events.ItemLists": "suite.data.sources.item_lists.ItemLists",
    "suite.config.Compression": "suite.experiment.compression.Compression",
    "suite.config.Budget": "suite.experiment.goal.Budget",
    "suite.config.Range": "suite.experiment.goal.Range",
    "suite.config.Choice": "suite.experiment.goal.Choice",
    "suite.config.Search": "suite.experiment.goal.Search",
    "suite.config.Goal": "suite.experiment.goal.Goal",
    "suite.config.Experiment": "suite.experiment.sections.Experiment",
    "suite.data.audio.AudioFeatures": "suite.tasks.audio_features.AudioFeatures",
    "suite.data.preprocessing.audio.AudioFeatures": "suite.tasks.audio_features.AudioFeatures",
}
"""Classes of modules that were split: former name -> name."""

FORMER_FIELDS = {"train.accumulate": "gradient.accumulate"}
"""Fields of an experiment that moved to another section: former dotted name -> dotted name."""

FORMER_DEFAULTS: dict[str, dict[str, Any]] = {
    "suite.data.sources.files.Table": {"stratify": "", "rules": 1},
    "suite.data.sources.files.ArrayFile": {"stratify": ""},
    "suite.data.sources.files.Folder": {"stratify": False},
    "suite.data.sources.speech.AudioManifest": {"stratify": ""},
    "suite.data.preprocessing.image.PixelStatistics": {"background": ""},
    "suite.data.preprocessing.transcripts.Characters": {"marks": False},
    "suite.data.preprocessing.transcripts.Pieces": {"marks": False},
}
"""Class -> fields that stored experiments of before lack, with the values by which they mean what they did."""

NEW_SECTIONS = {"gradient": "suite.experiment.mean_gradient.Mean"}
"""Sections that stored experiments of before lack: name -> class of the section that a former field belongs to."""


def current_field(name: str) -> str:
    """The dotted name that an experiment's field ``name`` has now."""
    return FORMER_FIELDS.get(name, name)


def current_sections(stored: Mapping[str, Any]) -> dict[str, Any]:
    """A stored experiment, a dict of sections as JSON, with the values of former fields under their present names."""
    sections = dict(stored)
    for former, name in FORMER_FIELDS.items():
        (source, field), (target, new) = former.split("."), name.split(".")
        if field in (sections.get(source) or {}):
            sections[source] = {key: value for key, value in sections[source].items() if key != field}
            fresh = sections.get(target) or {"class": NEW_SECTIONS[target]}
            sections[target] = {new: stored[source][field], **fresh}
    return sections


def current_name(name: str) -> str:
    """The dotted name that the class ``name`` has now; names that are not former ones are returned as they are."""
    if name in FORMER_CLASSES:
        return FORMER_CLASSES[name]
    module, _, kind = name.rpartition(".")
    if module in FORMER_MODULES:
        return f"{FORMER_MODULES[module]}.{kind}"
    package, _, rest = name.partition(".")
    return f"{FORMER_PACKAGES[package]}.{rest}" if package in FORMER_PACKAGES and rest else name
