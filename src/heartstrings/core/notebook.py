"""A small table for notebooks: escaped, and without colours of its own, so that it reads in light and dark themes."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence


def html_table(caption: str, columns: Sequence[str], rows: Iterable[Sequence[object]], *, note: str = "") -> str:
    """One HTML table. All cells are text and are escaped; the first column is left-aligned, the others right-aligned.

    Args:
        note: a sentence below the table.
    """

    def line(tag: str, cells: Sequence[object]) -> str:
        sides = ["left", *["right"] * (len(cells) - 1)]
        written = (
            f'<{tag} style="text-align:{side}">{html.escape(str(cell))}</{tag}>'
            for side, cell in zip(sides, cells, strict=True)
        )
        return f"<tr>{''.join(written)}</tr>"

    body = "".join(line("td", row) for row in rows)
    head = f"<thead>{line('th', columns)}</thead>" if columns else ""
    below = f'<p style="color:inherit">{html.escape(note)}</p>' if note else ""
    return (
        '<table style="color:inherit;background:transparent;border-collapse:collapse">'
        f'<caption style="color:inherit;text-align:left">{html.escape(caption)}</caption>'
        f"{head}<tbody>{body}</tbody></table>{below}"
    )
