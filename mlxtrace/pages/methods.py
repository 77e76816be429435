"""What each kind of panel shows: its heading, what a number in it means, the formula, and where that comes from.

method = METHODS[kind_of(result)]
method.heading, method.means, method.formula, method.source
"""

from __future__ import annotations

from typing import Any, NamedTuple


class Method(NamedTuple):
    """How numbers were made. means: sentences for a reader who has not seen the experiment before."""

    heading: str
    means: str
    formula: str
    source: str


RECOVERY = "recovery = 100 % × (patched − corrupted) / (clean − corrupted)"
EFFECT = "effect = metric with the patch − metric of the run that is patched"
PATCHING = (
    "Vig et al. 2020 (arXiv:2004.12265); Meng et al. 2022 (arXiv:2202.05262, section 2); on the choices: "
    "Zhang and Nanda 2023 (arXiv:2309.16042), Heimersheim and Nanda 2024 (arXiv:2404.15255)"
)
BOTH_WAYS = (
    "Restoring (denoising) copies an activation of the clean run into the corrupted one and asks whether it "
    "suffices to bring the answer back: 0 % is nothing, 100 % all of it. Corrupting (noising) copies the other "
    "way and asks whether the clean run needs it: 100 % is unharmed, 0 % as broken as the corrupted run."
)
METHODS = {
    "traces": Method(
        "Where: causal trace",
        "Noise on the embeddings of the subject's tokens loses the answer. Then the noised run is repeated with "
        "one state, at one token and layer, put back to what it is in the clean run. The number is the answer's "
        "probability with that state restored, mean over the samples of noise: as low as the noised run's, the "
        "state carries nothing; as high as the clean run's, it carries the answer.",
        "indirect effect = p(answer, state restored) − p(answer, noised)",
        "Meng et al. 2022 (arXiv:2202.05262, section 2 and appendix B)",
    ),
    "averages": Method(
        "Averages over facts",
        "The causal traces of many facts: each cell is the mean, over the tokens of the facts that have that role "
        "in their prompt, of how far restoring one state brings the answer's probability back; with 95 % "
        "intervals, facts being the units.",
        "average indirect effect = mean of p(answer, state restored) − p(answer, noised); interval: ± 1.96 "
        "standard errors",
        "Meng et al. 2022 (arXiv:2202.05262, figure 2 and appendix B)",
    ),
    "maps": Method(
        "Where: tokens and layers",
        "Each cell is one experiment: one activation, at one token (or region) and one layer, is copied from one "
        f"run into the other, and the run goes on from there. {BOTH_WAYS} Layer outputs hold all that has been "
        "computed up to there, so their map shows the route of the information; the outputs of MLPs and of "
        "attention are what is written at that place, so their maps show where it is looked up and moved.",
        RECOVERY,
        PATCHING,
    ),
    "layers": Method(
        "Which layers",
        "The activations of one layer (or of several together) are copied at all named positions at once. "
        f"{BOTH_WAYS}",
        RECOVERY,
        PATCHING,
    ),
    "heads": Method(
        "Which attention heads",
        "Each cell copies what one attention head computes: its output before it is mixed with the others', "
        f"unless the title names its queries, keys, values or pattern. {BOTH_WAYS}",
        RECOVERY,
        f"{PATCHING}; heads: Wang et al. 2022 (arXiv:2211.00593)",
    ),
    "neurons": Method(
        "Which neurons",
        f"Single neurons (the inputs of an MLP's down projection) are copied one by one. {BOTH_WAYS}",
        RECOVERY,
        PATCHING,
    ),
    "attribution": Method(
        "Estimates by gradients",
        "What patching would do, estimated from one backward pass instead of run. It is approximate, and wrong "
        "where the model is far from linear (a saturated softmax has no gradient): it is a guide to what to run, "
        "not a result.",
        "estimate = gradient of the metric · (source activation − base activation)",
        "Nanda 2023, attribution patching; AtP*: Kramár et al. 2024 (arXiv:2403.00745); integrated gradients: "
        "Sundararajan et al. 2017 (arXiv:1703.01365)",
    ),
    "effects": Method(
        "Direct and indirect effects",
        "The same component is patched both ways between two prompts: the other prompt's activation put into the "
        "base run (does it bring the other answer?), and the base's put into the other run (does that answer need "
        "it?).",
        "direct = metric(base run, source activation); indirect = metric(source run) − metric(source run, base "
        "activation); natural indirect effect = direct − metric(base run)",
        "Pearl 2001; Vig et al. 2020 (arXiv:2004.12265)",
    ),
    "noising": Method(
        "Noise everywhere but in a window",
        "Every layer's output is noised but those of a window of layers, which moves through the model.",
        "score = p(answer, all layers noised but those of the window), mean over samples",
        "after Meng et al. 2022 (arXiv:2202.05262)",
    ),
    "screen": Method(
        "Single cells: screened, verified, audited",
        "Gradients rank all cells; the best of the ranking are run exactly, and a random sample of all others as "
        "well, which bounds what the ranking may have missed. Effects are measured; only the order in which cells "
        "were tried is not.",
        EFFECT,
        "ranking: Kramár et al. 2024 (arXiv:2403.00745); bound: Clopper and Pearson 1934, one-sided 95 %, for "
        "sampling without replacement",
    ),
    "paths": Method(
        "Which paths",
        "One receiver reads what one sender writes in the other run, while everything else it reads stays as it "
        "is: the effect of one connection, not of the whole sender.",
        EFFECT,
        "Wang et al. 2022 (arXiv:2211.00593); Goldowsky-Dill et al. 2023 (arXiv:2304.05969)",
    ),
    "edges": Method(
        "Which edges",
        "Each edge from a sender (embedding, head, MLP) to one read of a receiver gets a score: what changes when "
        "it alone carries the other run's value.",
        EFFECT,
        "exact, one by one: Conmy et al. 2023 (arXiv:2304.14997); EAP: Syed et al. 2023 (arXiv:2310.10348); "
        "EAP-IG: Hanna et al. 2024 (arXiv:2403.17806)",
    ),
    "circuit": Method(
        "The circuit",
        "A set of edges stays clean while all others carry the corrupted run's values. Faithfulness is how much "
        "of what tells the two runs apart is left: 1 is all that the model does, 0 no more than the corrupted run.",
        "faithfulness = (circuit − corrupted) / (clean − corrupted), mean over mean of the pairs",
        "Wang et al. 2022 (arXiv:2211.00593); sizes, CPR and CMD: Mueller et al. 2025 (MIB, arXiv:2504.13151)",
    ),
    "comparison": Method(
        "Two models compared",
        "The same causal trace, with the same answer and the same noise, on two models.",
        "difference = score of the second model − score of the first",
        "Meng et al. 2022 (arXiv:2202.05262, section 2)",
    ),
    "difference": Method(
        "The difference of two results",
        "One result's recoveries less another's, cell by cell; of sets pair by pair, so that the interval is that "
        "of the paired difference.",
        "difference = recovery of the first − recovery of the second, percentage points",
        "interval: linearised ratios of means (Cochran 1977, section 2.11)",
    ),
    "lens": Method(
        "What each layer would say",
        "The model's own final norm and output matrix read the stream in the middle of the model. It shows what "
        "is written there in the directions of tokens, not what later layers make of it.",
        "probabilities = softmax(W_U · norm(stream))",
        "logit lens: nostalgebraist 2020",
    ),
    "patchscope": Method(
        "What an activation says",
        "An activation is put into another prompt, which makes the model say what it holds.",
        "p(token | target prompt, activation put at one position)",
        "Ghandeharioun et al. 2024 (arXiv:2401.06102)",
    ),
    "direction": Method(
        "A direction in activations",
        "The mean activation of one list of prompts less that of another, at one place.",
        "direction = mean(positive) − mean(negative)",
        "difference in means: Marks and Tegmark 2023 (arXiv:2310.06824)",
    ),
}
KINDS = {
    "AttributionResult": "attribution",
    "PatchingDifference": "difference",
    "CausalTrace": "traces",
    "AverageTrace": "averages",
    "CausalEffects": "effects",
    "NoisingWindow": "noising",
    "Screened": "screen",
    "PathResult": "paths",
    "Edges": "edges",
    "Circuit": "circuit",
    "Curve": "circuit",
    "Faithfulness": "circuit",
    "Completeness": "circuit",
    "Comparison": "comparison",
    "ComparisonSet": "comparison",
    "LogitLens": "lens",
    "Patchscope": "patchscope",
    "PatchscopeMap": "patchscope",
    "Direction": "direction",
}


def kind_of(result: Any) -> str | None:
    """Which of `METHODS` made a result; None for what is no result.

    Args:
        result: anything.

    Returns:
        A key of `METHODS`.

    Example:
        >>> from mlxtrace import InterpretableModel
        >>> from mlxtrace.pages.methods import METHODS, kind_of
        >>> prompts = "The Eiffel Tower is in the city of", "The Colosseum is in the city of"
        >>> kind_of(InterpretableModel("demo").activation_patching(*prompts, progress=False)), kind_of("text")
        ('layers', None)
    """
    names = [kind.__name__ for kind in type(result).__mro__ if kind.__module__.startswith("mlxtrace.")]
    for name in names:
        if name in KINDS:
            return KINDS[name]
    if "PatchingResult" not in names:
        return None
    by_dim = {"neuron": "neurons", "head": "heads", "position": "maps", "region": "maps"}
    return next((kind for dim, kind in by_dim.items() if dim in result.dims), "layers")
