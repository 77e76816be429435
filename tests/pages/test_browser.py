"""The page in a browser: nothing fetched, no error, hovering shows a value, hostile texts inert, and printed whole."""

import re
import shutil
import subprocess

import numpy as np
import pytest
from opened_pages import opened
from test_document import HOSTILE
from test_patching_result import make

import mlxtrace

pytestmark = pytest.mark.heavy
RAW = np.random.default_rng(4).uniform(0.1, 0.9, (2, 3, 4))


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """Both directions of a map, whose texts are hostile, and the path of their page."""
    tokens = ["The", HOSTILE, "<b>x", " of"]
    texts = {"clean_text": f"The {HOSTILE}", "tokens": tokens, "corrupted_tokens": ["The", " a", " b", " of"]}
    dims = "component", "layer", "position"
    maps = [make(RAW, dims, direction=way, notes=[HOSTILE], **texts) for way in ("denoise", "noise")]
    path = tmp_path_factory.mktemp("page") / "x.html"
    return maps, mlxtrace.report(maps, path, title=f"A page {HOSTILE}")


def test_it_opens_hovers_and_fetches_nothing(page, tmp_path):
    maps, path = page
    seen = opened(path, [{"xval": 1, "yval": 0}, {"xval": 2, "yval": 3}], tmp_path)
    assert not seen.errors and not seen.fetched and not seen.links and not seen.popped
    wanted = [f"{maps[0].recovery[c, layer, p]:.1f} %" for c in (0, 1) for layer, p in ((1, 0), (2, 3))]
    shown = "\n".join(seen.hovers)
    assert len(seen.hovers) == 8 and all(value in shown for value in wanted)


def test_a_script_that_is_put_into_it_does_not_run(page, tmp_path):
    _, path = page
    text = path.read_text("utf-8").replace("<h1>", "<script>window.popped = 1</script><h1>", 1)
    (tmp_path / "changed.html").write_text(text, "utf-8")
    seen = opened(tmp_path / "changed.html", [], tmp_path)
    assert not seen.popped and seen.errors and all("inline" in error for error in seen.errors)


def test_it_prints_to_pdf(page, tmp_path):
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("no chromium")
    pdf = tmp_path / "x.pdf"
    options = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'browser'}"]
    run = [browser, *options, "--no-pdf-header-footer", f"--print-to-pdf={pdf}", page[1].as_uri()]
    subprocess.run(run, capture_output=True, timeout=120, check=True)
    data = pdf.read_bytes()
    assert data.startswith(b"%PDF") and len(data) > 20_000
    assert len(re.findall(rb"/Type\s*/Page\b", data)) >= 2


def test_500_tokens_and_80_layers_stay_below_6_mb(tmp_path):
    raw = np.random.default_rng(0).uniform(0.1, 0.9, (3, 80, 500))
    tokens = [f" token{i}" for i in range(500)]
    components = ["resid_post", "mlp", "attn"]
    coords = {"component": components, "layer": list(range(80)), "position": list(range(500))}
    texts = {
        "tokens": tokens,
        "corrupted_tokens": [*tokens[:250], " x", *tokens[251:]],
        "clean_text": "".join(tokens),
    }
    maps = [
        make(raw, tuple(coords), coords=coords, components=components, direction=way, **texts)
        for way in ("denoise", "noise")
    ]
    coords = {"layer": list(range(80)), "head": list(range(64))}
    heads = [
        make(raw[0, :, :64], tuple(coords), coords=coords, components=["head"], direction=way, **texts)
        for way in ("denoise", "noise")
    ]
    page = mlxtrace.report([*maps, *heads], tmp_path / "x.html")
    assert page.stat().st_size < 6e6
    assert "rows" in page.read_text("utf-8")  # what is cut is said
