"""One sentence about a result: the right sites, in words that fit its axes, and no site that does nothing."""

import dataclasses

import pytest

from mlxtrace.results.strongest import TELLING, strongest


@dataclasses.dataclass
class Made:
    """A result with recoveries that are written by hand: rows of (component, layer, recovery, more)."""

    rows: list
    direction: str = "denoise"
    window: int = 1
    no_effect: float = 0.0
    metrics: tuple = ("prob",)
    tokens: tuple = ("The", " Eiffel", " Tower", " is", " in")
    subject_range: range | None = range(1, 3)
    settings: dict = dataclasses.field(default_factory=dict)

    @property
    def components(self):
        return list(dict.fromkeys(row[0] for row in self.rows))

    def to_rows(self):
        return [
            {"component": c, "layer": layer, "prob_recovery": value, **more}
            for c, layer, value, more in self.rows
        ]


def at(position):
    return {"position": position, "token": Made([]).tokens[position]}


def test_the_strongest_layer_and_the_next_one_outside_its_window():
    rows = [("mlp", layer, value, {}) for layer, value in enumerate([0, 20, 60, 50, 10, 40])]
    assert strongest(Made(rows)) == "Restores most: mlp layer 2 (60 %) and layer 5 (40 %)."
    wide = strongest(Made(rows, window=3))
    assert wide == "Restores most: mlp layers around 2 (60 %)."
    rows += [("attn", layer, 50, {}) for layer in (1, 2)]
    one = strongest(Made(rows, window=3, settings={"windows": {"mlp": 1, "attn": 3}}))
    assert one == "Restores most: mlp layer 2 (60 %) and layer 5 (40 %); attn layers around 1 (50 %)."


def test_positions_are_named_by_what_they_are():
    rows = [("mlp", 3, 90, at(2)), ("mlp", 4, 80, at(2)), ("mlp", 7, 30, at(4)), ("attn", 5, 40, at(1))]
    rows += [("attn", 6, 35, at(3))]
    assert strongest(Made(rows)) == (
        'Restores most: mlp layer 3 at the last subject token " Tower" (90 %) and layer 7 at the last token " in" '
        '(30 %); attn layer 5 at the subject token " Eiffel" (40 %) and layer 6 at the token 3 " is" (35 %).'
    )
    assert 'at the token 2 " Tower"' in strongest(Made(rows, subject_range=None))


def test_heads_are_elsewhere_from_each_other():
    rows = [("head", 3, 50, {"head": 1}), ("head", 3, 45, {"head": 2})]
    assert strongest(Made(rows)) == "Restores most: head layer 3 head 1 (50 %) and layer 3 head 2 (45 %)."


@pytest.mark.parametrize("value", [0, TELLING - 0.1, -50])
def test_what_does_little_is_not_named(value):
    said = strongest(Made([("mlp", 3, value, {})]))
    assert said == f"Restores most: mlp nowhere (each below {TELLING} %)."


def test_noising_breaks_from_where_nothing_happens():
    rows = [("mlp", 1, 95, {}), ("mlp", 5, 20, {}), ("mlp", 9, 60, {})]
    assert strongest(Made(rows, direction="noise", no_effect=100.0)) == (
        "Breaks most: mlp layer 5 (20 %) and layer 9 (60 %)."
    )


def test_the_stream_is_named_only_alone():
    rows = [("resid_post", 3, 100, {}), ("mlp", 3, 30, {})]
    assert strongest(Made(rows)) == "Restores most: mlp layer 3 (30 %)."
    assert strongest(Made(rows[:1])) == "Restores most: resid_post layer 3 (100 %)."


def test_of_a_set_only_what_is_told_from_no_effect_is_named():
    cells = [("IO", 60, 70.0), ("END", 90, 185.0), ("S", 40, 41.0), ("S2", None, None)]
    rows = [("head", 3, value, {"region": r, "head": 1, "n": 9, "high": high}) for r, value, high in cells]
    said = strongest(Made(rows))
    assert (
        said == 'Restores most: head layer 3 head 1 at "IO" (60 ± 10 %) and layer 3 head 1 at "S" (40 ± 1 %).'
    )
    noise = [("mlp", 2, 40, {"n": 9, "high": 95.0}), ("mlp", 7, 50, {"n": 9, "high": 130.0})]
    assert (
        strongest(Made(noise, direction="noise", no_effect=100.0)) == "Breaks most: mlp layer 2 (40 ± 55 %)."
    )
