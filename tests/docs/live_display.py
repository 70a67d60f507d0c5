"""Makes the picture of the live table from a real terminal.

Run it with ``python -m tests.docs.live_display``.
"""

import io
import os
import re
import time
from itertools import groupby
from unittest import mock
from xml.etree import ElementTree

import pyte
from rich.console import Console
from rich.style import Style
from rich.terminal_theme import MONOKAI
from rich.text import Text

from moltin_jobs.testing import Simulator
from tests.cli.harness import FAILURE, Terminal

from .examples import ROOT

PICTURE = ROOT / "docs" / "_static" / "live-display.svg"
WIDTH, HEIGHT = 84, 10
JOB_SECONDS = 0.8
ERASED = "\x1b[2K"
DIM, GREY = "\x1b[2m", "\x1b[90m"
COLORS = {"default": None, "brightblack": "#a0a0a0"}

# Without the web fonts of rich's own template. {styles} and the rest are its fields.
TEMPLATE = """\
<svg class="rich-terminal" viewBox="0 0 {width} {height}" xmlns="http://www.w3.org/2000/svg">
    <style>
    .{unique_id}-matrix {{
        font-family: Menlo, Consolas, "DejaVu Sans Mono", monospace;
        font-size: {char_height}px;
        line-height: {line_height}px;
    }}
    .{unique_id}-title {{ font-size: 18px; font-family: sans-serif; }}
    {styles}
    </style>
    <defs>
    <clipPath id="{unique_id}-clip-terminal">
      <rect x="0" y="0" width="{terminal_width}" height="{terminal_height}" />
    </clipPath>
    {lines}
    </defs>
    {chrome}
    <g transform="translate({terminal_x}, {terminal_y})"
       clip-path="url(#{unique_id}-clip-terminal)">
    {backgrounds}
    <g class="{unique_id}-matrix">
    {matrix}
    </g>
    </g>
</svg>
"""


def record_wait() -> str:
    """Wait for five jobs on a pseudo-terminal, and return what was written to it."""
    with Simulator.in_thread(rate_limit=None) as store, Terminal(WIDTH, HEIGHT) as terminal:
        # The run time of a job that has ended makes the estimates of the others possible.
        store.add_job(duration=JOB_SECONDS)
        time.sleep(JOB_SECONDS)
        for number in range(1, 6):
            job_id = f"order-export-{number:02}"
            error = FAILURE if number == 2 else None
            store.add_job(job_id, duration=JOB_SECONDS, error=error)
        with mock.patch.dict(os.environ, store.environment):
            terminal.run("wait", "--all")
        return terminal.close()


def screen_during(written: str, title: str) -> pyte.Screen:
    """Return the screen at the last moment at which it showed a title."""
    end = written.index(ERASED, written.rindex(title))
    screen = pyte.Screen(WIDTH, HEIGHT)
    # pyte does not know dim text.
    pyte.Stream(screen).feed(written[:end].rstrip("\r").replace(DIM, GREY))
    return screen


def draw(screen: pyte.Screen) -> str:
    """Return an SVG of a screen."""
    console = Console(
        record=True, width=WIDTH, file=io.StringIO(), force_terminal=True, color_system="truecolor"
    )
    height = max(line for line in range(HEIGHT) if screen.display[line].strip()) + 1
    for line in range(height):
        cells = [screen.buffer[line][column] for column in range(WIDTH)]
        text = Text(no_wrap=True)
        for (color, is_bold), group in groupby(cells, key=lambda cell: (cell.fg, cell.bold)):
            style = Style(color=COLORS.get(color, color), bold=is_bold)
            text.append("".join(cell.data for cell in group), style)
        text.rstrip()
        console.print(text)
    return console.export_svg(
        title="moltin-jobs wait --all", theme=MONOKAI, code_format=TEMPLATE, unique_id="live"
    )


def lines_of(svg: str) -> list[str]:
    """Return the lines of text in a picture, without its title."""
    lines: dict[float, str] = {}
    for element in ElementTree.fromstring(svg).iter("{http://www.w3.org/2000/svg}text"):  # noqa: S314
        if "y" in element.attrib and "clip-path" in element.attrib:
            y = float(element.attrib["y"])
            lines[y] = lines.get(y, "") + (element.text or "").replace("\xa0", " ")
    return [re.sub(r" +", " ", line).strip() for line in lines.values() if line.strip()]


def make_picture() -> str:
    return draw(screen_during(record_wait(), "2 of 5 jobs ended"))


if __name__ == "__main__":
    PICTURE.write_text(make_picture(), encoding="utf-8")
