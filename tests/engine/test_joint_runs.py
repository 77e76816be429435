"""Runs of several prompts as rows: their tokens, their noise, and sweeps of many prompts against sweeps of one."""

import mlx.core as mx
import numpy as np
import pytest
from models import make
from noise import close

from mlxtrace import InterpretableModel, errors
from mlxtrace.engine import choice
from mlxtrace.engine.joint_runs import Runs
from mlxtrace.engine.runs import Cell, Patch, Run, capture
from mlxtrace.engine.sweep import Sweep

BASES = [(3, 17, 90, 91, 52, 60, 77, 8), (5, 18, 40, 91, 50, 61, 70, 8), (3, 17, 90, 33, 52, 60, 77, 9)]
SOURCES = [(3, 17, 40, 41, 52, 60, 77, 8), (5, 18, 40, 95, 50, 61, 70, 8), (9, 17, 90, 33, 52, 60, 77, 9)]
PLACES = [(2, 3, 7), (3, 5), (0, 4)]  # by prompt: what is patched differs
COMPONENTS = ("resid_pre", "attn", "mlp", "resid_post")


@pytest.fixture(scope="module")
def model():
    return InterpretableModel(make("llama"))


def noise(seed, samples=3, at=(2, 3), width=64):
    return np.random.RandomState(seed).randn(samples, len(at), width) * 0.4


def noisy(i, replace=False):
    """The noised run of a prompt: other numbers at other positions for each."""
    at = [(2, 3), (3,), (1, 2)][i]
    return Run(SOURCES[i], noise(i, at=at), at, replace)


def test_rows_are_the_members_one_after_the_other():
    runs = Runs(tuple(map(Run, BASES)))
    assert (runs.rows, runs.each, runs.length, runs.noised) == (3, 1, 8, ())
    assert np.array(runs.tokens(np.array([2, 0, 2]), 3)).tolist() == [list(BASES[i][3:]) for i in (2, 0, 2)]
    assert runs.tokens(np.array([0])).dtype == Run(BASES[0]).tokens(np.array([0])).dtype
    of_noise = Runs(tuple(noisy(i) for i in range(3)))
    assert (of_noise.rows, of_noise.each, of_noise.noised) == (9, 3, (1, 2, 3))
    assert np.array(of_noise.tokens(np.array([3, 5, 8])))[:, 3].tolist() == [95, 95, 33]


