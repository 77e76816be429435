"""Which cells are run, from which layer and position on, and in which passes: by hand and by brute force."""

import itertools

import numpy as np
import pytest
from models import make

from mlxtrace import InterpretableModel
from mlxtrace.engine.plan import DENSE_SHARE, PASS_TOKENS, Engine, Part, Plan, PlannedCell, Request, reads_of
from mlxtrace.engine.runs import FLAT, Cell, Patch, Run

IDS = (3, 17, 40, 41, 52, 60)
OTHER = (3, 17, 90, 41, 52, 60)
FANOUT, FLAT_ENGINE = Engine("fanout", prefix=True), Engine("flat")


@pytest.fixture(scope="module")
def resolver():
    return InterpretableModel(make("llama")).resolver


def request(resolver, cells=(), engine=FANOUT, base=None, source=None, every_position=False, last=1):
    base, source = base or Run(IDS), source or Run(OTHER)
    return Request(resolver, base, source, base, list(cells), engine, every_position, 1 << 40, last)


def cell(resolver, component, layer, *at, **options):
    return Cell((Patch(resolver.site(component, layer), at, at, **options),))


def test_runs_differ_from_the_first_token_or_noise_on(resolver):
    noise = np.ones((2, 1, 64))
    assert request(resolver).first_differences == [2]
    assert request(resolver, source=Run(IDS)).first_differences == [len(IDS)]
    assert request(resolver, source=Run(IDS[:4])).first_differences == [4]
    assert request(resolver, base=Run(IDS, noise, (1,))).first_differences == [1]
    assert request(resolver, source=Run(IDS, noise, (4,))).first_differences == [4]
    assert request(resolver, engine=Engine("flat", causal=False)).first_differences == [0]
    assert request(resolver, base=Run(IDS, noise, (1,))).block == 2


def test_null_cells_are_not_planned(resolver):
    cells = [
        cell(resolver, "attn", 0, 1),  # before the runs differ
        cell(resolver, "attn", 0, 1, 3),  # one of two positions
        cell(resolver, "mlp", 2, 4),  # after the last mixing, and not the last position
        cell(resolver, "mlp", 2, 5),
        cell(resolver, "attn", 0, 1, fixed=True),  # values of another run may differ anywhere
        Cell((Patch(resolver.site("attn", 0), (1,), (0,)),)),  # another position's value
    ]
    planned = request(resolver, cells).planned()
    assert [(c.index, c.start, c.patches[0].at) for c in planned] == [
        (1, 3, (3,)),
        (3, 5, (5,)),
        (4, 1, (1,)),
        (5, 1, (1,)),
    ]
    every = request(resolver, cells, every_position=True).planned()
    assert [c.index for c in every] == [1, 2, 3, 4, 5]
    two = request(resolver, cells, last=2)
    assert [c.index for c in two.planned()] == [1, 2, 3, 4, 5] and two.read == 2


def test_a_layers_output_is_patched_where_the_next_layer_begins(resolver):
    cells = [cell(resolver, "resid_post", layer, 5) for layer in range(3)]
    planned = request(resolver, cells).planned()
    assert [(c.birth, c.patches[0].site.name) for c in planned] == [
        (1, "layers.1.resid_pre"),
        (2, "layers.2.resid_pre"),
        (3, "norm.input"),
    ]
    flat = request(resolver, cells, FLAT_ENGINE).planned()
    assert {c.birth for c in flat} == {FLAT}
    assert [c.patches[0].site.name for c in flat] == [f"layers.{i}.resid_post" for i in range(3)]


def test_a_cell_is_born_at_its_first_layer(resolver):
    site = resolver.site
    both = Cell((Patch(site("mlp", 2), (5,), (5,)), Patch(site("attn", 1), (3,), (3,))))
    (planned,) = request(resolver, [both]).planned()
    assert (planned.birth, planned.start) == (1, 3)


@pytest.mark.parametrize("seed", range(5))
def test_passes_are_cut_where_it_is_cheapest(resolver, seed):
    draw = np.random.RandomState(seed)
    asked = request(resolver, base=Run(tuple(range(120))), source=Run(tuple(range(1, 121))))
    cells = [
        PlannedCell(i, int(draw.randint(3)), int(draw.choice([0, 30, 60, 90, 119])), ()) for i in range(40)
    ]

    def cost(groups):
        total = 0.0
        for group in groups:
            rows = sum(3 - c.birth for c in group)
            tokens = (rows * DENSE_SHARE + 3) * (120 - min(c.start for c in group))
            total += 3 * PASS_TOKENS + tokens
        return total

    starts = sorted({c.start for c in cells})
    every = []
    for cuts in itertools.product([False, True], repeat=len(starts) - 1):
        groups = [[]]
        for start, cut in zip(starts, (False, *cuts), strict=True):
            groups += [[]] if cut else []
            groups[-1] += [c for c in cells if c.start == start]
        every.append(cost(groups))
    found = asked.by_start(cells)
    assert sorted(c.index for group in found for c in group) == list(range(40))
    assert cost(found) == pytest.approx(min(every))


def test_inside_attention_a_pass_begins_at_the_start(resolver):
    asked = request(resolver)
    plain = PlannedCell(0, 1, 3, cell(resolver, "attn", 1, 3).patches)
    inside = PlannedCell(1, 1, 3, cell(resolver, "k", 1, 3).patches)
    assert asked.start_of([plain], True) == 3
    assert asked.start_of([plain], False) == 0
    assert asked.start_of([plain, inside], True) == 0
    assert request(resolver, every_position=True).start_of([plain], True) == 0
    assert request(resolver, last=5).start_of([plain], True) == 1  # all that is read is run


def test_what_cells_take_is_gathered_by_run_and_site(resolver):
    site = resolver.site("attn", 1)
    cells = [
        PlannedCell(0, 1, 2, (Patch(site, (2,), (4,)), Patch(site, (3,), (1,), fixed=True))),
        PlannedCell(1, 1, 2, (Patch(site, (2, 3), (2, 4)),)),
    ]
    reads = reads_of(cells)
    assert {name: sorted(found.positions) for name, found in reads[False].items()} == {site.name: [2, 4]}
    assert {name: sorted(found.positions) for name, found in reads[True].items()} == {site.name: [1]}
    assert Part([cells], 0, False).places == {(False, site.name): {2: 0, 4: 1}, (True, site.name): {1: 0}}


def test_a_plan_prints_what_it_runs():
    plan = Plan("fanout", 27, 12, 18, 3, 5_000_000, 0.25, True, "asked for", None, [2, 5])
    text = str(plan)
    assert "fanout (asked for)" in text and "27, of which 12" in text and "from positions 2, 5" in text
    assert "about 5 MB" in text and "about 0.25 s" in text
    plan.elapsed = 0.5
    assert "0.50 s" in str(plan)
    assert Plan(**plan.to_dict()) == plan
