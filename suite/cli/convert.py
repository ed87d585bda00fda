"""suite convert: weights as other libraries read them."""

from dataclasses import dataclass

from suite.cli.flags import Verb, flag, word
from suite.cli.shared_flags import Allowing
from suite.errors import InputError


@dataclass(frozen=True, kw_only=True)
class Convert(Allowing):
    """Writes weights as the library that they were published for reads them."""

    verb = "convert"
    examples = ("suite convert runs/reviews --to published/reviews", "suite convert runs/lora --to delta --delta")

    source: str = word("RUN|FOLDER|OWNER/NAME", example="runs/reviews", fix=examples[0])
    """Run folder, folder of published weights, or their name on the hub."""
    to: str = flag("", value="FOLDER", example="published/reviews", otherwise="must be given")
    """Folder that is written."""
    offline: bool = flag(False, otherwise="names on the hub are fetched")
    """Take published weights from the local cache only."""
    delta: bool = flag(False, otherwise="the whole model")
    """Write only what fine-tuning trained."""


def convert(given: Convert) -> None:
    from suite.runs import verbs

    if not given.to:
        raise InputError("flag --to", "is missing.", fix="--to published/mine")
    if given.delta:
        print(verbs.delta(given.source, given.to, given.allowed))
        return
    written = verbs.convert(given.source, given.to, offline=given.offline, allow=given.allowed)
    print(f"{written.format}: {written.tensors} tensors, {written.values:,} values")
    print(f"files: {', '.join(written.files)}")
    if written.left_out:
        print(f"left out: {', '.join(written.left_out)}")
    print(written.folder)


VERB = Verb(Convert, convert)
