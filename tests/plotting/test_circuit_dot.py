from __future__ import annotations

import pytest

from mlxtrace.errors import InputError
from mlxtrace.plotting.circuit_dot import HELPS, HURTS, dot_text

ROWS = [("embed", "a0.h1", "q", 2.0), ("a0.h1", "logits", "", -1.0)]


def test_edges_have_width_colour_and_read(tmp_path):
    text = dot_text(ROWS, 'a "title"', tmp_path / "c.dot")
    first, second = (line for line in text.splitlines() if "->" in line)
    assert (
        '"embed" -> "a0.h1"' in first
        and 'headlabel="q"' in first
        and HELPS in first
        and "penwidth=4.00" in first
    )
    assert HURTS in second and "headlabel" not in second and "penwidth=2.25" in second
    assert r"a \"title\"" in text and text.count("{") == text.count("}") == 1
    assert (tmp_path / "c.dot").read_text() == text
    assert dot_text([], "none").startswith("digraph")
    with pytest.raises(InputError):
        dot_text(ROWS, "x", tmp_path / "no folder" / "c.dot")