@pytest.mark.parametrize("start", [0, 2, 3, 5])
@pytest.mark.parametrize("replace", [(False, False, False), (True, False, True)])
def test_each_row_has_the_noise_of_its_own_run(start, replace):
    members = tuple(noisy(i, replace[i]) for i in range(3))
    rows = np.array([8, 0, 3, 4, 1, 8])
    x = mx.random.normal((6, 8 - start, 64))
    found = np.array(Runs(members).embedded(x, rows, start))
    for i, row in enumerate(rows):
        alone = members[row // 3].embedded(x[i : i + 1], np.array([row % 3]), start)
        np.testing.assert_array_equal(found[i], np.array(alone)[0])


def test_runs_without_noise_leave_the_embeddings_alone():
    x = mx.ones((2, 8, 64))
    assert Runs(tuple(map(Run, BASES))).embedded(x, np.array([0, 2])) is x


@pytest.mark.parametrize(
    "others", [(Run(BASES[0][:5]),), (noisy(0),), (Run(BASES[0], noise(0, 1), (2, 3)), noisy(1))]
)
def test_runs_that_make_no_batch_are_refused(others):
    with pytest.raises(errors.EngineError, match="one length"):
        Runs((*others, Run(BASES[0])) if len(others) == 1 else others)


def test_a_plain_pass_over_several_gives_the_logits_of_each(model):
    for members in ([Run(ids) for ids in SOURCES], [noisy(i) for i in range(3)]):
        logits, kept = capture(model.resolver, Runs(tuple(members)), [model.resolver.site("resid_post", 1)])
        right = [capture(model.resolver, run, [model.resolver.site("resid_post", 1)]) for run in members]
        np.testing.assert_allclose(logits, np.concatenate([found for found, _ in right]), atol=5e-5)
        for name, x in kept.items():
            np.testing.assert_allclose(x, np.concatenate([found[name] for _, found in right]), atol=1e-4)


# ---- sweeps


def cells_of(model, places, prompt=0, components=COMPONENTS, heads=None):
    """A cell for each component, layer and position of a prompt, and one of all its positions in two layers."""
    cells = []
    for component in components:
        sites = [model.resolver.site(component, layer) for layer in range(model.n_layers)]
        cells += [Cell((Patch(site, (p,), (p,), heads),), prompt) for site in sites for p in places]
        cells.append(Cell(tuple(Patch(site, places, places, heads) for site in sites[:2]), prompt))
    return cells


def joint_and_single(model, bases, sources, engine="auto", measures=None, **options):
    """Both ways, each prompt's values `[metric, its cells, samples]`; and the joint sweep's outcome."""
    heads, components = options.pop("heads", None), options.pop("components", COMPONENTS)
    chosen = engine if isinstance(engine, choice.Engine) else choice.choose(model.resolver, engine)
    cells = [cells_of(model, PLACES[i], i, components, heads) for i in range(len(bases))]
    order = np.random.RandomState(0).permutation(
        sum(map(len, cells))
    )  # cells of a prompt need not be together
    flat = [cell for found in cells for cell in found]
    measures = measures or [lambda x: x.T.astype(np.float64)] * len(bases)
    joint = Sweep(
        model.resolver, Runs(tuple(bases)), Runs(tuple(sources)), [flat[i] for i in order], chosen, **options
    ).run(measures, progress=False)
    values = np.empty_like(joint.values)
    values[:, order] = joint.values
    ends = np.cumsum([len(found) for found in cells])
    single = []
    for base, source, found, measure in zip(bases, sources, cells, measures, strict=True):
        alone = [Cell(cell.patches) for cell in found]
        outcome = Sweep(model.resolver, base, source, alone, chosen, **{**options, "max_memory": None})
        single.append(outcome.run(measure, progress=False))
    return np.split(values, ends[:-1], axis=1), single, joint


def agree(joint, single, outcome):
    atol = 2e-5 * max(1.0, *(np.abs(alone.values).max() for alone in single))
    for values, alone in zip(joint, single, strict=True):
        assert values.shape == alone.values.shape
        np.testing.assert_allclose(values, alone.values, atol=atol)
    np.testing.assert_allclose(outcome.base, np.concatenate([s.base for s in single], 1), atol=atol)
    np.testing.assert_allclose(outcome.source, np.concatenate([s.source for s in single], 1), atol=atol)
    assert outcome.plan.null_cells == sum(s.plan.null_cells for s in single)


@pytest.mark.parametrize("engine", ["fanout", "flat", "loop"])
def test_many_prompts_give_the_numbers_of_each(model, engine):
    agree(*joint_and_single(model, [Run(x) for x in BASES], [Run(x) for x in SOURCES], engine))


@pytest.mark.parametrize("prefix", [False, True])
@pytest.mark.parametrize("flipped", [False, True])
def test_noise_is_each_prompts_own(model, prefix, flipped):
    trial = choice.trial_sweep(model.resolver)
    engine = choice.Engine("fanout", prefix, trial.causal, trial.axes)
    noised, plain = [noisy(i) for i in range(3)], [Run(x) for x in SOURCES]
    agree(*joint_and_single(model, *((plain, noised) if flipped else (noised, plain)), engine))


@pytest.mark.parametrize("name", ["gpt2", "gemma2", "mixtral", "mamba"])
def test_on_other_architectures(name):
    model = InterpretableModel(make(name))
    vocab, places = model.vocab_size, ("resid_post",)
    bases, sources = ([Run(tuple(t % vocab for t in ids)) for ids in found] for found in (BASES, SOURCES))
    agree(*joint_and_single(model, bases, sources, components=places))


@pytest.mark.parametrize("component, heads", [("head", (1,)), ("q", (0, 2)), ("v", (0,)), ("pattern", (1,))])
def test_components_with_heads(model, component, heads):
    bases, sources = [Run(x) for x in BASES], [Run(x) for x in SOURCES]
    agree(*joint_and_single(model, bases, sources, components=(component,), heads=heads))


def test_every_position_and_a_measure_for_each_prompt(model):
    measures = [lambda x, i=i: x[:, i, 3 + i : 5 + i].T.astype(np.float64) for i in range(3)]
    bases, sources = [Run(x) for x in BASES], [Run(x) for x in SOURCES]
    agree(*joint_and_single(model, bases, sources, measures=measures, every_position=True))


@pytest.mark.parametrize("engine", ["fanout", "loop"])
def test_with_little_memory_there_are_more_passes_and_the_same_numbers(model, engine):
    bases, sources = [Run(x) for x in BASES], [Run(x) for x in SOURCES]
    *_, roomy = joint_and_single(model, bases, sources, engine)
    found = joint_and_single(model, bases, sources, engine, max_memory=int(roomy.plan.bytes * 0.7))
    agree(*found)
    assert found[-1].plan.passes >= roomy.plan.passes and found[-1].plan.bytes <= roomy.plan.bytes * 0.7


def test_the_fixed_run_is_each_prompts_own(model):
    bases, fixed = [noisy(i) for i in range(3)], [Run(x) for x in BASES]
    site, chosen = model.resolver.site("mlp", 1), choice.choose(model.resolver)

    def cells(i):
        return [Cell((Patch(site, (p,), (p,), fixed=True),), i) for p in (4, 5)]

    def run(base, source, found, held):
        sweep = Sweep(model.resolver, base, source, found, chosen, fixed=held)
        return sweep.run(lambda x: x.T.astype(np.float64), progress=False).values

    joint = run(
        *(Runs(tuple(x)) for x in (bases, map(Run, SOURCES))),
        [cell for i in range(3) for cell in cells(i)],
        Runs(tuple(fixed)),
    )
    for i in range(3):
        alone = run(bases[i], Run(SOURCES[i]), [Cell(c.patches) for c in cells(i)], fixed[i])
        close(joint[:, 2 * i : 2 * i + 2], alone, model)
