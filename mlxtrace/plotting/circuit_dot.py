"""A circuit in the DOT language, which Graphviz draws: layers up, the embedding at the bottom, the logits on top."""

from __future__ import annotations

import os
from collections.abc import Sequence

from ..storage import check_format, writable, write_atomic
from .colours import HELPS, HURTS, NODES


def dot_text(
    rows: Sequence[tuple[str, str, str, float]], title: str, path: str | os.PathLike | None = None
) -> str:
    """The graph of edges (sender, node, read, effect): read is q, k, v or "", effect is positive where it helps.

    path: where the text is written as well.
    """
    nodes = list(dict.fromkeys(name for sender, node, _, _ in rows for name in (sender, node)))
    most = max((abs(effect) for *_, effect in rows), default=1.0) or 1.0
    lines = [
        "digraph circuit {",
        "  rankdir=BT;",
        f"  label={_quoted(title)};",
        '  node [style=filled, shape=box, fontname="Helvetica"];',
        '  edge [fontname="Helvetica", fontsize=9];',
    ]
    lines += [f'  {_quoted(name)} [fillcolor="{NODES[name[0]]}"];' for name in nodes]
    for sender, node, read, effect in rows:
        width, colour = 0.5 + 3.5 * abs(effect) / most, HELPS if effect >= 0 else HURTS
        said = f', headlabel="{read}"' if read else ""
        lines.append(
            f"  {_quoted(sender)} -> {_quoted(node)} "
            f'[penwidth={width:.2f}, color="{colour}", tooltip="{effect:.4g}"{said}];'
        )
    text = "\n".join([*lines, "}", ""])
    if path is not None:
        check_format(path, ".dot", ".gv", ".txt")
        write_atomic(writable(path), text.encode())
    return text


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
