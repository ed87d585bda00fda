"""Inspection of a dataset, split by split: counts, balance, sizes, dropped records, duplicates, samples."""

import hashlib
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import numpy as np

from suite.contracts.data import Source
from suite.contracts.kinds import KINDS
from suite.data import measures
from suite.data.notes import listed
from suite.data.preprocessing.columns import file_names
from suite.data.preprocessing.image import decode, examine
from suite.data.preprocessing.text import clean_mask
from suite.data.reading import IMAGES
from suite.data.sources.memory import NAMED, SPLITS, LeftOut, evenly_spaced
from suite.errors import InputError

CHUNK = 1000
"""Records read at a time."""


def inspect(opener: Callable[[str], Source], most: int = 0, labels: Collection[str] = ()) -> dict[str, Any]:
    """A report on all splits.

    Args:
        opener: split -> records, such as ``Data.open`` or ``Task.source``.
        most: records of a split that are looked at, evenly spaced; 0: all.
        labels: columns that hold labels, besides those whose kind or name says so.

    Returns:
        ``splits``: split -> ``count``, ``looked_at``, ``columns``, ``classes``, ``lengths``, ``sizes``, ``ranges``,
        ``recordings``, ``boxes``, ``dropped``, ``dropped_names``, ``notes``, ``broken``, ``broken_names``,
        ``duplicates``, ``conflicts``, ``samples``, or ``missing``: why it cannot be opened; ``shared``: pairs of splits
        -> records of the latter whose content occurs in the former. All counts but ``count`` and ``dropped`` are of the
        records that were looked at. ``duplicates`` are equal in all columns but the name of the file; ``conflicts`` are
        records whose content is that of another with another label, content being texts and files, or, where there are
        none, all columns but labels.
    """
    splits: dict[str, Any] = {}
    hashes: dict[str, Counter[bytes]] = {}
    for split in SPLITS:
        try:
            source = opener(split)
        except InputError as error:
            splits[split] = {"missing": str(error)}
            continue
        splits[split], hashes[split] = _split_report(source, most, labels)
    names = list(hashes)
    pairs = [(first, second) for place, first in enumerate(names) for second in names[place + 1 :]]
    return {"splits": splits, "shared": {f"{a}/{b}": _common(hashes[a], hashes[b]) for a, b in pairs}}


def _common(first: Counter[bytes], second: Counter[bytes]) -> int:
    return sum(count for key, count in second.items() if key in first)


def _split_report(source: Source, most: int, named: Collection[str]) -> tuple[dict[str, Any], Counter[bytes]]:
    """The report on one split, and the hash of each record's content with its count."""
    places = evenly_spaced(source, most or len(source))
    looked = len(places)
    schema = source.schema
    known = {name: KINDS[kind] for name, kind in schema.items() if kind in KINDS and name != "file"}
    labels: dict[str, Counter[str]] = {
        name: Counter() for name in schema if name in named or _is_label(name, schema[name])
    }
    content = [name for name, kind in known.items() if kind.textual or kind.file]
    features = [name for name in schema if name not in labels and name != "file"] or list(schema)
    compared = [name for name in content if name in features and _says_all(source, name)] or features
    content = content or list(schema)
    words: dict[str, list[int]] = {name: [] for name in content if schema[name] == "text"}
    sizes: dict[str, Counter[str]] = {name: Counter() for name in content if schema[name] == "image"}
    ranges = {name: measures.Range() for name, kind in schema.items() if kind in measures.NUMBERS}
    spoken = {name: measures.Recordings() for name, kind in schema.items() if kind == "audio"}
    boxed = {name: measures.Boxes() for name, kind in schema.items() if kind == "boxes"}
    broken = LeftOut()
    hashes: Counter[bytes] = Counter()
    rows: Counter[bytes] = Counter()
    labelled: dict[bytes, Counter[bytes]] = {}
    for start in range(0, looked, CHUNK):
        chunk = places[start : start + CHUNK]
        columns = source[chunk]
        inputs = content_hashes([columns[name] for name in compared])
        hashes.update(inputs)
        rows.update(content_hashes([columns[name] for name in schema if name != "file" or len(schema) == 1]))
        for record, label in zip(inputs, _labels([columns[name] for name in labels], len(inputs)), strict=True):
            labelled.setdefault(record, Counter())[label] += 1
        for name, counter in labels.items():
            counter.update(_names(columns[name], source.classes.get(name)))
        for name, lengths in words.items():
            lengths.extend(len(str(text).split()) for text in columns[name] if text is not None)
            for reason, count in clean_mask(columns[name])[1].items():
                if count:
                    broken.add(f"{reason} {name}", count=count)
        for name, counter in sizes.items():
            shapes, faults = _sizes(columns[name])
            counter.update(shapes)
            _add_named(broken, source, name, chunk, faults)
        for name, numbers in ranges.items():
            numbers.add(columns[name])
        for name, recorded in spoken.items():
            _add_named(broken, source, name, chunk, recorded.add(columns[name]))
        for name, boxes in boxed.items():
            boxes.add(columns[name])
    report = {
        "count": len(source),
        "looked_at": looked,
        "columns": dict(schema),
        "classes": {
            name: dict(counter.most_common(100))
            for name, counter in labels.items()
            if len(counter) <= _most_classes(schema[name], looked)
        },
        "lengths": {name: _spread(lengths) for name, lengths in words.items() if lengths},
        "sizes": {name: dict(counter.most_common(5)) for name, counter in sizes.items()},
        "ranges": {name: measure.summary() for name, measure in ranges.items() if name not in labels},
        "recordings": {name: measure.summary() for name, measure in spoken.items()},
        "boxes": {name: measure.summary() for name, measure in boxed.items()},
        "dropped": dict(source.dropped),
        "dropped_names": dict(source.dropped_names),
        "notes": list(source.notes),
        "broken": broken.counts,
        "broken_names": broken.names,
        "duplicates": sum(rows.values()) - len(rows),
        "conflicts": sum(sum(counts.values()) for counts in labelled.values() if len(counts) > 1),
        "samples": _samples(source),
    }
    return report, hashes


