"""One self-contained HTML file: sections, figures, plotly.js inside, nothing fetched from anywhere."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING

from heartstrings.core.version import __version__
from heartstrings.report import palette
from heartstrings.report.markup import Child, Html, el, escape, join, json_for_script

if TYPE_CHECKING:
    import plotly.graph_objects as go


@dataclass(frozen=True)
class Figure:
    """A plot with what a reader needs beside it.

    Args:
        key: name in the page, letters and hyphens.
        title: heading of the figure.
        views: (button label, plot) pairs; buttons appear when there is more than one.
        caption: what to see in it.
        alt: what a reader who cannot see it should know.
        height, narrow_height: CSS pixels on wide and on narrow screens.
    """

    key: str
    title: str
    views: tuple[tuple[str, go.Figure], ...]
    caption: Child
    alt: str
    height: int = 400
    narrow_height: int = 340
    classes: str = ""

    def html(self) -> Html:
        buttons = None
        if len(self.views) > 1:
            buttons = el(
                "div",
                [
                    el(
                        "button",
                        label,
                        type="button",
                        data_target=self.key,
                        data_view=number,
                        aria_pressed="true" if number == 0 else "false",
                    )
                    for number, (label, _) in enumerate(self.views)
                ],
                class_="views",
                role="group",
                aria_label=f"Views of: {self.title}",
            )
        return el(
            "figure",
            el("div", el("h3", self.title, id=f"{self.key}-title"), buttons, class_="figure-head"),
            el(
                "div",
                class_="plot",
                id=self.key,
                role="img",
                aria_label=self.alt,
                style=f"--height:{self.height}px;--narrow-height:{self.narrow_height}px",
            ),
            el("figcaption", self.caption),
            class_=("figure " + self.classes).strip(),
            aria_labelledby=f"{self.key}-title",
        )

    def spec(self) -> dict[str, object]:
        return {
            "height": self.height,
            "narrowHeight": self.narrow_height,
            "views": [json.loads(str(plot.to_json())) for _, plot in self.views],
        }


@dataclass(frozen=True)
class Section:
    """A part of the page, with the anchor that the contents list points to."""

    key: str
    title: str
    body: Html
    figures: tuple[Figure, ...] = field(default=())

    def html(self) -> Html:
        return el("section", el("h2", self.title, id=self.key), self.body, aria_labelledby=self.key, class_="part")


def missing(what: str, why: str) -> Html:
    """Says that something is not there and why; never a zero, never an empty plot."""
    return el("p", el("strong", what), " ", why, class_="missing")


def assemble(*, title: str, header: Html, sections: Sequence[Section], footer: Html) -> str:
    """The whole document. Scripts are named by hash, so that no injected one would run."""
    figures = {figure.key: figure.spec() for section in sections for figure in section.figures}
    script = _asset("report.js")
    library = _plotly_js()
    policy = "; ".join(
        (
            "default-src 'none'",
            f"script-src {_hash(library)} {_hash(script)}",
            "style-src 'unsafe-inline'",
            "img-src data: blob:",
            "base-uri 'none'",
            "form-action 'none'",
        )
    )
    contents = el(
        "nav",
        el("ul", [el("li", el("a", section.title, href=f"#{section.key}")) for section in sections]),
        aria_label="Contents",
        class_="contents",
    )
    return Template(_asset("template.html")).substitute(
        title=escape(title),
        policy=policy,
        generator=escape(f"heartstrings {__version__}"),
        style=palette.css() + _asset("report.css"),
        header=header,
        contents=contents,
        main=join([section.html() for section in sections]),
        footer=footer,
        figures=json_for_script(figures),
        palette=json_for_script({"swap": palette.swap()}),
        plotly=library,
        script=script,
    )


def write(path: Path, text: str) -> Path:
    """Write beside the target and rename: a reader sees the old file or the new one, never a half."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(name, 0o644)
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    return path


def _asset(name: str) -> str:
    return resources.files("heartstrings.report").joinpath(name).read_text(encoding="utf-8")


@cache
def _plotly_js() -> str:
    from plotly.offline import get_plotlyjs

    # The library text stands inside <script>: the one sequence that could end it is cut in two.
    return str(get_plotlyjs()).replace("</script", "<\\/script")


def _hash(script: str) -> str:
    digest = hashlib.sha256(script.encode("utf-8")).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"
