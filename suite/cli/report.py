"""report, compare: what is told of runs, for people to read."""

from suite.cli.options import allow, no_more, split_options, word
from suite.errors import InputError


def report(arguments: list[str]) -> None:
    """suite report RUN [--split SPLIT] [--with RUN ...] [--to FILE] [--measure] [--allow PACKAGE]"""
    from suite.reporting.reports import report as write

    rest, beside = _repeated(arguments, "--with")
    options = split_options(rest, ("split", "to", "allow"), ("measure",))
    no_more(options.words[1:] + options.rest, "suite report RUN [--split test] [--with COMPRESSED_RUN] [--to FILE]")
    folder = word(options, "RUN", "the folder that suite train printed last")
    print(
        write(
            folder,
            options.named.get("split", ""),
            beside=beside,
            to=options.named.get("to", ""),
            measure="measure" in options.named,
            allow=allow(options),
        )
    )


def _repeated(arguments: list[str], flag: str) -> tuple[list[str], list[str]]:
    """Arguments without a flag that may be given several times, and its values."""
    rest: list[str] = []
    values: list[str] = []
    items = iter(arguments)
    for item in items:
        name, has_value, value = item.partition("=")
        if name != flag:
            rest.append(item)
            continue
        values.append(value if has_value else next(items, ""))
        if not values[-1]:
            raise InputError(f"flag {flag}", "needs a value.")
    return rest, values
