"""Draws the pictures of docs/concepts. Their curves are made up; nothing in them was measured.

    python scripts/draw_concepts.py            writes docs/concepts/*.svg

A picture has its colours from variables: by itself (on GitHub, in an editor) they follow the system's colour scheme,
within the site they follow the site's switch (docs/assets/site.css).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from pathlib import Path
from random import Random

FOLDER = Path(__file__).resolve().parents[1] / "docs" / "concepts"
LIGHT = (
    "--hs-ink:#1f2430;--hs-soft:#57606a;--hs-line:#8c959f;--hs-page:#ffffff;"
    "--hs-a:#0072b2;--hs-b:#d55e00;--hs-c:#00795c"
)
DARK = (
    "--hs-ink:#e6edf3;--hs-soft:#9da7b1;--hs-line:#6e7781;--hs-page:#161b22;"
    "--hs-a:#56b4e9;--hs-b:#ff9b57;--hs-c:#3ccf9f"
)
STYLE = (
    f"<style>.hs-figure{{{LIGHT}}}@media (prefers-color-scheme: dark){{.hs-figure{{{DARK}}}}}"
    '.hs-figure text{font:14px system-ui,-apple-system,"Segoe UI","DejaVu Sans",Arial,sans-serif;fill:var(--hs-ink)}'
    ".hs-figure .soft{fill:var(--hs-soft)}.hs-figure .strong{font-weight:700}</style>"
)
Point = tuple[float, float]


def text(x: float, y: float, words: str, *, anchor: str = "start", kind: str = "", colour: str = "") -> str:
    fill = f' style="fill:var(--hs-{colour})"' if colour else ""
    name = f' class="{kind}"' if kind else ""
    words = words.replace("&", "&amp;").replace("<", "&lt;")
    return f'<text x="{x:g}" y="{y:g}" text-anchor="{anchor}"{name}{fill}>{words}</text>'


def path(points: Iterable[Point], *, colour: str = "line", width: float = 2, dash: str = "", opacity: float = 1) -> str:
    way = " L ".join(f"{x:.1f} {y:.1f}" for x, y in points)
    dashes = f' stroke-dasharray="{dash}"' if dash else ""
    faint = f' stroke-opacity="{opacity:g}"' if opacity != 1 else ""
    return f'<path d="M {way}" fill="none" stroke="var(--hs-{colour})" stroke-width="{width:g}"{dashes}{faint}/>'


def arrow(start: Point, end: Point, *, colour: str = "ink", width: float = 2) -> str:
    angle = math.atan2(end[1] - start[1], end[0] - start[0])
    size = 5 + 2.5 * width
    neck = (end[0] - size * 0.8 * math.cos(angle), end[1] - size * 0.8 * math.sin(angle))
    sides = [(end[0] - size * math.cos(angle + turn), end[1] - size * math.sin(angle + turn)) for turn in (0.4, -0.4)]
    corners = " ".join(f"{x:.1f},{y:.1f}" for x, y in (end, *sides))
    return path((start, neck), colour=colour, width=width) + f'<polygon points="{corners}" fill="var(--hs-{colour})"/>'


def box(x: float, y: float, w: float, h: float, *, colour: str = "line", fill: str = "", opacity: float = 0.15) -> str:
    inside = f'fill="var(--hs-{fill})" fill-opacity="{opacity:g}"' if fill else 'fill="none"'
    edge = f'stroke="var(--hs-{colour})"' if colour else 'stroke="none"'
    return f'<rect x="{x:g}" y="{y:g}" width="{w:g}" height="{h:g}" rx="6" {inside} {edge} stroke-width="1.5"/>'


def dot(at: Point, *, colour: str = "line", r: float = 4, hollow: bool = False) -> str:
    fill = "none" if hollow else f"var(--hs-{colour})"
    edge = f'stroke="var(--hs-{colour})" stroke-width="1.5"'
    return f'<circle cx="{at[0]:.1f}" cy="{at[1]:.1f}" r="{r:g}" fill="{fill}" {edge}/>'


def picture(width: int, height: int, title: str, parts: list[str]) -> str:
    return (
        f'<svg class="hs-figure" xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" '
        f'height="{height}" role="img" aria-label="{title}">\n<title>{title}</title>\n{STYLE}\n'
        f'<rect x="0.5" y="0.5" width="{width - 1}" height="{height - 1}" rx="8" fill="var(--hs-page)" '
        'stroke="var(--hs-line)" stroke-opacity="0.5"/>\n' + "\n".join(parts) + "\n</svg>\n"
    )


def residual_stream() -> str:
    parts = [text(24, 34, "One token’s residual stream", kind="strong")]
    parts += [arrow((150, 372), (150, 52), colour="ink", width=3)]
    for block, y in ((0, 292), (1, 202), (2, 112)):
        parts += [
            box(250, y, 190, 60, fill="line"),
            text(345, y + 25, f"block {block}", anchor="middle", kind="strong"),
            text(345, y + 46, "attention, then MLP", anchor="middle", kind="soft"),
        ]
        parts += [path(((150, y + 48), (246, y + 48)), width=1.5), arrow((250, y + 12), (158, y + 12), width=1.5)]
        parts += [text(200, y + 6, "+", anchor="middle", kind="strong")]
    parts += [text(150, 396, "token embedding", anchor="middle", kind="soft")]
    parts += [dot((150, 188), colour="b", r=7), path(((157, 188), (520, 188)), colour="b", width=1.5, dash="5 4")]
    parts += [
        text(530, 180, "layer 1, site “block”:", kind="strong", colour="b"),
        text(530, 201, "the stream after block 1.", colour="b"),
        text(530, 222, "Read here, steer here.", colour="b"),
        text(530, 124, "Sites “attention” and “mlp”:", kind="soft"),
        text(530, 145, "the output of a sublayer, before “+”.", kind="soft"),
    ]
    parts += [text(100, 80, "to the", anchor="end", kind="soft"), text(100, 98, "next word", anchor="end", kind="soft")]
    return picture(
        820,
        416,
        "Three blocks add to the residual stream of a token; the site block is the stream after a block",
        parts,
    )


def contrast_vector() -> str:
    random = Random(5)
    parts: list[str] = []
    centres = {
        "joyful": (430, 110, "a"),
        "desperate": (170, 130, "b"),
        "calm": (390, 270, "c"),
        "sad": (150, 280, "line"),
    }
    for name, (x, y, colour) in centres.items():
        for _ in range(11):
            parts.append(dot((x + random.gauss(0, 24), y + random.gauss(0, 19)), colour=colour, r=3.5, hollow=True))
        parts.append(dot((x, y), colour=colour, r=7))
        above = y - 62 if name in ("joyful", "desperate") else y + 72
        parts.append(text(x, above, name, anchor="middle", kind="strong", colour="" if colour == "line" else colour))
    middle = (sum(x for x, _, _ in centres.values()) / 4, sum(y for _, y, _ in centres.values()) / 4)
    parts += [
        dot(middle, colour="ink", r=6),
        text(middle[0] - 4, middle[1] + 26, "mean over emotions", anchor="middle"),
    ]
    parts += [arrow(middle, (422, 116), colour="a", width=4)]
    parts += [
        dot((570, 80), r=3.5, hollow=True),
        text(586, 85, "one story"),
        dot((570, 110), r=7),
        text(586, 115, "mean of an emotion’s stories"),
        arrow((560, 146), (582, 138), colour="a", width=3),
        text(590, 147, "contrast vector of joyful:", colour="a"),
        text(590, 168, "its mean minus the mean", colour="a"),
        text(590, 189, "over emotions", colour="a"),
    ]
    parts += [
        text(562, 262, "Two of the many dimensions", kind="soft"),
        text(562, 283, "at one layer and site.", kind="soft"),
    ]
    return picture(
        820, 376, "Stories of four emotions as points, their means, and the contrast vector of joyful", parts
    )


def dose() -> str:
    parts = [text(24, 34, "What a dose adds", kind="strong"), text(470, 34, "What it changes", kind="strong")]
    parts += [
        arrow((60, 250), (290, 150), colour="ink", width=3),
        text(150, 182, "residual", anchor="end"),
        arrow((290, 150), (322, 88), colour="b", width=4),
        arrow((60, 250), (322, 88), colour="a", width=2),
    ]
    parts += [
        text(318, 132, "dose × norm", colour="b"),
        text(318, 152, "× unit direction", colour="b"),
        text(222, 98, "steered", anchor="end", colour="a"),
    ]
    parts += [
        text(24, 296, "norm: the mean length of the residual", kind="soft"),
        text(24, 317, "stream at this layer and site.", kind="soft"),
        text(24, 338, "Dose 0.1 adds a tenth of it.", kind="soft"),
    ]
    left, right, low, high = 520, 780, 290, 70
    parts += [path(((left, low), (right, low)), colour="line", width=1.5), path(((left, high), (left, low)), width=1.5)]
    for at in (-0.2, -0.1, 0, 0.1, 0.2):
        x = (left + right) / 2 + at * 550
        parts += [
            path(((x, low), (x, low + 5)), width=1.5),
            text(x, low + 24, f"{at:g}".replace("-", "−"), anchor="middle"),
        ]
        y = low - 110 - 90 * math.tanh(at * 9)
        parts += [dot((x, y), colour="a", r=5)]
    curve = [((left + right) / 2 + d / 100 * 550, low - 110 - 90 * math.tanh(d / 100 * 9)) for d in range(-22, 23)]
    parts += [path(curve, colour="a"), text((left + right) / 2, low + 48, "dose", anchor="middle")]
    parts += [
        text(left - 10, 120, "outcome", anchor="end"),
        text((left + right) / 2 + 8, low - 98, "unsteered", kind="soft"),
    ]
    return picture(
        820,
        360,
        "A dose adds a fraction of the mean residual norm along a unit direction; the outcome changes with the dose",
        parts,
    )


def _panel(x: float, title: str, direction: float, spread: float, verdict: str, seed: int) -> list[str]:
    random = Random(seed)
    middle, low, high, wide = x + 170, 270, 60, 135
    parts = [text(middle, 36, title, anchor="middle", kind="strong")]
    parts += [path(((middle - wide, low), (middle + wide, low)), width=1.5)]
    for _ in range(20):
        slope = random.gauss(0, spread)
        parts.append(
            path([(middle + at * wide, 165 - slope * at) for at in (-1, 1)], colour="line", width=1.3, opacity=0.8)
        )
    parts.append(path([(middle + at * wide, 165 - direction * at) for at in (-1, 1)], colour="a", width=4))
    parts += [
        text(middle - wide, low + 22, "−0.1", anchor="middle"),
        text(middle, low + 22, "0", anchor="middle"),
        text(middle + wide, low + 22, "0.1", anchor="middle"),
        text(middle, low + 46, verdict, anchor="middle"),
    ]
    parts += [path(((middle - wide, high), (middle - wide, low)), width=1.5)]
    return parts


def controls() -> str:
    parts = _panel(20, "No control goes as far", 92, 20, "none of 20: p = 1/21 = .048", 3)
    parts += _panel(430, "Several go as far", 55, 36, "some do as much: not specific to it", 8)
    parts += [
        path(((40, 352), (76, 352)), colour="a", width=4),
        text(86, 357, "the emotion’s direction"),
        path(((300, 352), (336, 352)), width=1.3),
        text(346, 357, "control directions, moved equally far"),
    ]
    return picture(
        820, 376, "Change of the outcome by dose along a direction and along 20 control directions, in two cases", parts
    )


QUESTIONS = (
    ("Enough samples, and does the model", "tell the options apart?", "no", "inconclusive"),
    ("Is every change too small", "to matter?", "yes", "encoded, does not control"),
    ("More than control directions and", "matched questions do?", "no", "moves, not specifically"),
    ("Do all limits hold at the smallest", "dose of one side?", "no", "controls, no safe range"),
)


def verdict() -> str:
    parts = []
    for at, (first, second, branch, answer) in enumerate(QUESTIONS):
        y = 24 + 92 * at
        parts += [
            box(40, y, 310, 60),
            text(195, y + 25, first, anchor="middle"),
            text(195, y + 46, second, anchor="middle"),
        ]
        parts += [
            arrow((350, y + 30), (476, y + 30), width=1.5),
            text(413, y + 22, branch, anchor="middle", kind="soft"),
        ]
        parts += [
            box(480, y + 8, 250, 44, colour="b", fill="b"),
            text(605, y + 35, answer, anchor="middle", kind="strong"),
        ]
        follow = "yes" if branch == "no" else "no"
        parts += [arrow((195, y + 60), (195, y + 90), width=1.5), text(207, y + 81, follow, kind="soft")]
    parts += [
        text(742, 142, "or not encoded", kind="soft"),
        text(40, 474, "Where the samples leave a question open, the answer is inconclusive.", kind="soft"),
        box(70, 394, 250, 44, colour="c", fill="c"),
        text(195, 421, "controls", anchor="middle", kind="strong"),
        text(345, 421, "with the range of doses in which every limit holds"),
    ]
    return picture(860, 492, "Four questions in order lead to one of six answers", parts)


def dose_range() -> str:
    left, right = 90, 560
    middle, wide = (left + right) / 2, (right - left) / 2

    def curve(shape: Callable[[float], float], low: float) -> list[Point]:
        return [(middle + at / 40 * wide, low - shape(at / 40)) for at in range(-40, 41)]

    parts = [box(middle - 0.5 * wide, 30, wide, 320, colour="", fill="c", opacity=0.16)]
    parts += [text(middle, 22, "dose range", anchor="middle", kind="strong", colour="c")]
    for name, low, shape, limit, colour in (
        ("outcome", 130, lambda d: 40 + 42 * math.tanh(2.2 * d), None, "a"),
        ("loss of accuracy", 235, lambda d: (70 if d < 0 else 30) * max(0, abs(d) - 0.45) ** 1.3 + 3, 24, "b"),
        ("rise of harm", 335, lambda d: 80 * max(0, d - 0.28) ** 1.2 + 4, 28, "b"),
    ):
        parts += [path(((left, low), (right, low)), width=1.5), path(curve(shape, low), colour=colour, width=3)]
        parts += [dot((middle + at * wide, low - shape(at)), colour=colour, r=5) for at in (-1, -0.5, 0, 0.5, 1)]
        parts += [text(right + 20, low - (30 if limit is None else 40), name, kind="strong", colour=colour)]
        if limit is not None:
            parts += [
                path(((left, low - limit), (right, low - limit)), colour="ink", width=1.3, dash="5 4"),
                text(right + 20, low - limit + 5, "limit", kind="soft"),
            ]
    for at, name in ((-1, "−0.2"), (-0.5, "−0.1"), (0, "0"), (0.5, "0.1"), (1, "0.2")):
        parts += [text(middle + at * wide, 374, name, anchor="middle")]
    parts += [
        text(right + 20, 374, "dose", kind="soft"),
        text(right + 20, 344, "over its limit at 0.2", kind="soft"),
        text(right + 20, 252, "over its limit at −0.2", kind="soft"),
    ]
    return picture(
        820,
        392,
        "Outcome, loss of accuracy and rise of harm by dose; the range ends where a limit no longer holds",
        parts,
    )


PICTURES: dict[str, Callable[[], str]] = {
    one.__name__: one for one in (residual_stream, contrast_vector, dose, controls, verdict, dose_range)
}

if __name__ == "__main__":
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, draw in PICTURES.items():
        (FOLDER / f"{name}.svg").write_text(draw(), encoding="utf-8")
