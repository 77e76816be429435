"""A result of every class, made of plain numbers, at any size: prompts of `length` tokens, `depth` layers, `heads`."""

from __future__ import annotations

import numpy as np
from compared_traces import Comparison
from edges_made_up import made_up

from mlxtrace.engine.plan import Plan
from mlxtrace.experiments.until import PlanUntil
from mlxtrace.results.attribution_result import AttributionResult, AttributionSet, PatchingResult, PatchingSet
from mlxtrace.results.average_trace import AverageTrace
from mlxtrace.results.causal_trace_result import CausalTrace
from mlxtrace.results.circuit_curve import Curve
from mlxtrace.results.comparison_set import ComparisonSet
from mlxtrace.results.direction import Direction
from mlxtrace.results.effects_set import CausalEffects, EffectsSet
from mlxtrace.results.logit_lens_result import LogitLens
from mlxtrace.results.noising_window_set import NoisingWindow, NoisingWindowSet
from mlxtrace.results.patchscope_result import Patchscope, PatchscopeMap
from mlxtrace.results.path_set import PathResult, PathSet
from mlxtrace.results.saved import Answer
from mlxtrace.results.screened import Screened

BAD = '<script>alert("x")</script>'  # a token that must stay a text
ANSWER = Answer(1, " Paris", 0.9, 0.01)


