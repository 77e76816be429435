"""The tutorials as pages of the manual: mkdocs takes this file as a hook (`hooks: [docs/tutorial_pages.py]`).

Each script of `tutorials/` is read as a notebook (jupytext's percent format), run from top to bottom in a kernel of its
own, offline, and written as a page: its text, its code, and what each cell printed and drew. A cell that raises fails
the build. `mkdocs serve` shows the pages without what they print: nothing is run anew whenever a file is saved.
"""

from __future__ import annotations

import base64
import os
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
TUTORIALS = ROOT / "tutorials"
AT_ONCE = 2  # kernels: each computes on one core

HOW = """Scripts in percent cells (`# %%`): VS Code and Jupyter (with jupytext) open them as notebooks, a shell runs
them as they are, such as `python tutorials/01_tracing_and_editing.py FIGURES MODEL`. Each computes what it claims and
says whether it holds; on the models that ship it has to. These pages are what they printed and drew when the manual
was built."""

_building = True


def on_startup(*, command: str, **_: Any) -> None:
    """Called by mkdocs with what it was asked to do."""
    global _building
    _building = command != "serve"


def on_files(files: Any, *, config: Any) -> Any:
    """Called by mkdocs with the manual's files: adds the tutorials' pages, figures and notebooks."""
    for path, content in made(run=_building).items():
        files.append(_file(config, path, content))
    return files


def _file(config: Any, path: str, content: str | bytes) -> Any:
    from mkdocs.structure.files import File

    return File.generated(config, path, content=content)


def made(scripts: list[Path] | None = None, run: bool = True) -> dict[str, str | bytes]:
    """Files for the manual by their path in it: of each tutorial a page, its figures, and the notebook itself."""
    import jupytext
    import nbformat

    chosen = sorted(TUTORIALS.glob("*.py")) if scripts is None else scripts
    notebooks = [jupytext.read(script) for script in chosen]
    if run:
        with ThreadPoolExecutor(AT_ONCE) as pool:
            list(pool.map(executed, notebooks))
    found: dict[str, str | bytes] = {}
    for script, notebook in zip(chosen, notebooks, strict=True):
        at = f"tutorials/{script.stem}"
        text, figures = page(notebook, script)
        found[f"{at}.md"] = text
        found[f"{at}.ipynb"] = nbformat.writes(notebook)
        found.update({f"{at}/{name}": figure for name, figure in figures.items()})
    if scripts is None:
        found["tutorials/index.md"] = index(found)
    return found


def index(files: dict[str, str | bytes]) -> str:
    """The page that lists the others."""
    titles = {
        p: str(text).partition("\n")[0].removeprefix("# ") for p, text in files.items() if p.endswith(".md")
    }
    links = [f"- [{title}]({Path(path).name})" for path, title in sorted(titles.items())]
    return "\n".join(["# Tutorials", "", HOW, "", *links, ""])


def executed(notebook: Any) -> Any:
    """The notebook after it ran in a kernel of its own, offline, in an empty folder that is gone afterwards.

    Raises:
        CellExecutionError: of nbclient; a cell raised.
    """
    from nbclient import NotebookClient

    paths = filter(None, [str(ROOT), os.environ.get("PYTHONPATH")])
    env = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(paths),
        "HF_HUB_OFFLINE": "1",
        "OPENBLAS_NUM_THREADS": "1",
    }
    with tempfile.TemporaryDirectory() as folder:
        client = NotebookClient(notebook, timeout=300, resources={"metadata": {"path": folder}})
        return client.execute(env=env)


def page(notebook: Any, script: Path) -> tuple[str, dict[str, bytes]]:
    """A notebook as Markdown, and the figures that it shows, by name."""
    parts, figures = [], {}
    for i, cell in enumerate(notebook.cells):
        if cell.cell_type == "markdown":
            parts.append(cell.source)
        elif cell.cell_type == "code":
            parts.append(f"```python\n{cell.source}\n```")
            for j, output in enumerate(cell.get("outputs", [])):
                name = f"{i}_{j}.png"
                text, figure = shown(output, f"{script.stem}/{name}")
                parts.append(text)
                if figure is not None:
                    figures[name] = figure
    title, _, rest = "\n\n".join(filter(None, parts)).partition("\n")
    source = f"This page is `tutorials/{script.name}`, as it ran when the manual was built"
    return f"{title}\n\n*{source}: [the notebook]({script.stem}.ipynb).*\n{rest}\n", figures


def shown(output: Any, path: str) -> tuple[str, bytes | None]:
    """What a cell put out, as Markdown, and its figure's bytes; path: where the page will find that figure."""
    data = output.get("data", {})
    if "image/png" in data:
        return f"![What the cell above draws]({path})", base64.b64decode(data["image/png"])
    if "text/html" in data:
        html = data["text/html"]
        return f'<div class="output">\n{html if isinstance(html, str) else "".join(html)}\n</div>', None
    text = output.get("text", data.get("text/plain", ""))
    return (f"``` {{.text .output}}\n{text.rstrip()}\n```" if text.strip() else ""), None
