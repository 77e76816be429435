"""What the tests of sizes share: made-up results of any size, and a ruler for what is drawn."""

import itertools
import re
from types import SimpleNamespace

import numpy as np
from test_patching_result import make
from test_path_result import made as paths_made

from mlxtrace.results.average_trace import ROLES

WIDEST, TALLEST = 16.0, 11.0  # inches
WORDS = re.findall(
    r"\w+", "The committee that was set up last year to look into the matter has written about towers"
)
SLACK = 1.5  # pixels


def tokens(n):
    return [f"{' ' if i else ''}{WORDS[i % len(WORDS)]}" for i in range(n)]


def recoveries(n_tokens, n_layers, heads=None, components=1, spread=0.8, **changes):
    """A result of patching `[component, layer, position, head]`, with two tokens and the last that matter."""
    random = np.random.default_rng(0)
    shape = (components, n_layers, n_tokens, heads or 1)
    raw = np.full(shape, 0.1)
    subject = max(n_tokens - n_tokens // 5 - 2, 0)
    place = sorted({subject, min(subject + 1, n_tokens - 1), n_tokens - 1})
    raw[:, :, place] += spread * random.uniform(-0.3, 1, (components, n_layers, len(place), heads or 1))
    clean = tokens(n_tokens)
    corrupted = list(clean)
    clean[subject], corrupted[subject] = " Eiffel", " Egyptian"
    dims = ["component", "layer", "position", "head"]
    raw = raw if heads else raw[..., 0]
    dims = dims if heads else dims[:3]
    raw, dims = (raw, dims) if components > 1 else (raw[0], dims[1:])
    known = dict(tokens=clean, corrupted_tokens=corrupted, subject_range=range(subject, subject + 1))
    known |= dict(clean_text="".join(clean), corrupted_text="".join(corrupted))
    known |= dict(components=["head"]) if heads and components == 1 else {}
    return make(raw, tuple(dims), **(known | changes))


def pattern(heads, n):
    random = np.random.default_rng(0)
    found = np.tril(random.uniform(0, 0.1, (heads, n, n)) + 2 * np.eye(n)[np.maximum(np.arange(n) - 3, 0)])
    return found / found.sum(-1, keepdims=True)


def lens(n_layers, n_tokens):
    random = np.random.default_rng(0)
    rank = np.ones((n_layers, n_tokens), int)
    rank[n_layers // 2 :, -1] = 0
    return SimpleNamespace(
        probabilities=random.uniform(0.05, 0.9, (n_layers, n_tokens, 2)),
        prob=random.uniform(0, 0.1, (n_layers, n_tokens)),
        rank=rank,
        layers=list(range(n_layers)),
        positions=list(range(n_tokens)),
        answer=" Paris",
        final=0.5,
        tokens=tokens(n_tokens),
        component="resid_post",
        prompt="".join(tokens(n_tokens)),
        model="/home/ann/models/gpt2-xl",
        first=[[" straightforward"] * n_tokens] * n_layers,
    )


def scope(n_layers):
    random = np.random.default_rng(0)
    return SimpleNamespace(
        prob=random.uniform(size=(n_layers, n_layers)),
        rank=random.integers(0, 3, (n_layers, n_layers)),
        layers=list(range(n_layers)),
        target_layers=list(range(n_layers)),
        answer=" Paris",
        answer_ids=[1],
        base_prob=0.001,
        component="resid_post",
        model="~/models/gpt2",
        first=[[" Paris"] * n_layers] * n_layers,
        where=[f"source: {''.join(tokens(40))}", "target: cat→cat; 135→135; hello→hello; ?"],
    )


def effects(n_tokens, n_layers):
    random = np.random.default_rng(0)
    direct, indirect = np.zeros((2, n_layers, n_tokens))
    direct[:, -3:], indirect[:, -2:] = random.uniform(-0.2, 0.8, (n_layers, min(3, n_tokens))), 0.3
    words = "".join(tokens(n_tokens))
    return SimpleNamespace(
        direct=direct + 0.1,
        indirect=indirect,
        direct_change=direct,
        base_value=0.1,
        component="mlp",
        layers=list(range(n_layers)),
        positions=list(range(n_tokens)),
        window=1,
        metric="prob",
        tokens=tokens(n_tokens),
        subject_range=range(1),
        regions=None,
        within="",
        ids=[],
        halves={},
        runs=[("base", f'{words} → " France" 0.70'), ("source", f'Rio{words} → " Brazil" 0.90')],
    )


def averages(n_layers):
    effect, interval = np.random.default_rng(0).uniform(0, 0.5, (2, 3, 6, n_layers))
    return SimpleNamespace(
        indirect_effect=effect,
        interval=interval,
        kinds=[None, "mlp", "attn"],
        counts=[3, 0, 3, 3, 2, 3],
        roles=ROLES,
        facts=3,
        window=2,
        total_effect=0.5,
        total_interval=0.1,
        high_score=0.7,
        low_score=0.2,
    )


def paths(n):
    names = {"senders": [f"a{i}.h0" for i in range(n)], "receivers": [f"a{i}.h0.q" for i in range(n)]}
    raw = np.random.default_rng(0).normal(size=(n, n))
    return paths_made(raw=raw, reached=np.ones((n, n)), **names)


def boxes_of(texts):
    return [text.get_window_extent() for text in texts if text.get_visible() and text.get_text().strip()]


def ticked(axis):
    """The labels of ticks within the limits: others are not drawn."""
    low, high = sorted(axis.get_view_interval())
    span = 1e-6 * (high - low)
    return [tick.label1 for tick in axis.get_major_ticks() if low - span <= tick.get_loc() <= high + span] + [
        tick.label2 for tick in axis.get_major_ticks() if low - span <= tick.get_loc() <= high + span
    ]


def overlap(one, two):
    """Whether two boxes share more than a pixel or so."""
    across = min(one.x1, two.x1) - max(one.x0, two.x0)
    down = min(one.y1, two.y1) - max(one.y0, two.y0)
    return across > SLACK and down > SLACK


def measure(fig):
    """Check that a figure fits a page, no text leaves it, and none runs into another or into the axes."""
    width, height = fig.get_size_inches()
    assert width <= WIDEST and height <= TALLEST, (width, height)
    fig.draw_without_rendering()
    words = [text for text in (fig._suptitle, fig._supxlabel) if text is not None]
    whole, outside = fig.bbox, boxes_of(words)
    inside = []
    for ax in fig.axes:
        labels = [boxes_of(ticked(axis)) for axis in (ax.xaxis, ax.yaxis)]
        for along, of_one in zip("xy", labels, strict=True):
            of_one = sorted(of_one, key=lambda box: getattr(box, f"{along}0"))
            assert not any(overlap(a, b) for a, b in itertools.pairwise(of_one)), "tick labels overlap"
        titles = boxes_of([ax.title, ax.xaxis.label, ax.yaxis.label])
        ticks = [box for of_one in labels for box in of_one]
        assert not any(overlap(a, b) for a, b in itertools.product(titles, ticks)), "a title lies on ticks"
        inside.append([*titles, *ticks, ax.get_window_extent()])
    for one, other in itertools.combinations(inside, 2):
        assert not any(overlap(a, b) for a, b in itertools.product(one, other)), "panels overlap"
    every = [box for of_one in inside for box in of_one]
    for box in [*outside, *every]:
        assert box.x0 >= -SLACK and box.y0 >= -SLACK, "text leaves the figure"
        assert box.x1 <= whole.x1 + SLACK and box.y1 <= whole.y1 + SLACK, "text leaves the figure"
    pairs = [*itertools.product(outside, every), *itertools.combinations(outside, 2)]
    assert not any(overlap(a, b) for a, b in pairs), "the title or the caption lies on something"
    return fig