class Made:
    """Results about one made-up prompt of `length` tokens, on a model of `depth` layers with `heads` heads."""

    def __init__(self, length: int, depth: int, heads: int, seed: int = 0) -> None:
        self.length, self.depth, self.heads = length, depth, heads
        self.rng = np.random.default_rng(seed)
        self.some = [" the", BAD, " 巴黎是", " word", " \x1b[2J", " \u202eabc", "🗼"]
        self.tokens = [self.some[i % len(self.some)] for i in range(length)]
        self.text = "".join(self.tokens)
        self.subject = range(int(0.82 * length), int(0.82 * length) + 3)

    def map(self, *shape: int, size: float = 1.0) -> np.ndarray:
        """About nothing but at the subject, in the middle layers, and at the last token, in the late ones."""
        values = self.rng.normal(0, 0.004, shape)
        values[self.subject.start : self.subject.stop, shape[1] // 4 : shape[1] // 2] += 0.6
        values[-1, shape[1] // 2 :] += 0.8
        return size * values

    def patching(self, kind=PatchingResult, dims=("layer", "position"), **changes):
        sizes = {"layer": self.depth, "position": self.length, "head": self.heads}
        shape = [sizes[dim] for dim in dims]
        raw = 0.01 + 0.89 * self.map(self.length, self.depth).T
        if dims == ("layer",):
            raw = raw.max(1)
        if "head" in dims:
            raw = (raw if "position" in dims else raw.max(1))[..., None] * self.rng.random(self.heads)
        given = dict(
            raw=raw.reshape(shape), dims=dims, coords={dim: list(range(sizes[dim])) for dim in dims},
            clean={"prob": 0.9}, corrupted={"prob": 0.01}, metrics=["prob"], components=["mlp"],
            target=ANSWER, foil=Answer(2, " Rome", 0.02, 0.8), tokens=self.tokens, corrupted_tokens=self.tokens,
            subject_range=self.subject, direction="denoise", window=1, plan=None, clean_text=self.text,
            corrupted_text=self.text + "?", model="made up", notes=["a note"],
            settings={"positions": "each", **({"approximate": "atp"} if kind is AttributionResult else {})},
        )  # fmt: skip
        return kind(**{**given, **changes})

    def trace(self, **changes) -> CausalTrace:
        given = dict(
            raw=0.01 + 0.89 * self.map(self.length, self.depth)[..., None], low_score=0.01, high_score=0.9,
            answer=ANSWER, subject_range=self.subject, positions=list(range(self.length)), tokens=self.tokens,
            ids=list(range(self.length)), noise_level=0.1, kind="mlp", window=10, severed=None, prompt=self.text,
            model="made up",
        )  # fmt: skip
        return CausalTrace(**{**given, **changes})

    def effects(self, **changes) -> CausalEffects:
        direct = self.map(self.length, self.depth).T
        given = dict(
            direct=direct, indirect=-direct, base_value=0.0, source_value=0.9, base_answer=ANSWER,
            source_answer=ANSWER, component="mlp", layers=list(range(self.depth)),
            positions=list(range(self.length)), window=1, metric="prob", tokens=self.tokens,
            base_tokens=self.tokens, subject_range=self.subject, base_text=self.text, source_text=self.text,
            model="made up",
        )  # fmt: skip
        return CausalEffects(**{**given, **changes})

    def noising(self) -> NoisingWindow:
        return NoisingWindow(
            raw=self.rng.random((self.depth, 2)), layers=list(range(self.depth)), clean=0.9, noised=0.0,
            answer=ANSWER, component="mlp", window=10, level=0.4, seed=1, prompt=self.text, model="made up",
        )  # fmt: skip

    def paths(self, kind=PathResult, **changes) -> PathResult:
        senders = [f"a{layer}.h{h}" for layer in range(self.depth) for h in range(self.heads)][:80]
        receivers = [*(f"m{layer}" for layer in range(self.depth)), "logits"][-20:]
        given = dict(
            raw=self.rng.normal(0, 1, (len(senders), len(receivers))), reached=np.ones((len(senders), len(receivers))),
            senders=senders, receivers=receivers, metrics=["logit_diff"], clean_values={"logit_diff": 3.0},
            corrupted_values={"logit_diff": -2.0}, direction="denoise", target=ANSWER, foil=ANSWER,
            tokens=self.tokens, corrupted_tokens=self.tokens, subject_range=self.subject, clean_text=self.text,
            corrupted_text=self.text, model="made up",
        )  # fmt: skip
        return kind(**{**given, **changes})

    def lens(self) -> LogitLens:
        shape = (self.depth, self.length)
        return LogitLens(
            ids=self.rng.integers(0, 7, (*shape, 5)), probabilities=np.full((*shape, 5), 0.2),
            prob=self.rng.random(shape), rank=self.rng.integers(0, 9, shape), layers=list(range(self.depth)),
            positions=list(range(self.length)), answer=" Paris", answer_id=1, final=0.9,
            texts=dict(enumerate(self.some)), tokens=self.tokens, component="resid_post", prompt=self.text,
            model="made up",
        )  # fmt: skip

    def scope(self, whole: bool):
        layers = list(range(self.depth))
        shape = (self.depth, self.depth) if whole else (5,)
        given = dict(
            answer=" Paris", answer_ids=[1], texts=dict(enumerate(self.some)), source=self.text,
            source_tokens=self.tokens, source_position=self.length - 1, source_said=" Paris", source_prob=0.9,
            target_prompt=self.text, target_tokens=self.tokens, target_position=self.length - 1, model="made up",
            ids=self.rng.integers(0, 7, shape), probabilities=np.full(shape, 0.2), base_prob=0.01,
        )  # fmt: skip
        if whole:
            more = dict(
                prob=self.rng.random(shape), rank=np.zeros(shape, int), layers=layers, target_layers=layers
            )
            return PatchscopeMap(**given, **more, base_said=BAD, base_said_prob=0.1, component="resid_post")
        more = dict(base_ids=given["ids"], base_probabilities=given["probabilities"], prob=0.5, rank=0)
        sites = dict(source_site="layers.8.resid_post", target_site="layers.8.resid_post")
        return Patchscope(**given, **more, **sites, text=BAD, generated=[1])

    def direction(self) -> Direction:
        n = 200
        return Direction(
            values=self.rng.random(64), positive_along=self.rng.random(n), negative_along=self.rng.random(n),
            site="layers.8.resid_post", model="made up", positive=[self.text] * n, negative=[self.text] * n,
            positions="last", typical=3.0, separation=0.9,
        )  # fmt: skip

    def screened(self) -> Screened:
        n = 300
        places = [
            {"component": "neuron", "layer": i % self.depth, "neuron": i, "position": i % self.length}
            for i in range(n)
        ]
        rows = [{**place, "token": self.tokens[place["position"]]} for place in places]
        return Screened(
            model="made up", methods={"neuron": "atp"}, metric="logit_diff", direction="denoise", positions="each",
            cells=10**6, live=10**6, verify=200, rows=rows, ranks=list(range(1, n + 1)),
            estimates=self.rng.normal(0, 1, n), per_pair=self.rng.normal(0, 1, (1, n)), clean=3.0, corrupted=-2.0,
            target=" Paris", foil=BAD, clean_text=self.text, corrupted_text=self.text, ids=[],
            asked={"seed": 0, "verify": 200, "audit": 100, "stable": False}, ended="", passes=9, seconds=2.0,
        )  # fmt: skip

    def average(self) -> AverageTrace:
        shape = (3, 6, self.depth)
        return AverageTrace(
            indirect_effect=self.rng.normal(0, 0.1, shape), interval=np.full(shape, 0.01),
            kinds=[None, "mlp", "attn"], counts=[9] * 6, total_effect=0.5, total_interval=0.1, high_score=0.8,
            low_score=0.3, window=10, model="made up", ids=[str(i) for i in range(999)],
            skipped=[{"id": str(i), "prompt": self.text, "why": BAD} for i in range(500)],
        )  # fmt: skip

    def every(self) -> dict[str, object]:
        """By the name of its class."""
        edges = made_up(size=(min(self.depth, 8), min(self.heads, 16)))
        circuit = edges.circuit(min(500, edges.n))
        curve = Curve(
            np.array([[0.0], [1.0]]), np.zeros((2, 0)), np.array([2.0]), np.array([0.0]), sizes=[0.5, 1.0],
            asked=[5, 10], edges=[5, 10], ids=["a"], metric="logit_diff", method="eap", by="top", absolute=True,
            model="made up", total=10,
        )  # fmt: skip
        zeros = np.zeros(self.depth)
        flat = self.effects(positions=None, direct=zeros, indirect=zeros)
        patching, trace, names = self.patching(), self.trace(), ["a", "b"]
        compared = Comparison(trace, self.trace(), ("one", "4 bits"))
        estimated = self.patching(AttributionResult)
        found = [
            patching, PatchingSet([patching, self.patching()], names), patching - self.patching(), estimated,
            AttributionSet([estimated, self.patching(AttributionResult)], names), trace, self.effects(),
            EffectsSet([flat, flat], names),
            self.noising(), NoisingWindowSet([self.noising(), self.noising()], names), self.paths(),
            PathSet([self.paths(), self.paths()], names), edges, circuit, curve, self.lens(), self.scope(False),
            self.scope(True), self.direction(), self.screened(), self.average(), compared,
            ComparisonSet([compared, compared], names),
            Plan("fanout", 99, 9, 120, 3, 10**8, 3.0, prefix=True, starts=list(range(self.length))),
            PlanUntil("fanout", 99, 9, 120, 3, 10**8, 3.0, least=40, least_seconds=1.0),
        ]  # fmt: skip
        return {type(one).__name__: one for one in found}
