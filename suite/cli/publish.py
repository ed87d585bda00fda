"""suite publish: a run or a bundle on the Hugging Face hub."""

from dataclasses import dataclass

from suite.cli.flags import Verb, flag, word
from suite.cli.shared_flags import Allowing


@dataclass(frozen=True, kw_only=True)
class Publish(Allowing):
    """Puts a run or a bundle on the Hugging Face hub, with a model card."""

    verb = "publish"
    examples = (
        "suite publish runs/reviews my-name/reviews --private",
        "suite publish bundles/reviews my-name/reviews --licence apache-2.0",
    )
    notes = (
        "Weights of a run are written as the library that they were published for reads them. Nothing else sends "
        "anything. Log in before: hf auth login."
    )

    source: str = word("RUN|BUNDLE", example="runs/reviews", fix="suite train text.classify --data reviews.csv")
    """Run folder, or bundle."""
    name: str = word("OWNER/NAME", example="my-name/reviews", fix=examples[0])
    """Name on the hub; a new one is made."""
    private: bool = flag(False, otherwise="a new name is public")
    """Let nobody but the owner see a new name."""
    licence: str = flag("", value="NAME", example="apache-2.0", otherwise="the bundle's own, or none")
    """Licence under which the model may be used, by the hub's name."""
    sign: str = flag("", value="KEY", example="key.pem", otherwise="a bundle is sent as it is")
    """File of the private key that a bundle is signed with."""


def publish(given: Publish) -> None:
    from suite.workflow import publishing

    sent = publishing.publish(
        given.source, given.name, private=given.private, licence=given.licence, allow=given.allowed, sign=given.sign
    )
    print(f"files: {', '.join(sent.files)}")
    print(sent.address)


VERB = Verb(Publish, publish)
