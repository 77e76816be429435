"""Every result with a figure has one to look around in."""

import dataclasses
import inspect

import pytest

import mlxtrace
from mlxtrace import interactive
from mlxtrace.errors import InputError, UnsupportedError
from mlxtrace.interactive import html
from mlxtrace.results import explored
from mlxtrace.results.explored import Explored, figure_of

KINDS = [kind for kind in vars(mlxtrace).values() if inspect.isclass(kind)]


def test_what_plots_can_be_explored():
    for kind in KINDS:
        if hasattr(kind, "plot"):
            assert issubclass(kind, Explored) and figure_of(kind) in interactive.__all__, kind


def test_what_has_no_figure_says_so():
    class Plain(Explored):
        pass

    with pytest.raises(UnsupportedError, match="Plain has no figure"):
        Plain().explore()


def test_unknown_options_are_refused_with_those_there_are(monkeypatch):
    def drawn(result, path=None, *, most=60):
        return path, most

    class Some(Explored):
        pass

    monkeypatch.setitem(explored.FIGURES, "Some", "drawn")
    monkeypatch.setattr(interactive, "drawn", drawn, raising=False)
    assert Some().explore("x.html", most=3) == ("x.html", 3)
    with pytest.raises(InputError, match=r"explore\(\) of a Some takes most=; it has no rows="):
        Some().explore(rows="all")


HOSTILE = (
    '</script><script>window.popped=1</script><a href="https://example.org">x</a><b>B</b> $x^2$ %{z} &amp;'
)


def hostile_results():
    """A figure of each kind of result, whose texts are what a page must not run."""
    import numpy as np
    from compared_traces import compared, trace
    from edges_made_up import made_up
    from test_causal_effects_result import made as effects
    from test_patching_difference import difference
    from test_patching_result import make
    from test_path_result import at_positions
    from test_screened import STRONG, screened
    from test_token_hover import lens

    rng = np.random.default_rng(0)
    tokens = [HOSTILE[:20], "<b>x", "$a$ %{z}", "<br>"]
    one = make(
        rng.uniform(0.1, 0.9, (3, 4)), ("layer", "position"), tokens=tokens, clean_text=HOSTILE, model=HOSTILE
    )
    traced = trace(rng.uniform(0.1, 0.9, (4, 3)))
    traced.tokens, traced.prompt = tokens, HOSTILE
    traced.answer = dataclasses.replace(traced.answer, text=HOSTILE)
    both = compared(rng.random((4, 3)), rng.random((4, 3)))
    both.names = (HOSTILE, "4 bits")
    caused = effects(positions=[0, 2], tokens=tokens, base_text=HOSTILE, metric=HOSTILE)
    paths = at_positions(tokens=tokens[:3], clean_text=HOSTILE, corrupted_text=HOSTILE, metrics=["prob"])
    cells = screened(STRONG, 10, 40)
    cells.rows[0]["token"] = HOSTILE
    edges = made_up(metric=HOSTILE)
    gap = difference()
    gap.names, gap.title = (HOSTILE, HOSTILE), HOSTILE
    figures = [x.explore() for x in (one, traced, both, caused, paths, cells, edges, edges.circuit(60), gap)]
    seen = lens(token=HOSTILE, model=HOSTILE, prompt=HOSTILE, answer=HOSTILE)
    looked = np.full((2, 4, 4), 0.25)
    return [*figures, interactive.lens(seen), interactive.attention(looked, tokens, heads=[HOSTILE, "<b>"])]


@pytest.mark.heavy
def test_texts_are_inert_in_every_figure(tmp_path):
    """One page with a figure of each kind: it opens without an error or a request, and hovering shows a value."""
    from opened_pages import opened

    pytest.importorskip("plotly")
    figures = hostile_results()
    body = interactive.script() + "".join(map(interactive.div, figures))
    path = tmp_path / "all.html"
    path.write_text(html.document(HOSTILE, body), encoding="utf-8")
    seen = opened(path, [{"curveNumber": -1}], tmp_path)
    assert not seen.errors and not seen.fetched and not seen.links and not seen.popped
    assert len(seen.hovers) == len(figures) and all(any(c.isdigit() for c in text) for text in seen.hovers)
    assert sum("<b>B</b>" in text for text in seen.texts) >= 5
