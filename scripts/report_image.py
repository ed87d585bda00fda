"""The image in README: the top of the report of a real run, drawn by Chromium.

command:  python scripts/report_image.py [--recipe vision.fashion_mnist_dnn] [--to docs/images/report.webp]
Needs the recipe's data, and the packages of the extras report and test.
"""

import argparse
import contextlib
import io
import tempfile
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

import suite

CHROMIUM = "/usr/bin/chromium"


def main() -> None:
    """Train the recipe, write its report, and save its top as WebP."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", default="vision.fashion_mnist_dnn", help="dotted name (default: %(default)s)")
    parser.add_argument("--to", type=Path, default=Path("docs/images/report.webp"), help="file (default: %(default)s)")
    parser.add_argument("--height", type=int, default=1380, help="CSS pixels of the page that are kept")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        run = suite.train(suite.load(options.recipe), Path("runs") / options.recipe.rpartition(".")[2])
        picture = screenshot(suite.report(run.folder, "test"), options.height)
    options.to.parent.mkdir(parents=True, exist_ok=True)
    picture.save(options.to, quality=80, method=6)
    print(f"{options.to}: {picture.width} x {picture.height}, {options.to.stat().st_size:,} bytes")


def screenshot(page: Path, height: int, width: int = 1100) -> Image.Image:
    """The first ``height`` pixels of a page as an image."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        tab = browser.new_page(viewport={"width": width, "height": height})
        tab.goto(page.resolve().as_uri())
        drawn = tab.screenshot()
        browser.close()
    return Image.open(io.BytesIO(drawn)).convert("RGB")


if __name__ == "__main__":
    main()
