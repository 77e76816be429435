"""How a page looks: on a telephone, on a wide screen, and on paper. No font and no picture comes from elsewhere."""

from __future__ import annotations

STYLE = """
:root { color-scheme: light; --ink: #1c1e21; --soft: #5b6169; --line: #d9dce1; --pale: #f4f5f7; --mark: #ffe2a8; }
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; }
body { margin: 0; background: #fff; color: var(--ink); line-height: 1.5;
  font: 17px/1.5 Charter, "Bitstream Charter", "Iowan Old Style", Georgia, "DejaVu Serif", serif; }
main { max-width: 76rem; margin: 0 auto; padding: 2.2rem 1.2rem 4rem; }
h1 { font-size: 1.85rem; line-height: 1.2; margin: 0 0 .5rem; max-width: 46rem; overflow-wrap: anywhere; }
h2 { font-size: 1.35rem; line-height: 1.25; margin: 2.6rem 0 .5rem; padding-top: .7rem;
  border-top: 1px solid var(--line); }
h3 { font-size: 1.06rem; line-height: 1.3; margin: 1.4rem 0 .25rem; }
p, ul, ol, dl { margin: .45rem 0; max-width: 46rem; }
li { margin: .25rem 0; }
a { color: #1d4f91; }
.lede { color: var(--soft); font-size: 1.02rem; }
.small, figcaption, caption, summary, nav { font-size: .88rem; }
.summary { background: var(--pale); border-left: 4px solid #5a4b8c; padding: .5rem 1.1rem;
  margin: 1.3rem 0; max-width: 52rem; }
.summary h2 { border: 0; margin: 0; padding: 0; font-size: 1.1rem; }
.caveats { border-left: 4px solid #b26a00; }
nav ul { list-style: none; padding: 0; display: flex; flex-wrap: wrap; gap: .2rem 1.1rem; max-width: none; }
nav li { margin: 0; }
.formula { font-family: ui-monospace, "DejaVu Sans Mono", Menlo, Consolas, monospace; font-size: .86rem;
  background: var(--pale); padding: .35rem .6rem; border-radius: 3px; display: inline-block; overflow-wrap: anywhere; }
.source { color: var(--soft); font-size: .88rem; }
code, pre, .token { font-family: ui-monospace, "DejaVu Sans Mono", Menlo, Consolas, monospace; font-size: .84rem; }
pre { background: var(--pale); padding: .7rem .9rem; overflow-x: auto; border-radius: 3px; }
pre.text { white-space: pre-wrap; overflow-wrap: anywhere; }
.tokens { max-width: 62rem; line-height: 2.05; margin: .2rem 0 .7rem; }
.token { display: inline-block; max-width: 100%; line-height: 1.35; vertical-align: middle;
  border: 1px solid var(--line); border-radius: 3px; padding: .1rem .22rem;
  margin: 0 .1rem;  white-space: pre-wrap;
  overflow-wrap: anywhere; background: #fff; }
mark.token { background: var(--mark); border-color: #d79a2b; color: inherit; }
.token.subject { box-shadow: inset 0 -2px 0 #5a4b8c; }
.whole { white-space: nowrap; }
.gap { color: var(--soft); font-size: .85rem; }
.side { display: grid; grid-template-columns: minmax(0, 1fr); gap: .4rem 1.6rem; }
@media (min-width: 1000px) {
  .side.two { grid-template-columns: minmax(0, 1fr) minmax(0, 1fr); row-gap: 0; }
  .side.two > article { display: grid; grid-row: span 4; grid-template-rows: subgrid; }
}
figure { margin: .5rem 0 1.1rem; min-width: 0; }
figure > .plot { width: 100%; overflow-x: auto; overflow-y: hidden; }
figure > .plot.wide > div { min-width: 620px; }
figure img { max-width: 100%; height: auto; display: block; }
figcaption { color: var(--soft); max-width: 46rem; }
.scroll { overflow-x: auto; max-width: 100%; }
table { border-collapse: collapse; font-size: .88rem; margin: .5rem 0; font-variant-numeric: tabular-nums; }
caption { text-align: left; color: var(--soft); padding-bottom: .25rem; max-width: 46rem; }
th, td { padding: .16rem .7rem .16rem 0; text-align: left; vertical-align: top; }
thead th { border-bottom: 1px solid var(--ink); }
tbody tr + tr > * { border-top: 1px solid var(--line); }
td.number, th.number { text-align: right; white-space: nowrap; }
details { margin: .3rem 0; }
summary { cursor: pointer; color: #1d4f91; }
footer { margin-top: 2.5rem; color: var(--soft); font-size: .86rem;
  border-top: 1px solid var(--line); padding-top: .6rem; }
@media (max-width: 520px) {
  body { font-size: 16px; }
  main { padding: 1.1rem .8rem 2.5rem; }
  h1 { font-size: 1.4rem; }
}
@media print {
  @page { margin: 14mm 13mm; }
  body { font-size: 10.5pt; }
  main { max-width: none; padding: 0; }
  nav, .modebar-container { display: none !important; }
  .side.two { grid-template-columns: minmax(0, 1fr); }
  .side.two > article { display: block; }
  article, figure, table, .tokens, .summary { break-inside: avoid; }
  details:not([open]) { display: none; }
  h1, h2, h3, caption { break-after: avoid; }
  .scroll, figure > .plot { overflow: visible; }
  pre { white-space: pre-wrap; overflow-wrap: anywhere; }
  a { color: inherit; text-decoration: none; }
}
"""

# Figures are as wide as their column: on paper that is another width than on the screen.
PRINTING = """
(function () {
  var paper = 680;
  function each(width) {
    document.querySelectorAll(".js-plotly-plot").forEach(function (plot) {
      plot.parentElement.style.width = width;
      if (window.Plotly) { Plotly.Plots.resize(plot); }
    });
  }
  window.addEventListener("beforeprint", function () { each(paper + "px"); });
  window.addEventListener("afterprint", function () { each(""); });
})();
"""
