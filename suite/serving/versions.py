"""One version of a model, while it answers."""

from dataclasses import dataclass
from types import TracebackType

from suite.bundles.bundle import Bundle
from suite.errors import closest
from suite.serving.endpoint import Endpoint
from suite.serving.errors import Refused
from suite.serving.snapshots import Copy


@dataclass(eq=False)
class Version:
    """One version of a model, from its first request to its last.

    Attributes:
        model: the name it is served under.
        bundle: what answers.
        endpoints: program -> what it is asked at.
        copy: the server's own copy of the bundle, so that nothing changes under a version that answers.
        card: the model card, in Markdown.
        users: requests that are being answered.
        retired: whether another version is in its place.
        stuck: why no more requests are taken: a batch has been computed for too long; empty where none has.
    """

    model: str
    bundle: Bundle
    endpoints: dict[str, Endpoint]
    copy: Copy
    card: str = ""
    users: int = 0
    retired: bool = False
    stuck: str = ""

    def __enter__(self) -> "Version":
        self.users += 1
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.users -= 1
        self._let_go()

    def retire(self) -> None:
        """No new request begins with it; when the last one has its answer, it is let go."""
        self.retired = True
        self._let_go()

    def _let_go(self) -> None:
        if self.retired and not self.users:
            self.close("this version is no longer served.")
            self.copy.remove()

    def endpoint(self, name: str) -> Endpoint:
        """What the program of that name is asked at.

        Raises:
            Refused: 404, there is none.
        """
        if name not in self.endpoints:
            nearest = closest(name[:100], self.endpoints) or ", ".join(self.endpoints)[:300]
            raise Refused(404, "unknown_program", f'{self.model} has no program "{name:.100}".', fix=nearest)
        return self.endpoints[name]

    def check_number(self, number: str) -> None:
        """Raises Refused: 404, another version than this one is asked for; empty: any will do."""
        if number and number != self.bundle.version:
            message = f'{self.model} is not served in version "{number:.100}".'
            raise Refused(404, "unknown_version", message, fix=self.bundle.version)

    def close(self, why: str) -> None:
        """Refuse what waits and what comes."""
        for endpoint in self.endpoints.values():
            endpoint.batcher.close(why)

    def look(self, most: float) -> str:
        """Sees whether a batch has been computed for longer than ``most`` seconds, and says since when."""
        oldest = max((endpoint.batcher.computing for endpoint in self.endpoints.values()), default=0.0)
        self.stuck = f"a batch has been computed for {oldest:.0f} s" if oldest > most else ""
        return self.stuck
