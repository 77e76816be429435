"""What is said of a model's structure: a table of its layers, and sentences on what a component is not."""

from __future__ import annotations

from collections.abc import Iterable

from .layout import Layer, Structure

REMARKED = ("attn", "mlp", "head", "neuron")  # where what else writes to the stream matters


def remarks(structure: Structure, component: str, layers: Iterable[int]) -> list[str]:
    """What a component is not, at some layers, as the probe measured it: a sentence for each kind of layer."""
    found: dict[str, list[int]] = {}
    for i in layers:
        for remark in _remarks_at(component, structure.layers[i]):
            found.setdefault(remark, []).append(i)
    return [f"{text}: layers {', '.join(map(str, some))}" for text, some in found.items()]


def _remarks_at(component: str, layer: Layer) -> list[str]:
    said = []
    if component == "mlp" and len(layer.mlps) > 1 and layer.summed:
        through = "" if len(layer.summed) > 1 else f", as {_named(layer, layer.summed)} adds it to the stream"
        said.append(f"mlp is {_named(layer, layer.mlps)} together{through}")
    if component not in REMARKED or layer.slot is None:
        return said
    if layer.rest:
        said.append(f"the stream also gains {_named(layer, layer.rest)}, which is in neither attn nor mlp")
    if layer.plain is None:
        said.append("whether attn and mlp are all that these layers write could not be measured")
    elif not layer.plain:
        said.append(
            "the layer's output is no sum of its input, attn and mlp: these are not all that moves it"
        )
    return said


def _named(layer: Layer, paths: tuple[str, ...]) -> str:
    return " + ".join(p.removeprefix(layer.path + ".") for p in paths)


def layer_table(structure: Structure) -> str:
    """The layers and what each site is in this model, for reading."""
    rows = [("layer", "module", "attn", "mlp", "resid_mid")]
    for i, layer in enumerate(structure.layers):
        module = layer.path + (f"@{layer.visit}" if layer.visit else "")
        middle = "yes" if layer.added else f"no: {layer.no_mid}"
        rows.append((str(i), module, _listed(layer, layer.mixers), _listed(layer, layer.mlps), middle))
    widths = [max(len(row[i]) for row in rows) for i in range(5)]
    lines = ["  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip() for row in rows]
    said = [f"note: {x}" for c in ("mlp", "attn") for x in remarks(structure, c, range(len(rows) - 1))]
    head = structure.head or "(no module: tied to the embedding)"
    ends = f"embed: {structure.embed}   norm: {structure.norm or '-'}   head: {head}"
    return "\n".join([*lines, ends, *dict.fromkeys(said)])


def _listed(layer: Layer, paths: tuple[str, ...]) -> str:
    return ", ".join(p[len(layer.path) + 1 :] for p in paths) or "-"
