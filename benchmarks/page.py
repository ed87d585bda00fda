"""The page of speed: every measured ratio in one drawing, with its interval and its bar, and as a table.

    python -m benchmarks.page        # writes docs/speed.md and docs/images/speed.svg from benchmarks/results.jsonl

A line of results.jsonl is a case: its name, kind (training, inference, generation, data), date, ms of ours, ratio
(fastest peer's time over ours, median of the rounds) with low and high, the bar it should reach where there is one, the
fastest peer, the command, and a note. Of lines with the same case the last one counts, so a new figure is appended.
"""

import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import geometric_mean

from suite.reporting.svg import element

ROOT = Path(__file__).parent.parent
SOURCE, PAGE, DRAWING = ROOT / "benchmarks/results.jsonl", ROOT / "docs/speed.md", ROOT / "docs/images/speed.svg"
KINDS = {
    "training": "Training steps and loops",
    "inference": "Inference",
    "generation": "Generation, a token or a sample",
    "data": "Data",
}
WIDTH, LABELS, ROW, TOP, BOTTOM = 915, 455, 21, 26, 34
LOWEST, HIGHEST = 0.25, 20.0
TICKS = (0.25, 0.35, 0.5, 0.7, 1, 1.5, 2, 3, 5, 10, 20)
STYLE = """
text { font: 12px system-ui, sans-serif; fill: #1f2328; } .kind { font-weight: 600; } .tick { fill: #59636e; }
.grid { stroke: #d1d9e0; } .one { stroke: #1f2328; stroke-width: 1.5; } .bar { stroke: #9a6700; stroke-width: 2; }
.ahead { stroke: #1a7f37; fill: #1a7f37; } .behind { stroke: #cf222e; fill: #cf222e; }
.even { stroke: #59636e; fill: #59636e; }
svg { background: #ffffff; }
@media (prefers-color-scheme: dark) {
  svg { background: #0d1117; } text { fill: #f0f6fc; } .tick { fill: #9198a1; } .grid { stroke: #3d444d; }
  .one { stroke: #f0f6fc; } .bar { stroke: #d29922; } .ahead { stroke: #3fb950; fill: #3fb950; }
  .behind { stroke: #f85149; fill: #f85149; } .even { stroke: #9198a1; fill: #9198a1; }
}
"""


@dataclass(frozen=True, kw_only=True)
class Case:
    """One measured case: see the module's text."""

    case: str
    kind: str
    date: str
    ms: float
    ratio: float
    low: float
    high: float
    peer: str
    command: str
    bar: float = 0.0
    note: str = ""

    @property
    def verdict(self) -> str:
        """Whether all rounds were ahead of the peer, or behind it, or neither."""
        return "ahead" if self.low > 1 else "behind" if self.high < 1 else "even"


def read(path: Path = SOURCE) -> list[Case]:
    """The cases, the last line of each counting, by kind and in the order of the file."""
    last = {case.case: case for case in (Case(**json.loads(line)) for line in path.read_text().splitlines())}
    unknown = {case.kind for case in last.values()} - set(KINDS)
    if unknown:
        raise SystemExit(f"{path}: kind {sorted(unknown)[0]} is none of {', '.join(KINDS)}")
    return sorted(last.values(), key=lambda case: list(KINDS).index(case.kind))


def _across(ratio: float) -> float:
    """Where a ratio is, on a logarithmic scale."""
    share = math.log(min(max(ratio, LOWEST), HIGHEST) / LOWEST) / math.log(HIGHEST / LOWEST)
    return round(LABELS + share * (WIDTH - LABELS - 20), 1)


