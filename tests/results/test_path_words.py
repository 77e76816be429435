"""What a result of paths says of itself."""

from __future__ import annotations

import numpy as np
from test_path_result import RAW, at_positions, made

from mlxtrace.results.path_words import as_html, runs, text, title


def test_a_result_for_a_terminal_and_for_a_notebook():
    said = text(made(notes=["look"]))
    assert said.startswith("Restoring paths: 2 senders to 3 receivers (whole sequence)")
    for part in ('" Paris" 0.90', "note: look", "5 edges of 6", "-0.6", "-75.0 %", "a1.h2 -> logits"):
        assert part in said
    assert text(made(direction="noise")).startswith("Corrupting paths")
    assert 'at "The"' in text(at_positions()) and "(each token)" in text(at_positions())
    assert "positions [2]" in text(made(settings={"positions": [2]}))
    assert "a1.h2" in as_html(made()) and "&quot; Paris&quot;" in as_html(made())
    assert "<b>" not in as_html(made(senders=["<b>x", "y"])).replace("<b>Restoring", "")


def test_one_end_is_named_and_a_corruption_is_said():
    one = made(
        raw=RAW[:, :1], reached=np.ones((2, 1)), receivers=["logits"], settings={"corruption": "noise"}
    )
    assert title(one) == "Restoring paths: 2 senders to logits (whole sequence)"
    assert runs(one)[1] == ("corrupted", 'noise → " Rome" 0.80, " Paris" 0.10')
    assert " at END" in text(made(raw=RAW[..., None], regions=["END"]))
