"""Pages opened in a browser: what a console says, what is fetched, and what hovering shows."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any, NamedTuple

import pytest

PROBE = """
<script>
const found = {errors: [], hovers: [], popped: window.popped || 0};
addEventListener("error", e => found.errors.push(String(e.message)));
addEventListener("securitypolicyviolation", e => found.errors.push("blocked: " + e.blockedURI));
const wait = ms => new Promise(done => setTimeout(done, ms));
addEventListener("load", async () => {
  await wait(300);
  for (const plot of document.querySelectorAll(".js-plotly-plot")) {
    const points = POINTS;
    for (const point of points) {
      try {
        if ("step" in point) await Plotly.restyle(plot, plot.layout.sliders[0].steps[point.step].args[0]);
        if (point.curveNumber === -1) {  // the middle of the last map, or a point of the last trace
          const k = plot.data.length - 1, trace = plot._fullData.filter(t => t.visible === true).at(-1);
          if (trace.type === "heatmap") {
            const spot = {xval: trace.x.length - 1, yval: 1};
            Plotly.Fx.hover(plot, spot, trace.xaxis + trace.yaxis);
          } else Plotly.Fx.hover(plot, [{curveNumber: k, pointNumber: 0}], "xy");
        } else if ("xval" in point) Plotly.Fx.hover(plot, point, point.subplot || "xy");
        else Plotly.Fx.hover(plot, [point], Object.keys(plot._fullLayout._plots));
      }
      catch (e) { found.errors.push("hover: " + e); }
      await wait(120);  // plotly hovers every 50 ms at most
      const texts = [...plot.querySelectorAll(".hoverlayer text")].map(t => t.textContent);
      found.hovers.push(texts.join(" | "));
    }
  }
  found.links = document.querySelectorAll("svg a").length;
  found.fetched = performance.getEntriesByType("resource").map(e => e.name).filter(n => !n.startsWith("data:"));
  found.texts = [...document.querySelectorAll("svg text")].map(t => t.textContent);
  found.popped = window.popped || 0;
  const out = document.createElement("pre");
  out.id = "found";
  out.textContent = JSON.stringify(found);
  document.body.append(out);
});
</script>
"""


class Seen(NamedTuple):
    """What a browser has of a page; texts of hover labels in the order of the points."""

    errors: list[str]
    hovers: list[str]
    fetched: list[str]
    texts: list[str]
    links: int
    popped: int


def opened(path: Path, points: list[dict[str, Any]], folder: Path) -> Seen:
    """Open a page without a network, hover over points of each figure, and look; skips without chromium."""
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("no chromium")
    probed = folder / f"probed_{path.name}"
    text = path.read_text(encoding="utf-8")
    probed.write_text(
        text.replace("<head>", f"<head>{PROBE.replace('POINTS', json.dumps(points))}", 1), "utf-8"
    )
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--window-size=1000,900", "--dump-dom"]
    options += [
        f"--user-data-dir={folder / 'browser'}",
        "--virtual-time-budget=20000",
        "--enable-logging=stderr",
    ]
    run = subprocess.run([browser, *options, probed.as_uri()], capture_output=True, text=True, timeout=120)
    said = re.search(r'<pre id="found">(.*?)</pre>', run.stdout, re.DOTALL)
    assert said, run.stderr[-2000:]
    found = json.loads(html.unescape(said[1]))
    console = [line for line in run.stderr.splitlines() if "CONSOLE" in line]
    names = ("hovers", "fetched", "texts", "links", "popped")
    return Seen([*found["errors"], *console], *(found[name] for name in names))