WORDS = 3
"""Words above which, on average, a column of texts says all of a record, and is no category."""


def _says_all(source: Source, name: str) -> bool:
    """Whether two records are the same where this column is: files and whole texts, not categories."""
    if source.schema[name] != "text":
        return True
    texts = source.column(name, np.arange(min(len(source), CHUNK)))
    words = [len(str(text).split()) for text in texts if text is not None and not isinstance(text, list)]
    return bool(words) and sum(words) > WORDS * len(words)


def _labels(columns: Sequence[Any], count: int) -> list[bytes]:
    return content_hashes(columns) if columns else [b""] * count


def _is_label(name: str, kind: str) -> bool:
    return kind == "class" or name in ("label", "labels", "class", "target")


def _most_classes(kind: str, count: int) -> int:
    """Distinct values above which a column is not taken for classes: one called target may hold sentences."""
    return 1000 if kind == "class" else min(1000, max(20, count // 2))


def _names(values: Any, names: list[str] | None) -> list[str]:
    """Values as text, positions as the class names they stand for."""
    plain = values.tolist() if isinstance(values, np.ndarray) else values
    if names is None:
        return [str(value) for value in plain]
    return [names[value] if isinstance(value, int) and 0 <= value < len(names) else str(value) for value in plain]


def content_hashes(columns: Sequence[Any]) -> list[bytes]:
    """A hash (12 bytes) of each record's content, from its columns."""
    return [
        hashlib.blake2b(b"\x1f".join(map(_content, row)), digest_size=12).digest() for row in zip(*columns, strict=True)
    ]


def _content(value: Any) -> bytes:
    """Bytes that two values share where they are equal. An image given by its path is what the file holds."""
    if isinstance(value, np.ndarray | np.generic):
        return np.ascontiguousarray(value).tobytes()
    if isinstance(value, bytes):
        return value
    text = str(value)
    if text.lower().endswith(IMAGES):
        try:
            with open(text, "rb") as file:
                return file.read()
        except OSError:
            return text.encode("utf-8", "surrogatepass")
    return text.encode("utf-8", "surrogatepass")


def _add_named(broken: LeftOut, source: Source, name: str, places: np.ndarray, faults: Mapping[int, str]) -> None:
    """Count what is wrong with the files of a column, and name the first records of each reason.

    Args:
        broken: takes them in.
        source: the records.
        name: of the column.
        places: of the records that were looked at.
        faults: position among ``places`` -> reason.
    """
    named = file_names(source, name)
    for position, reason in faults.items():
        more = len(broken.names.get(reason, ())) < NAMED
        broken.add(reason, named(places[position : position + 1])[0] if more else "")


def _sizes(images: Any) -> tuple[Counter[str], dict[int, str]]:
    """Image shapes as height x width x channels; and place -> why an image cannot be decoded."""
    if isinstance(images, np.ndarray) and images.ndim > 2:
        return Counter({"x".join(map(str, images.shape[1:])): len(images)}), {}
    counter: Counter[str] = Counter()
    faults: dict[int, str] = {}
    for place, image in enumerate(images):
        try:
            counter["x".join(map(str, decode(image).shape))] += 1
        except InputError:
            faults[place] = examine(image)[0] or "broken image"
    return counter, faults


def _spread(lengths: list[int]) -> dict[str, int]:
    low, middle, most, high = np.percentile(lengths, [0, 50, 95, 100], method="inverted_cdf").astype(int).tolist()
    return {"min": low, "median": middle, "95%": most, "max": high}


def _samples(source: Source) -> list[dict[str, str]]:
    """Three records, evenly spaced, each value as a short text."""
    places = evenly_spaced(source, 3)
    columns = source[places]
    shown = {name: _shown(values, source.classes.get(name)) for name, values in columns.items()}
    return [{name: values[place] for name, values in shown.items()} for place in range(len(places))]


def _shown(values: Any, names: list[str] | None) -> list[str]:
    if isinstance(values, np.ndarray) and values.ndim > 1:
        return [f"{values.dtype} {'x'.join(map(str, values.shape[1:]))}"] * len(values)
    if any(isinstance(value, bytes) for value in values):
        return [f"{len(value)} bytes" for value in values]
    texts = [" ".join(text.split()) for text in _names(values, names)]
    return [text if len(text) <= 100 else text[:97] + "..." for text in texts]


def render(report: dict[str, Any]) -> str:
    """The report as text for a terminal."""
    lines: list[str] = []
    shared = _shared([part for part in report["splits"].values() if "count" in part])
    if shared:
        lines += ["all splits together:", *(f"  {line}" for line in shared)]
    for split, part in report["splits"].items():
        lines.extend([f"{split}: {part['count']:,} records"] if "count" in part else [f"{split}: not there"])
        body = _missing(part["missing"]) if "missing" in part else _body(part)
        lines.extend(line for line in body if line.strip() not in shared)
    for pair, count in report["shared"].items():
        first, second = pair.split("/")
        lines.append(f"records of {second} that are also in {first}: {count:,}")
    return "\n".join(lines)


def _shared(parts: Sequence[dict[str, Any]]) -> list[str]:
    """Notes and counts of what was left out that are of all records, since each of several splits has the same."""
    if len(parts) < 2:
        return []
    notes = [note for note in parts[0]["notes"] if all(note in part["notes"] for part in parts)]
    left = [(part["dropped"], part["dropped_names"]) for part in parts]
    counted = parts[0]["dropped"] and all(one == left[0] for one in left)
    return notes + ([_counts("dropped", parts[0])] if counted else [])


def _missing(message: str) -> list[str]:
    return ["  " + line for line in message.splitlines()]


def _body(part: dict[str, Any]) -> list[str]:
    lines = [f"  columns: {', '.join(f'{name} ({kind})' for name, kind in part['columns'].items())}"]
    lines.extend(f"  {note}" for note in part["notes"])
    for name, counts in part["classes"].items():
        total = max(sum(counts.values()), 1)
        few = [(" ".join(value.splitlines()) or "(empty)", count) for value, count in list(counts.items())[:20]]
        shares = ", ".join(f"{value} {count:,} ({count / total:.1%})" for value, count in few)
        lines.append(f"  {name}: {shares}")
    for name, spread in part["lengths"].items():
        lines.append(f"  {name}, words: {', '.join(f'{key} {value}' for key, value in spread.items())}")
    for name, sizes in part["sizes"].items():
        lines.append(f"  {name}, sizes: {', '.join(f'{size} ({count:,})' for size, count in sizes.items())}")
    lines.extend(f"  {measures.render_range(name, about)}" for name, about in part["ranges"].items())
    for name, about in part["recordings"].items():
        lines.extend(f"  {line}" for line in measures.render_recordings(name, about))
    for name, about in part["boxes"].items():
        lines.extend(f"  {line}" for line in measures.render_boxes(name, about))
    lines.extend(f"  {_counts(title, part)}" for title in ("dropped", "broken"))
    lines.append(f"  exact duplicates: {part['duplicates']:,}")
    if part["conflicts"]:
        lines.append(f"  records whose content occurs with another label: {part['conflicts']:,}")
    lines.extend(f"  e.g. {', '.join(f'{name}={value}' for name, value in row.items())}" for row in part["samples"])
    return lines


def _counts(title: str, part: dict[str, Any]) -> str:
    """The ``dropped`` or ``broken`` records of a split by reason, the first few named."""
    names = part[f"{title}_names"]
    counts = [
        f"{reason} {count:,}" + (f" ({listed(names[reason], count)})" if names.get(reason) else "")
        for reason, count in part[title].items()
    ]
    return f"{title}: {', '.join(counts) or 'none'}"
