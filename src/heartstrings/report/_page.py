"""One self-contained HTML file from a template: figures and plotly.js inside, nothing fetched from anywhere."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import os
import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from heartstrings.core.version import __version__
from heartstrings.report import _palette as palette
from heartstrings.report import _style as style
from heartstrings.report._numbers import FILTERS, known

if TYPE_CHECKING:
    import plotly.graph_objects as go


@dataclass(frozen=True)
class Plot:
    """What is drawn in one place of the page.

    Args:
        key: its id in the page, letters and hyphens.
        views: (button label, plot) pairs; buttons appear when there is more than one.
        height, narrow_height: CSS pixels on wide and on narrow screens.
        classes: CSS classes of the figure.
    """

    key: str
    views: tuple[tuple[str, go.Figure], ...]
    height: int = 400
    narrow_height: int = 340
    classes: str = ""


@dataclass(frozen=True)
class Page:
    """What the templates record while they are rendered, for the contents list and for the script."""

    sections: list[tuple[str, str]] = field(default_factory=list)
    """Anchor and title of each section."""
    plots: list[Plot] = field(default_factory=list)

    def data(self) -> dict[str, object]:
        """For the script: each plot's views, and the style that all of them share."""
        figures = {
            plot.key: {
                "height": plot.height,
                "narrowHeight": plot.narrow_height,
                "views": [json.loads(str(view.to_json())) for _, view in plot.views],
            }
            for plot in self.plots
        }
        return {"common": style.LAYOUT | {"axis": style.AXIS}, "figures": figures}


def render_page(template: str, view: Mapping[str, object]) -> str:
    """The whole document from a template that extends `page.html`.

    Everything that the template writes is escaped, unless it is markup of a template itself. The content security
    policy names the scripts by hash: a script that came in with a text would not run.
    """
    script = _static("report.js")
    policy = "; ".join(
        (
            "default-src 'none'",
            f"script-src {_hash(plotly_js())} {_hash(script)}",
            "style-src 'unsafe-inline'",
            "img-src data: blob:",
            "base-uri 'none'",
            "form-action 'none'",
        )
    )
    return (
        _environment()
        .get_template(template)
        .render(
            view,
            page=Page(),
            policy=Markup(policy),
            generator=f"heartstrings {__version__}",
            style=Markup(palette.css() + _static("report.css")),
            palette={"swap": palette.swap()},
            plotly=_packed_plotly(),
            script=Markup(script),
        )
    )


def json_for_script(value: object) -> Markup:
    """JSON inside <script>: no character in it can end the element or start a comment."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)


def write(path: Path, text: str) -> Path:
    """Write a temporary file and rename it, so that a reader never sees an incomplete file."""
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


@cache
def plotly_js() -> str:
    """plotly.js with the trace types that the report uses (static/plotly.json says where it comes from)."""
    return _static("plotly-cartesian.min.js")


@cache
def _packed_plotly() -> str:
    """gzip in base64, which the script decodes: less than half the size, and it cannot end the script element."""
    return base64.b64encode(gzip.compress(plotly_js().encode("utf-8"), mtime=0)).decode("ascii")


@cache
def _environment() -> Environment:
    made = Environment(
        loader=PackageLoader("heartstrings.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        extensions=["jinja2.ext.do"],
    )
    made.filters.update(FILTERS, json_for_script=json_for_script, label=_label, capital=_capital, one_line=_one_line)
    made.tests["known"] = known
    return made


def _label(text: str) -> str:
    """The first words of a caption, for the label of a table's box."""
    plain = Markup(text).unescape() if isinstance(text, Markup) else text
    return "Table: " + _one_line(plain).split(". ")[0][:120]


def _one_line(text: str) -> str:
    """Without the line breaks of a template. Other kinds of spaces are kept."""
    return type(text)(re.sub(r"[ \n]+", " ", text).strip())


def _capital(text: str) -> str:
    """The first letter in upper case, the others as they are."""
    return text[:1].upper() + text[1:]


def _static(name: str) -> str:
    return resources.files("heartstrings.report").joinpath("static", name).read_text(encoding="utf-8")


def _hash(script: str) -> str:
    digest = hashlib.sha256(script.encode("utf-8")).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"
