"""Blocks as one HTML file that needs nothing beside it: no script, no asset, and a policy that lets none in."""

import base64
import hashlib
from pathlib import Path
from typing import Any

from suite.distribution import missing
from suite.errors import InputError
from suite.reporting.blocks import Page
from suite.runtime.files import write_text

HERE = Path(__file__).parent


def templates() -> Any:
    """The library of templates that a page is written with.

    Raises:
        InputError: it is not installed.
    """
    try:
        import jinja2
    except ImportError as error:
        raise missing("jinja2", "to write reports", "report") from error
    return jinja2


def render(page: Page) -> str:
    """The page as HTML. Every text in it is escaped.

    Raises:
        InputError: the package of the extra is missing.
    """
    jinja2 = templates()
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE), autoescape=True, undefined=jinja2.StrictUndefined
    )
    environment.filters["kind"] = lambda block: type(block).__name__
    environment.filters["tight"] = lambda text: text.replace(" %", "\N{NO-BREAK SPACE}%").replace(
        " = ", "\N{NO-BREAK SPACE}=\N{NO-BREAK SPACE}"
    )
    style = (HERE / "page.css").read_text(encoding="utf-8")
    html: str = environment.get_template("page.html").render(page=page, style=style, policy=policy(style))
    return html.encode("utf-8", "replace").decode("utf-8")  # JSON may have given half of a surrogate pair


def policy(style: str) -> str:
    """What a browser may load: this one style, and what lies within the page as data."""
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode("ascii")
    return (
        f"default-src 'none'; style-src 'sha256-{digest}'; img-src data:; media-src data:; base-uri 'none'; "
        "form-action 'none'"
    )


def write(page: Page, path: Path) -> None:
    """Write the page.

    Raises:
        InputError: the file cannot be written, or the package of the extra is missing.
    """
    text = render(page)
    try:
        write_text(path, text)
    except OSError as error:
        fix = "--to FILE in a folder that you may write"
        raise InputError(f'file "{path}"', "cannot be written.", found=str(error.strerror), fix=fix) from error
