"""report, compare: what is told of runs, for people to read."""

from pathlib import Path

from suite.cli.options import allow, no_more, split_options
from suite.errors import InputError


def compare(arguments: list[str]) -> None:
    """suite compare RUN RUN ... [--split SPLIT] [--metric NAME] [--against first|best] [--to FILE] [--allow PACKAGE]"""
    from suite.reporting.comparisons import compare as judge
    from suite.reporting.side_by_side import render, save

    options = split_options(arguments, ("split", "metric", "against", "to", "allow"))
    no_more(options.rest, "suite compare RUN RUN ... [--split test] [--metric accuracy] [--to FILE]")
    against = options.named.get("against", "first")
    if against not in ("first", "best"):
        raise InputError(f'--against "{against}"', "is neither first nor best.", fix="--against best")
    comparison = judge(
        options.words,
        options.named.get("split", ""),
        metric=options.named.get("metric", ""),
        against="best" if against == "best" else "first",
        allow=allow(options),
    )
    print(render(comparison))
    if "to" in options.named:
        save(comparison, Path(options.named["to"]))
        print(options.named["to"])
