"""list, doctor, data inspect, plan: what can be known before a run."""

from suite.cli.options import no_more


def list_(arguments: list[str]) -> None:
    """suite list [text|vision|speech|recommendation]"""
    from suite.experiment import recipes

    no_more(arguments[1:], "suite list [DOMAIN]")
    for entry in recipes.describe(*arguments[:1]):
        print(f"{entry['name']}\n    {entry['title']}")
        for key in ("data", "expected", "time"):
            print(f"    {key + ':':10}{entry.get(key, '')}")
