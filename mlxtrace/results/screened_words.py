"""A screen in words: the sentences that a paper can quote, and a table of the strongest cells."""

from __future__ import annotations

from typing import Any, Protocol

from ..anatomy.components import COMPONENTS
from .printing import page, quoted
from .printing import whole_number as whole_number

SHOWN = 10  # cells of the table


class Screening(Protocol):
    """A screen, as it is told."""

    methods: dict[str, str]
    metric: str
    direction: str
    cells: int
    live: int
    verify: int
    rows: list[dict[str, Any]]
    clean: float
    corrupted: float
    target: str | None
    foil: str | None
    clean_text: str
    corrupted_text: str
    ids: list[str]
    asked: dict[str, Any]
    ended: str
    passes: int
    seconds: float
    notes: list[str]

    @property
    def threshold(self) -> float: ...
    @property
    def missed_cells(self) -> int: ...
    @property
    def missed_bound(self) -> float: ...
    @property
    def audit(self) -> Any: ...
    @property
    def needed(self) -> int: ...

    def top(self, k: int = SHOWN) -> list[dict[str, Any]]: ...


def sentences(found: Screening) -> list[str]:
    """What was done, what is strongest, how far the ranking was needed, and what may be missed."""
    return [_done(found), *_strongest(found), *_held(found), _missed(found)]


def text(found: Screening) -> str:
    """A screen for a terminal: its sentences, both runs, and its strongest cells."""
    words = " and ".join(COMPONENTS[name].words for name in found.methods)
    over = f" over {len(found.ids)} pairs" if found.ids else ""
    verb = "Corrupting" if found.direction == "noise" else "Restoring"
    lines = [*sentences(found), *_runs(found)]
    took = f"{found.seconds:z.1f} s, {found.passes} batched passes of the exact sweeps"
    return page(f"Screen: {verb.lower()} the {words}{over}", [*lines, took], _notes(found), _table(found))


def _what(found: Screening) -> str:
    names = [f"single {COMPONENTS[n].words}" if n == "neuron" else COMPONENTS[n].words for n in found.methods]
    return ", ".join(names)


def _methods(found: Screening) -> str:
    methods = dict.fromkeys(found.methods.values())
    if len(methods) == 1:
        return next(iter(methods))
    return ", ".join(f"{name}: {method}" for name, method in found.methods.items())


def _done(found: Screening) -> str:
    rest, drawn = found.live - found.verify, found.audit.drawn
    cells = f"{found.cells:,} cells ({_what(found)})"
    cells += f", of which {found.live:,} can differ from the base run," if found.live < found.cells else ""
    if not rest:
        return (
            f"All {cells} were run exactly."
            if found.live == found.cells
            else f"Of {cells} all were run exactly."
        )
    one = "the one" if found.verify == 1 else f"the {found.verify:,}"
    said = f"Of {cells} {one} that gradients ({_methods(found)}) rank first"
    if drawn:
        said += f", and {drawn:,} of the other {rest:,} drawn at random (seed {found.asked['seed']}),"
    return f"{said} were run exactly." if drawn or found.verify > 1 else f"{said} was run exactly."


def _strongest(found: Screening) -> list[str]:
    top = found.top(1)
    if not top:
        return []
    gap = found.clean - found.corrupted
    share = f" ({100 * top[0]['effect'] / gap:z.1f} % of clean - corrupted)" if gap else ""
    return [f"The strongest, {place(top[0])}, changes {found.metric} by {top[0]['effect']:+z.4g}{share}."]


def _held(found: Screening) -> list[str]:
    n = len(found.top())
    if n < 2 or found.live == found.verify:
        return []
    if found.needed <= found.verify:
        return [f"The {n} strongest were among the first {found.needed:,} of the ranking."]
    late = sum(row["part"] == "audit" for row in found.top())
    if late == 1:
        return [f"One of the {n} strongest the audit alone found: the ranking has it at {found.needed:,}."]
    return [
        f"Of the {n} strongest the audit alone found {late}: the ranking has the last of them at {found.needed:,}."
    ]


def _missed(found: Screening) -> str:
    audit, rest = found.audit, found.live - found.verify
    if not rest:
        return "None was left to gradients, so nothing is missed and there was nothing to audit."
    if not audit.drawn:
        return f"There was no audit: nothing is known of the other {rest:,}."
    r, rho = (f"{x:z.2f}" if x is not None else "none" for x in (audit.correlation, audit.rank_correlation))
    which = "tenth strongest" if found.verify >= SHOWN else "weakest"
    said = f"In the random sample estimates and effects correlate with r = {r} (ranks: {rho}), and {audit.above} of "
    said += f"{audit.drawn:,} are stronger than the {which} verified cell ({found.threshold:z.4g})"
    if audit.drawn == rest:
        return f"{said}; it holds every cell that was not verified, so nothing is missed."
    bound = f"{100 * found.missed_bound:z.2g} %"
    return f"{said}: at 95 % confidence no more than {bound} of the {rest:,} are (exact, hypergeometric)."


def _runs(found: Screening) -> list[str]:
    """The prompts and the metric of either run."""
    ends = f"{found.metric}: clean {found.clean:z.4g}, corrupted {found.corrupted:z.4g}"
    if found.ids:
        return [f"means over {len(found.ids)} pairs; {ends}"]
    target = f" → {quoted(found.target)}" if found.target else ""
    foil = f" → {quoted(found.foil)}" if found.foil else ""
    return [f"clean: {found.clean_text}{target}", f"corrupted: {found.corrupted_text}{foil}", ends]


def _notes(found: Screening) -> list[str]:
    notes = [] if found.verify == found.live else [_guesses(found)]
    if found.ended:
        asked = found.asked
        notes.append(
            f"the budget ({found.ended}) ended it: {found.verify:,} verified of {asked['verify']:,} asked for"
            f"{' at least' if asked['stable'] else ''}, {found.audit.drawn:,} audited of {asked['audit']:,}"
        )
    return [*notes, *found.notes]


def _guesses(found: Screening) -> str:
    """Whose guesses the estimates are, and the ranks."""
    several = list(dict.fromkeys(" and ".join(x.split(" + ")) for x in found.methods.values() if " + " in x))
    said = f"estimates are gradients' guesses ({_first(found, ', ')}), effects are exact"
    return f"{said}; a cell's rank is the better of those by {', '.join(several)}" if several else said


def _first(found: Screening, between: str) -> str:
    """The methods whose estimates there are: of each component the first one that it is ranked by."""
    return between.join(dict.fromkeys(method.split(" + ")[0] for method in found.methods.values()))


def _table(found: Screening) -> list[str]:
    top = found.top(SHOWN)
    if not top:
        return ["no cell can differ from the base run"]
    lines = [f"strongest:      effect{'by ' + _first(found, '/'):>12}   rank"]
    for row in top:
        audit = "  (audit)" if row["part"] == "audit" else ""
        lines.append(
            f"  {row['effect']:+z20.4g} {row['estimate']:+z11.4g} {row['rank']:>6}  {place(row)}{audit}"
        )
    return lines


def place(row: dict[str, Any]) -> str:
    """Where a cell is: "neuron 133 of layer 7 at position 9 " of""; "attn, layer 3"."""
    component, unit = row["component"], row.get("neuron", row.get("head"))
    where = f"layer {row['layer']}"
    if component in ("neuron", "head"):
        said = f"{component} {unit} of {where}"
    else:
        said = f"{component}, {where}" + ("" if unit is None else f" head {unit}")
    if "position" in row:
        said += f" at position {row['position']} {quoted(row['token'])}"
    return said + (f" at {quoted(row['region'])}" if "region" in row else "")
