"""Hooks of mkdocs: what `make docs` does beside rendering Markdown.

- A link that leaves `docs/` (to LOG.md, for example), or names a folder, becomes a link to the repository. A link to a
  file that does not exist is a warning.
- An SVG of `docs/concepts` is put into the page itself, so that it follows the switch between light and dark.
- The tutorial notebook becomes a page, with the outputs that are stored in it.
"""

from __future__ import annotations

import html
import json
import logging
import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[1]
BRANCH = "/blob/main/"
NOTEBOOK = ROOT / "docs" / "tutorial.ipynb"
log = logging.getLogger("mkdocs.plugins.site_hooks")

LINK = re.compile(r"(?<=\]\()(?P<target>[^)#\s:]+)(?P<anchor>#[^)\s]*)?(?=\))")
PICTURE = re.compile(r"^!\[(?P<alt>[^\]]*)\]\((?P<file>[a-z_]+\.svg)\)$", re.MULTILINE)


def on_files(files: Files, config: Any) -> Files:
    notebook = files.get_file_from_path(NOTEBOOK.name)
    if notebook is not None:
        files.remove(notebook)
        content = notebook_page(NOTEBOOK, config.extra["repository"] + BRANCH)
        files.append(File.generated(config, "tutorial.md", content=content))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    folder = posixpath.dirname(page.file.src_uri)
    repository = config.extra["repository"] + BRANCH

    def outside(found: re.Match[str]) -> str:
        inside = posixpath.normpath(posixpath.join("docs", folder, found["target"]))
        if inside == "docs/tutorial.ipynb":
            return found["target"].removesuffix(".ipynb") + ".md" + (found["anchor"] or "")
        if inside.startswith("docs/") and not (ROOT / inside).is_dir():
            return found[0]
        if not (ROOT / inside).exists():
            log.warning("%s links to %s, which does not exist", page.file.src_uri, inside)
        return f"{repository}{inside}{found['anchor'] or ''}"

    def inlined(found: re.Match[str]) -> str:
        path = ROOT / "docs" / folder / found["file"]
        if folder != "concepts" or not path.exists():
            return found[0]
        return f'<figure class="hs-picture">{path.read_text(encoding="utf-8").strip()}</figure>'

    return PICTURE.sub(inlined, LINK.sub(outside, markdown))


def notebook_page(path: Path, repository: str) -> str:
    """A notebook as Markdown, with its stored outputs. Nothing is run."""
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    title, _, rest = "".join(cells[0]["source"]).partition("\n")
    parts = [title, f"[Download this notebook]({repository}docs/{path.name})", rest.strip()]
    for cell in cells[1:]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            parts.append(source)
        else:
            parts += [f"```python\n{source}\n```", *(_shown(output) for output in cell["outputs"])]
    return "\n\n".join(parts) + "\n"


def _shown(output: dict[str, Any]) -> str:
    """One output: as HTML where it has that, else as text."""
    data = output.get("data", {})
    if "text/html" in data:
        return f'<div class="hs-output">{"".join(data["text/html"])}</div>'
    text = "".join(output["text"] if output["output_type"] == "stream" else data["text/plain"])
    return f'<pre class="hs-output">{html.escape(text.rstrip())}</pre>'