def drawing(cases: Sequence[Case]) -> str:
    """An SVG: a dot a case, its interval, its bar as a stroke, and a line at 1."""
    shown = [(kind, [case for case in cases if case.kind == kind]) for kind in KINDS]
    height = TOP + sum(ROW * (len(group) + 1.4) for _, group in shown if group) + BOTTOM
    parts = []
    for tick in TICKS:
        at = _across(tick)
        parts.append(element("line", x1=at, x2=at, y1=TOP, y2=height - BOTTOM, class_="one" if tick == 1 else "grid"))
    parts += [
        element("text", text=f"{tick:g}", x=_across(tick), y=height - BOTTOM + 16, text_anchor="middle", class_="tick")
        for tick in TICKS
    ]
    title = "fastest peer's time / ours: right of 1, ours is faster"
    parts.append(element("text", text=title, x=_across(1), y=height - 4, class_="tick"))
    y = float(TOP)
    for kind, group in shown:
        if not group:
            continue
        y += ROW
        parts.append(element("text", text=KINDS[kind], x=8, y=y, class_="kind"))
        for case in group:
            y += ROW
            middle = y - 4
            parts.append(element("text", text=case.case, x=LABELS - 10, y=y, text_anchor="end"))
            low, high = _across(case.low), _across(case.high)
            spread = element("line", x1=low, x2=high, y1=middle, y2=middle, class_=case.verdict, stroke_width=3)
            parts.append(spread)
            parts.append(element("circle", cx=_across(case.ratio), cy=middle, r=4.5, class_=case.verdict))
            if case.bar:
                at = _across(case.bar)
                parts.append(element("line", x1=at, x2=at, y1=middle - 8, y2=middle + 8, class_="bar"))
        y += 0.4 * ROW
    size = f"0 0 {WIDTH} {height:g}"
    whole = element("svg", element("style", text=STYLE), *parts, xmlns="http://www.w3.org/2000/svg", viewBox=size)
    return re.sub(r"(?<=>)(?=<(text|line|circle|style))", "\n", whole) + "\n"


def page(cases: Sequence[Case]) -> str:
    """The page, in Markdown."""
    lines = [
        "# Speed",
        "",
        "Written by `python -m benchmarks.page` from [results.jsonl](../benchmarks/results.jsonl). Each case ran",
        "beside its peers, each in a process of its own, in turn. The ratio is the fastest peer's time over ours, the",
        "median (and range) of the rounds. Hardware, versions and what lies behind single figures:",
        "[RESULTS.md](../benchmarks/RESULTS.md).",
        "",
        "[![Ratios of all cases with their ranges](images/speed.svg)](images/speed.svg)",
        "",
        "Green: ahead in every round; red: behind in every round; grey: neither. The yellow stroke is the bar that a",
        "case should reach.",
        "",
        "| kind | cases | geometric mean | ahead in every round | behind in every round | bar reached |",
        "|---|---|---|---|---|---|",
    ]
    for kind, name in KINDS.items():
        group = [case for case in cases if case.kind == kind]
        barred = [case for case in group if case.bar]
        counts = [sum(case.verdict == verdict for case in group) for verdict in ("ahead", "behind")]
        reached = f"{sum(case.ratio >= case.bar for case in barred)} of {len(barred)}"
        mean = geometric_mean(case.ratio for case in group)
        lines.append(f"| {name} | {len(group)} | {mean:.2f} | {counts[0]} | {counts[1]} | {reached} |")
    for kind, name in KINDS.items():
        lines += ["", f"## {name}", "", "| case | ours, ms | ratio | bar | fastest peer | date | command |"]
        lines.append("|---|---|---|---|---|---|---|")
        lines += [_row(case) for case in cases if case.kind == kind]
    return "\n".join(lines) + "\n"


def _row(case: Case) -> str:
    spread = f" ({case.low:g} to {case.high:g})" if case.high > case.low else ""
    note = f"; {case.note}" if case.note else ""
    bar = f"{case.bar:g}" if case.bar else ""
    ratio = f"{case.ratio:g}{spread}{note}"
    return f"| {case.case} | {case.ms:g} | {ratio} | {bar} | {case.peer} | {case.date} | `{case.command}` |"


def main() -> None:
    cases = read()
    DRAWING.write_text(drawing(cases))
    PAGE.write_text(page(cases))
    print(f"{PAGE}: {len(cases)} cases")


if __name__ == "__main__":
    main()
