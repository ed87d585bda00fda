"""suite list: the recipes that come with the suite."""

from dataclasses import dataclass

from suite.cli.flags import Flags, Verb, word


@dataclass(frozen=True, kw_only=True)
class List(Flags):
    """Lists recipes with expected metric, time and data; those for your own data come first."""

    verb = "list"
    examples = ("suite list", "suite list vision")

    domain: str = word("DOMAIN", example="text", default="")
    """text, vision, speech or recommendation."""


def list_(given: List) -> None:
    from suite.experiment import recipes

    for entry in recipes.describe(given.domain):
        print(f"{entry['name']}\n    {entry['title']}")
        for key in ("data", "expected", "time"):
            print(f"    {key + ':':10}{entry.get(key, '')}")


VERB = Verb(List, list_)
