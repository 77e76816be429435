"""The passes of a generation under interventions: `Steps` is called where mlx-lm would call the model.

mlx-lm runs a prompt in pieces (all but its last token, then that one), and then a pass for each new token, all with one
cache. Here the prompt is run in one piece, so that a function sees all of it, once; the logits of its last position
answer the call for it. Keys and values are kept by the cache before a function sees them: what was made of them is kept
here, and put back in each later pass.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import mlx.core as mx

from ..anatomy.calls import Calls, Port
from ..anatomy.resolver import ModuleResolver, Site, time_axis
from ..errors import MlxtraceError, OrderError, UnsupportedError
from ..intervention import Intervention, Window
from .caches import refuse_pieces, refuse_sinks, short_pass, tokens_in
from .declared import Edit, edit_at

Declared = Sequence[tuple[str, Site, Edit]]
STREAM = {
    "embed",
    "resid_pre",
    "attn",
    "resid_mid",
    "mlp",
    "resid_post",
    "norm",
    "logits",
}  # always [1, T, D]
KEPT = ("k", "v")  # of an attention call: those of all tokens so far, the cache's among them
HINT = "where='prompt' leaves new tokens as they are"


class Steps(Calls):
    """The passes of one generation. Called as the model is: `steps(tokens [1, n], cache=...)` gives logits `[1, n, V]`.

    Args:
        resolver: of the model to run.
        edits: the interventions with their sites, as `declared` gives them.
        prompt: the ids of the prompt.
        where: "prompt", "new" or "all": in which passes the interventions act.
    """

    def __init__(self, resolver: ModuleResolver, edits: Declared, prompt: Sequence[int], where: str):
        super().__init__(resolver.slots)
        self.resolver, self.edits, self.prompt, self.where = resolver, edits, tuple(prompt), where
        self.done = 0  # tokens of prompt and text that the passes so far have had
        self.before = 0  # tokens that the cache held before the prompt
        self.first: dict[Intervention, int | None] = {}  # where each intervention with positions acted first
        self.shapes: dict[str, tuple[int, tuple[int, ...]]] = {}  # in a pass of how many tokens, by site
        self.kept: dict[Port, mx.array] = {}  # keys and values as they were edited
        self.seen: dict[Port, mx.array] = {}
        self.reached: set[Port] = set()
        self._at: dict[Port, list[Edit]] = {}
        self._looking = False
        self._answer: mx.array | None = None  # the logits of the prompt's last position, until asked for
        self._bases: set[Port] = set()  # what sites are added to, in this pass

    # ---- the passes

    def __call__(self, tokens: mx.array, cache: Any = None, **options: Any) -> mx.array:
        n = tokens.shape[1]
        if self._answer is not None:
            logits, self._answer = self._answer, None
            return logits
        if not self.done:
            self._look()
            self.before = tokens_in(cache)
            if self.where != "new" and n < len(self.prompt):
                refuse_sinks(cache, len(self.prompt))
                refuse_pieces(self.resolver.net, self.resolver.measured)
                logits = self._run(mx.array([self.prompt], tokens.dtype), cache, options)
                self._answer = logits[:, -1:]
                return logits[:, :n]
        return self._run(tokens, cache, options)

    def _run(self, tokens: mx.array, cache: Any, options: dict[str, Any]) -> mx.array:
        """One pass, with those of the interventions that act in it."""
        length, of_prompt = tokens.shape[1], self.done < len(self.prompt)
        acting = self.edits if self.where in ("all", "prompt" if of_prompt else "new") else ()
        self._at = {port: [] for port in self.kept}
        for key, site, fn in acting:
            edit = edit_at(key, site, self._placed(site, fn, length), self._base)
            self._at.setdefault(site.port, []).append(self._explained(key, site, edit, length, of_prompt))
        self._bases = {base.port for _, site, _ in acting for base in site.bases}
        logits = self._tapped(tokens, cache, options)
        self._check_reached(acting, of_prompt)
        self.done += length
        return logits

    def _tapped(self, tokens: mx.array, cache: Any, options: dict[str, Any]) -> mx.array:
        paths = dict.fromkeys(port[0] for port in (*self._at, *self._bases))
        self.seen, self.reached = {}, set()
        with self.tapping({path: self.resolver.paths[path] for path in paths}):
            return self.resolver.net(tokens, cache=cache, **options)

    def _check_reached(self, acting: Declared, of_prompt: bool) -> None:
        for key, site, _ in acting:
            if site.port not in self.reached:
                which = "the prompt" if of_prompt else f"the new token at position {self.done}"
                raise OrderError(
                    f"the intervention at {key!r} did not happen: the pass of {which} never called it. "
                    f"`model.resolver.sites()` lists what this model runs{'' if of_prompt else '; ' + HINT}"
                )
        lost = [port for port in self.kept if port not in self.reached]
        if lost:
            raise OrderError(
                f"{lost[0][0]} makes no attention call any more, so its edited keys would be lost"
            )

    def check_acted(self, generated: int) -> None:
        """OrderError when an intervention has had no effect on the tokens that were generated, which are all."""
        last = len(self.prompt) + generated - 2
        late = [edit for edit, first in self.first.items() if first is None or first > last]
        if late or (self.where == "new" and generated == 1):
            what = late[0] if late else f"the interventions at {', '.join(key for key, _, _ in self.edits)}"
            raise OrderError(
                f"{what} never acted: the text ended after {generated} "
                f"{'token' if generated == 1 else 'tokens'}, so that no position after {last} mattered"
            )

    # ---- one intervention in one pass

    def _placed(self, site: Site, fn: Edit, length: int) -> Edit:
        """The function, told which positions the array holds."""
        counts = (
            site.side != "pattern" and time_axis(self.resolver, site) == 1
        )  # a pattern's axis 1 is its heads
        window = Window(self.done, length, len(self.prompt), self.first, site.name, counts)
        return lambda x: window.run(fn, x)

    def _explained(self, key: str, site: Site, edit: Edit, length: int, of_prompt: bool) -> Edit:
        """The edit, whose errors in the pass of a new token say so."""

        def explained(x: mx.array) -> mx.array:
            try:
                self._check_shape(key, x[..., :0] if site.side == "pattern" else x, length)
                if self.resolver.group is not None:  # what one rank looks at, all have computed
                    mx.eval(x, list(self.seen.values()))
                made = edit(x)
                self.resolver.check_alike(key, made)
                return made
            except MlxtraceError as error:
                if of_prompt:
                    raise
                kind = type(error)
                raise kind(
                    f"{error} (in the pass of the new token at position {self.done}; {HINT})"
                ) from error

        return explained

    def _check_shape(self, key: str, x: mx.array, length: int) -> None:
        """UnsupportedError where a pass of one token has something else at the site than one of several."""
        several, shape = self.shapes.setdefault(key, (length, x.shape))
        pairs = list(zip(shape, x.shape, strict=False))
        if len(shape) != x.ndim or any(n != m and n - several != m - length for n, m in pairs):
            raise UnsupportedError(
                f"{key}: in a pass of {length} token{'' if length == 1 else 's'} this model has something else there, "
                f"{list(x.shape)}, than in one of {several}, {list(shape)}, so it cannot be edited while text is "
                "generated"
            )

    def _look(self) -> None:
        """Note the shapes of sites in a plain pass of a few tokens, as a trace would show them."""
        tokens, cache = short_pass(self.resolver.net)

        def noting(key: str, side: str) -> Edit:
            def note(x: mx.array) -> mx.array:
                shown = x[..., :0] if side == "pattern" else x
                self.shapes.setdefault(key, (tokens.shape[1], shown.shape))
                return x

            return note

        self._at = {}
        for key, site, _ in self.edits:
            if site.component not in STREAM:
                self._at.setdefault(site.port, []).append(noting(key, site.side))
        if self._at:
            self._looking = True
            self._tapped(tokens, cache, {})
            self._looking = False

    def _base(self, site: Site) -> mx.array | None:
        return site.base(lambda base: self.seen[base.port])

    # ---- keys and values

    def _with_kept(self, port: Port, x: mx.array, edits: Iterable[Edit]) -> mx.array:
        """Keys or values of all tokens so far `[1, Tk, heads, width]`: the earlier as edited, the new edited."""
        earlier = self.before + self.done
        new, known = x.shape[1] - earlier, self.kept.get(port)
        if new < 1 or (known is not None and (known.shape[1] != earlier or known.shape[2:] != x.shape[2:])):
            raise UnsupportedError(
                f"{port[0]}: its cache gives {list(x.shape)} {port[1]} after {earlier} "
                "tokens and in the pass of more, not one of one kind for each, so edited ones cannot be kept apart: it "
                "forgets tokens (a window), or lays them out otherwise"
            )
        made = x[:, earlier:]
        for edit in edits:
            made = edit(made)
        whole = mx.concatenate([x[:, :earlier] if known is None else known, made], axis=1)
        self.kept[port] = whole
        return whole

    # ---- the calls of modules; see `Calls`

    def wants(self, port: Port) -> bool:
        """Whether a port has an edit, or is what a site is added to."""
        return port in self._at or port in self._bases

    def attends(self, path: str, visit: int) -> bool:
        """Whether the attention call of a call has an edit."""
        return any(
            port[0] == path and port[2] == visit for port in self._at if port[1] in (*KEPT, "q", "pattern")
        )

    def passes(self, port: Port, x: mx.array) -> mx.array:
        """The array that goes on, edits made."""
        self.reached.add(port)
        edits = self._at.get(port, ())
        if port[1] in KEPT and not self._looking:
            return self._with_kept(port, x, edits)
        for edit in edits:
            x = edit(x)
        if port in self._bases:
            self.seen[port] = mx.array(x)
        return x
