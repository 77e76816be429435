"""Parts and passes that fit the memory: each cell once, no pass above what is left, a refusal that says the least."""

import pytest
from models import make

from mlxtrace import InterpretableModel, errors
from mlxtrace.engine import choice
from mlxtrace.engine.fit import Memory, fit
from mlxtrace.engine.plan import Engine, Part, Request
from mlxtrace.engine.runs import Cell, Patch, Run

IDS = tuple((3 + 7 * i) % 160 for i in range(16))
OTHER = (*IDS[:2], *((i + 1) % 160 for i in IDS[2:]))


@pytest.fixture(scope="module")
def resolver():
    return InterpretableModel(make("llama")).resolver


def request(resolver, allowed=1 << 40, name="auto", component="mlp"):
    cells = []
    for layer in range(resolver.n_layers):
        site = resolver.site(component, layer)
        cells += [Cell((Patch(site, (p,), (p,)),)) for p in range(len(IDS))]
    base = Run(IDS)
    engine = choice.choose(resolver, name) if name != "loop" else Engine("loop", causal=False)
    return Request(resolver, base, Run(OTHER), base, cells, engine, False, allowed)


def indices(parts):
    found = []
    for part in parts:
        for group in part.groups:
            found += [cell.index for cell in group]
    return found


@pytest.mark.parametrize("name", ["auto", "flat", "loop"])
@pytest.mark.parametrize("component", ["mlp", "k", "head"])
def test_every_planned_cell_is_in_one_pass_that_fits(resolver, name, component):
    asked = request(resolver, name=name, component=component)
    wanted = sorted(cell.index for cell in asked.planned())
    (whole,) = fit(asked)
    least = Memory(asked, asked.planned(), False).least
    for allowed in (least, 2 * least, whole.bytes // 2, whole.bytes):
        if allowed < least:
            continue
        smaller = request(resolver, allowed, name, component)
        parts = fit(smaller)
        assert sorted(indices(parts)) == wanted
        assert all(part.bytes <= allowed for part in parts)
        for part in parts:
            memory = Memory(smaller, smaller.planned(), part.prefix)
            kept = memory.constant + memory.sources([cell for group in part.groups for cell in group])
            assert all(kept + memory.one_pass(group) <= part.bytes for group in part.groups)


def test_less_memory_makes_more_passes(resolver):
    (whole,) = fit(request(resolver))
    smaller = fit(request(resolver, whole.bytes // 2))
    assert sum(len(part.groups) for part in smaller) > len(whole.groups)
    assert whole.together and not whole.eager
    assert fit(request(resolver, whole.bytes + 1))[0].eager  # short of memory: computed layer by layer


def test_the_loop_has_a_pass_for_each_cell(resolver):
    for part in fit(request(resolver, name="loop")):
        assert {len(group) for group in part.groups} == {1}


def test_too_little_memory_is_refused_with_the_least_that_is_enough(resolver):
    with pytest.raises(errors.InputError, match="a single cell needs about") as refused:
        fit(request(resolver, 1000))
    least = int(str(refused.value).split("needs about ")[1].split(":")[0])
    assert fit(request(resolver, least))
    with pytest.raises(errors.InputError):
        fit(request(resolver, least - 1))


def test_no_cells_are_no_passes(resolver):
    asked = request(resolver)
    empty = Request(resolver, asked.base, asked.source, asked.base, [], asked.engine, False, 1 << 40)
    (part,) = fit(empty)
    assert part.groups == [] and part.bytes > 0


def test_single_neurons_are_split_as_the_places_that_they_are_of(resolver):
    """Thousands of cells of one place need what one of them needs, and are looked at once."""
    cells, positions = [], (3, 9)
    for layer in range(resolver.n_layers):
        site = resolver.site("neuron", layer)
        cells += [Cell((Patch(site, (p,), (p,), (j,)),)) for p in positions for j in range(96)]

    def parts_of(allowed):
        base = Run(IDS)
        asked = Request(resolver, base, Run(OTHER), base, cells, choice.choose(resolver), False, allowed)
        return fit(asked), Memory(asked, asked.planned(), True)

    (whole,), memory = parts_of(1 << 40)
    assert memory.least < whole.bytes
    parts, memory = parts_of(memory.least)
    assert sorted(indices(parts)) == sorted(indices([whole])) and len(parts) < 6
    tried = []
    memory._fits_together = lambda cells: tried.append(len(cells)) or len(cells) < 3
    memory._part = lambda cells: Part([cells], 0, True)
    parts = memory.parts()
    assert len(tried) <= 6 and max(tried) == 3  # one cell of each place, not each neuron's
    assert sorted(indices(parts)) == sorted(indices([whole])) and len(parts) == 2  # of four places
