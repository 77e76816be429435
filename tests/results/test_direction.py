"""A direction as a value: multiplied, added, printed, saved, and refused where it was not taken."""

import mlx.core as mx
import numpy as np
import pytest

from mlxtrace import Direction
from mlxtrace import interventions as iv
from mlxtrace.errors import InputError, LoadError

POSITIVE, NEGATIVE = [[3, 5, 9, 2], [8, 1, 4], [7, 7, 2, 6, 5]], [[11, 12, 13], [14, 15, 16, 17], [1, 1]]


@pytest.fixture(scope="module")
def step(llama):
    return llama.direction(POSITIVE, NEGATIVE, "layers.1")


@pytest.fixture(scope="module")
def vector(step):
    return np.array(step.vector)


@pytest.mark.parametrize("four", [4, 4.0, np.float64(4), np.int64(4), np.array(4.0)])
def test_a_multiple_is_a_direction(step, vector, four):
    for made in (four * step, step * four, step / (1 / four), -(-4 * step)):
        assert (
            isinstance(made, Direction)
            and made.site == step.site
            and made.norm == pytest.approx(4 * step.norm)
        )
        np.testing.assert_allclose(np.array(made.vector), 4 * vector, rtol=1e-6)


def test_unit_and_minus(step, vector):
    assert step.unit.norm == pytest.approx(1) and (5 * step.unit).norm == pytest.approx(5)
    assert (np.array((-step).vector) == -vector).all() and (-step).separation == step.separation


@pytest.mark.parametrize("k", [float("nan"), float("inf"), "a", None, True, [1, 2], np.ones(3)])
def test_what_is_no_number_multiplies_nothing(step, k):
    with pytest.raises((InputError, TypeError)):
        k * step


def test_it_is_taken_where_arrays_are(step, vector):
    zeros = mx.zeros((1, 3, step.shape[0]))
    for made in (zeros + step, step + zeros, zeros - -step, np.zeros((1, 3, step.shape[0])) + step):
        assert isinstance(made, mx.array) and np.array_equal(np.array(made)[0, 1], vector)
    assert np.array_equal(np.asarray(step), vector) and np.array_equal(np.array(mx.array(step)), vector)
    assert not np.array(step - step).any() and not np.array(step + -step).any()
    assert np.array_equal(np.array(np.ones(step.shape) - step), 1 - vector)


def test_the_vector_is_an_array_of_its_own(step, vector):
    mine = step.vector
    mine *= 0
    assert np.array_equal(np.array(step.vector), vector)


def test_in_place_inside_a_trace(llama, step, vector):
    with llama.trace(NEGATIVE[0]):
        h = llama.layers[1].output
        before = np.array(h)
        h[:, -1] += 2 * step
        moved = np.array(h)
    np.testing.assert_allclose(moved[0, -1], before[0, -1] + 2 * vector, rtol=1e-5, atol=1e-6)
    assert (moved[0, :-1] == before[0, :-1]).all()


# ---- where it may be added


@pytest.mark.parametrize("name", ["layers.1", "layers.1.resid_post", "layers.1.output", "model.layers.1"])
def test_every_name_of_its_site_takes_it(llama, step, name):
    with llama.trace(NEGATIVE[0], {name: iv.add_vector(step, -1)}):
        pass


@pytest.mark.parametrize(
    "name", ["layers.0", "layers.2", "layers.1.mlp", "layers.1.resid_pre", "layers.1.input", "embed"]
)
@pytest.mark.parametrize("make", [
    lambda step: iv.add_vector(4 * step, -1), lambda step: iv.add_vector(-step), lambda step: iv.replace_with(step),
    lambda step: iv.replace_at(step, 0), lambda step: iv.compose(iv.scale(2), iv.add_vector(step)),
    lambda step: iv.compose(iv.compose(iv.add_vector(step.unit))),
])  # fmt: skip
def test_other_sites_refuse_it_before_anything_runs(llama, step, name, make):
    with pytest.raises(InputError, match=r"taken at layers\.1\.resid_post.*direction\.vector"):
        llama.trace(NEGATIVE[0], {name: make(step)}).__enter__()


def test_its_vector_may_go_anywhere(llama, step):
    with llama.trace(NEGATIVE[0], {"layers.0.mlp": iv.add_vector(step.vector, -1)}):
        pass


def test_a_direction_is_no_function(llama, step):
    for value in (step, 4 * step, step.vector):
        with pytest.raises(InputError, match=r"iv\.add_vector\(\.\.\.\) or"):
            llama.trace(NEGATIVE[0], {"layers.1": value}).__enter__()


# ---- kept and printed


@pytest.mark.parametrize(
    "positions", [None, -1, [0, 1], (0, -1), range(2), slice(0, 2), np.array([0, 1]), "last"]
)
def test_positions_of_any_kind_are_kept(llama, positions, tmp_path):
    found = llama.direction(POSITIVE, NEGATIVE, "layers.1", positions=positions)
    assert repr(Direction.load(found.save(tmp_path / "a.npz"))) == repr(found)


def test_it_is_what_was_saved(step, tmp_path):
    again = Direction.load((3 * step).save(tmp_path / "step"))
    assert np.array_equal(np.array(again.vector), np.array((3 * step).vector))
    assert again.to_rows() == step.to_rows() and repr(again) == repr(3 * step)
    assert again.separation == step.separation and again.positive == step.positive
    assert (tmp_path / "step.npz").is_file()
    with pytest.raises(LoadError):
        Direction.load(__file__)


def test_damaged_files_are_refused(step, tmp_path):
    from mlxtrace.storage import load_arrays, save_arrays

    header, arrays = load_arrays(step.save(tmp_path / "a.npz"), "Direction")
    for change in ({"values": arrays["values"] * np.nan}, {"positive_along": arrays["positive_along"][:-1]}):
        with pytest.raises(LoadError):
            Direction.load(save_arrays(tmp_path / "b.npz", "Direction", header, {**arrays, **change}))
    header["fields"]["typical"] = float("inf")
    with pytest.raises(LoadError):
        Direction.load(save_arrays(tmp_path / "c.npz", "Direction", header, arrays))


def test_rows_and_files(step, tmp_path):
    rows = step.to_rows()
    assert [row["list"] for row in rows] == ["positive"] * 3 + ["negative"] * 3
    ends = [
        np.mean([row["along"] for row in rows if row["list"] == name]) for name in ("positive", "negative")
    ]
    assert ends[0] - ends[1] == pytest.approx(step.norm)
    assert step.to_csv(tmp_path / "a.csv").read_text().startswith("list,prompt,along\n")
    assert step.to_json(tmp_path / "a.json").stat().st_size > 0


def test_it_prints_what_must_be_known(llama, step):
    said = repr(-2 * step)
    assert said.startswith("Direction: -2 x layers.1.resid_post of")
    assert f"norm {2 * step.norm:.4g}" in said and f"separation {step.separation:.3f}" in said
    assert "last token" in said and "mean of 3 prompts less mean of 3" in said
    few = llama.direction(POSITIVE[:1], NEGATIVE[:2], "layers.1.head", heads=[1, 3], positions=[0, 1])
    assert few.separation is None and "unknown: it takes three different prompts" in repr(few)
    assert "heads 1, 3" in repr(few) and "positions [0, 1]" in repr(few)
    assert "<pre" in step._repr_html_()
