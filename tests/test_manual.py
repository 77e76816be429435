"""The manual is true: examples run and print what pages say, figures are as their script makes them, and it builds."""

from __future__ import annotations

import importlib.util
import inspect
import json
import os
import re
import shlex
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import examples
import pytest
import shipped

import mlxtrace
from mlxtrace import errors, metrics, options

ROOT = Path(mlxtrace.__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = {str(path.relative_to(DOCS).with_suffix("")): path for path in sorted(DOCS.rglob("*.md"))}
RUN = [name for name, path in PAGES.items() if examples.blocks(path, "python")]
QUICK = {"getting-started", "experiments/tracing", "experiments/mediation"}

pytestmark = pytest.mark.skipif(not PAGES, reason="installed without its manual")


@pytest.fixture
def own_template():
    """A chat template that a page gives to the demo's tokenizer is not there on the next page."""
    tokenizer = shipped.load("demo").tokenizer
    before = tokenizer.chat_template
    yield
    tokenizer.chat_template = before


def page_of(name: str):
    return pytest.param(name, marks=() if name in QUICK else pytest.mark.heavy)


@pytest.mark.parametrize("name", map(page_of, RUN))
def test_the_examples_of_a_page_run_and_print_what_it_says(
    name, tmp_path, monkeypatch, capsys, copied_once, shipped_once, own_template
):
    """With `MLXTRACE_WRITE` set, what is printed is put into the page."""
    monkeypatch.chdir(tmp_path)
    if not examples.WRITE:
        monkeypatch.setattr("matplotlib.figure.Figure.savefig", _undrawn)
    names: dict = {"__name__": "__main__"}
    found = examples.examples(PAGES[name])
    printed = [(example, example.check(names, capsys)) for example in found]
    if examples.WRITE:
        examples.rewrite(PAGES[name], printed)


def _undrawn(self, file, *_, **__) -> None:
    Path(file).write_bytes(b"undrawn") if isinstance(file, str | os.PathLike) else file.write(b"undrawn")


def test_pages_that_run_quickly_are_there():
    assert set(RUN) >= QUICK


# ---- what examples are held to


PAGE = """
```python
print("a", 1.25)
print("b")
```

```text
a 1.26
b
```

```python
int("x")
```

```text
ValueError: invalid literal for int() with base 10: 'x'
```

A sentence between them.

```text
not of the example
```
"""


def test_examples_are_read_with_what_follows_them(tmp_path, capsys):
    page = tmp_path / "page.md"
    page.write_text(PAGE)
    first, second = examples.examples(page)
    assert first.printed == "a 1.26\nb\n" and second.printed.startswith("ValueError: ")
    assert first.check({}, capsys) == "a 1.25\nb\n" and second.check({}, capsys)
    second.code = "int('1')"
    with pytest.raises(AssertionError, match="says that it raises"):
        second.check({}, capsys)
    second.code = "int('y')"
    with pytest.raises(AssertionError, match="not printed"):
        second.check({}, capsys)
    second.code = "print('1')  # → 2"
    with pytest.raises(AssertionError, match="is printed"):
        second.run({}, capsys)


@pytest.mark.parametrize(
    ("page", "said", "same"),
    [
        ("a\nb", "a\nb\n", True),
        ("a", "a\nb", False),
        ("a\nb", "a", False),
        ("a\n...\nd", "a\nb\nc\nd", True),
        ("...\nc", "a\nb\nc\nd", False),
        ("took ... s", "took 0.25 s", True),
        ("12.4 %", "12.5 %", True),
        ("12.4 %", "12.6 %", False),
        ("12 %", "13 %", False),
        ("0.50 ██", "0.51 ███", True),
        ("-0.1", "0.0", True),
        ("a.h1 2", "a.h2 2", False),
    ],
)
def test_what_counts_as_the_same(page, said, same):
    assert (examples.unlike(page, said) == "") is same


def test_pages_are_written_anew(tmp_path, capsys):
    page = tmp_path / "page.md"
    page.write_text(PAGE.replace("a 1.26\nb", "old"))
    found = examples.examples(page)
    examples.rewrite(page, [(found[0], "a 1.26\nb \n"), (found[1], found[1].printed)])
    assert page.read_text() == PAGE


# ---- pictures and numbers


def figures():
    spec = importlib.util.spec_from_file_location("manual_figures", DOCS / "figures.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def numbers() -> dict:
    return json.loads((DOCS / "figures" / "numbers.json").read_text())


def test_every_figure_is_made_by_the_script_and_shown():
    made = {path.stem for path in (DOCS / "figures").glob("*.png")}
    assert made == set(figures().FIGURES) == set(numbers())
    text = "".join(path.read_text(encoding="utf-8") for path in PAGES.values())
    assert not [name for name in made if f"figures/{name}.png" not in text]


def quoted(found: dict) -> list[tuple[str, str]]:
    """What pages say of the figures: (page, words)."""
    plan, metric, noise, window = (found[name] for name in ("engine", "metrics", "corruption", "windows"))
    heads, layers, middle = metric["head"], metric["attention"], ", middle subject tokens"
    one, three, ten = (window[f"attn, last token, {layers}"] for layers in (1, 3, 10))
    levels = [f"{noise[f'noise s{level}{middle}']:.0f}" for level in (1, 3, 10)]
    return [
        ("engine", f"{plan['null']} of {plan['cells']} cells"),
        ("engine", f"{plan['fanout']:,} token-layers"),
        ("engine", f"in place of {plan['textbook']:,}"),
        ("choosing", f"The demo, {noise['pairs']} pairs"),
        ("choosing", f"brings back {noise[f'another subject{middle}']:.0f} % at most"),
        ("choosing", "among noised pieces {} % (s1), {} % (s3) and {} % (s10)".format(*levels)),
        ("choosing", f"falls only from {noise['clean']:.1f} to {noise['noise s1, corrupted']:.1f}"),
        ("choosing", f"The demo, {metric['pairs']} pairs"),
        (
            "choosing",
            f"restores {layers['logit_diff']:.0f} % of the logit difference and {layers['prob']:.0f} % of",
        ),
        ("choosing", f"restores {heads['logit_diff']:.1f} % and {heads['prob']:.3f} %"),
        ("choosing", f"The demo, {window['facts']} facts"),
        ("choosing", f"restores {one[0]:.2f} at most, of three layers {three[0]:.2f}"),
        ("choosing", f"half of it or more for centres {three[1][0]} to {three[1][-1]}"),
        (
            "choosing",
            f"restores {ten[0]:.2f}, and half of that or more for every centre from {ten[1][0]} to {ten[1][-1]}",
        ),
    ]


def test_pages_quote_the_figures():
    for name, words in quoted(numbers()):
        text = " ".join(PAGES[name].read_text(encoding="utf-8").split())
        assert words in text, words


def test_every_metric_is_in_the_table_with_its_floor():
    rows = dict(re.findall(r"^\| `(\w+)` \|.*\| (.+) \|$", PAGES["reference/metrics"].read_text(), re.M))
    assert set(rows) == set(metrics.METRICS)
    for name, words in rows.items():
        floors = [float(x) for x in re.findall(r"\d[\d.e-]*", words)]
        assert floors == [x for x in metrics.METRICS[name].floor if x], name


def test_the_errors_of_the_page_are_those_that_are_raised():
    """Each of its titles names a class, and so does the symptom below it."""
    page = PAGES["errors"]
    titles = re.findall(r"^## (\w+): ", page.read_text(encoding="utf-8"), re.M)
    raised = [x.printed.partition(":")[0] for x in examples.examples(page) if x.printed]
    assert titles == raised and len(titles) >= 12
    assert {name for name in vars(errors) if name.endswith("Error")} >= set(titles)


def option_tables() -> str:
    """The options of the command, a table for each group."""
    parts = []
    for group in options.parser()._action_groups:
        rows = []
        for action in group._group_actions:
            name = ", ".join(f"`{flag}`" for flag in action.option_strings)
            value = " ".join(f"`{choice}`" for choice in action.choices or ())
            told = (
                (action.help or "")
                .replace("|", "\\|")
                .replace("*", "\\*")
                .replace("show program's", "show the")
            )
            rows.append(f"| {name} | {value} | {told} |")
        if rows:
            title = {"options": "The model"}.get(group.title, group.title[0].upper() + group.title[1:])
            parts.append("\n".join([f"## {title}", "", "| option | one of | |", "|---|---|---|", *rows]))
    return "\n\n".join(parts)


def test_the_page_of_the_command_has_its_options():
    """With `MLXTRACE_WRITE` set they are put there."""
    page = PAGES["reference/commands"]
    before, _, rest = page.read_text(encoding="utf-8").partition("<!-- options -->\n")
    there, _, after = rest.partition("<!-- end -->")
    wanted = f"\n{option_tables()}\n\n"
    if examples.WRITE:
        page.write_text(f"{before}<!-- options -->\n{wanted}<!-- end -->{after}", encoding="utf-8")
    else:
        assert there == wanted


def test_commands_of_the_manual_are_understood(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = 0
    for path in PAGES.values():
        for block in examples.blocks(path, "sh"):
            for line in block.replace("\\\n", " ").splitlines():
                words = shlex.split(line)
                if words[:3] == ["python", "-m", "mlxtrace.patch"] and "--help" not in words:
                    options.read(words[3:])
                    found += 1
    assert found >= 4


# Called by other rooms, or by results.
INSIDE = {"plotting.check_path", "plotting.save", "prompts.facts"}


def public() -> dict[str, str]:
    """Names that users call, and where each is defined."""
    rooms = {
        "": mlxtrace,
        **{f"{x}.": getattr(mlxtrace, x) for x in ("compiled", "interactive", "plotting", "prompts")},
    }
    rooms |= {"facts.": mlxtrace.facts}
    found = {}
    for prefix, room in rooms.items():
        for name in room.__all__:
            value = inspect.unwrap(getattr(room, name))
            if inspect.isclass(value) or inspect.isfunction(value):
                found[prefix + name] = f"{value.__module__}.{value.__qualname__}"
    experiments = {name: inspect.unwrap(value) for name, value in vars(mlxtrace.InterpretableModel).items()}
    given = {name: value for name, value in experiments.items() if inspect.isfunction(value)}
    own = mlxtrace.InterpretableModel.__module__
    return found | {
        f"model.{n}": f"{v.__module__}.{v.__qualname__}" for n, v in given.items() if v.__module__ != own
    }


def test_the_reference_has_every_public_name():
    text = "".join(path.read_text(encoding="utf-8") for path in (DOCS / "reference").glob("*.md"))
    there = set(re.findall(r"^::: (\S+)$", text, re.M))
    missing = {name: home for name, home in public().items() if home not in there and name not in INSIDE}
    assert not missing


@pytest.mark.parametrize("name", ["engine", "directions"])
def test_figures_that_are_quick_to_make_are_as_they_were(name):
    figure, found = figures().FIGURES[name]()
    assert found == numbers()[name] and figure.axes


def _numbers_in(found: object) -> list[float]:
    if isinstance(found, dict):
        found = list(found.values())
    if not isinstance(found, list):
        return [float(found)]
    return [number for part in found for number in _numbers_in(part)]


@pytest.mark.heavy
@pytest.mark.parametrize("name", ["metrics", "corruption", "windows"])
def test_figures_that_take_longer_are_as_they_were(name):
    """To within what another BLAS rounds otherwise."""
    _, found = figures().FIGURES[name]()
    assert _numbers_in(found) == pytest.approx(_numbers_in(numbers()[name]), abs=0.11)


# ---- the whole


class _Page(HTMLParser):
    """What a page links to, what it loads, and the places in it."""

    def __init__(self, text: str):
        super().__init__()
        self.links, self.loads, self.places = [], [], set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list) -> None:
        given = dict(attrs)
        self.places |= {given[name] for name in ("id", "name") if given.get(name)}
        if tag == "a" and given.get("href"):
            self.links.append(given["href"])
        elif tag in ("img", "script", "iframe") and given.get("src"):
            self.loads.append(given["src"])
        elif tag == "link" and given.get("rel") != "canonical":
            self.loads.append(given.get("href", ""))


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    """The manual, built as readers build it."""
    pytest.importorskip("material", reason="pip install -e '.[docs]'")
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "-d", str(folder)]
    env = {**os.environ, "NO_MKDOCS_2_WARNING": "1", "HF_HUB_OFFLINE": "1", "MPLBACKEND": "Agg"}
    env["PYTHONPATH"] = str(ROOT)
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=env, timeout=900, check=False)
    assert run.returncode == 0, run.stderr[-5000:]
    return folder


@pytest.mark.heavy
def test_the_manual_builds_and_links_lead_somewhere(site):
    pages = {path: _Page(path.read_text(encoding="utf-8")) for path in sorted(site.rglob("*.html"))}
    assert len(pages) > len(PAGES)
    lost = []
    for path, page in pages.items():
        for target in [*page.links, *page.loads]:
            parts = urlsplit(target)
            if parts.scheme in ("http", "https", "mailto", "data", "javascript"):
                continue
            if path.name == "404.html":  # its links are those of a server's root
                continue
            file = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            file = file / "index.html" if file.is_dir() else file
            there = file.is_file() and (not parts.fragment or file.suffix != ".html" or
                                        unquote(parts.fragment) in pages[file].places)  # fmt: skip
            if not there:
                lost.append(f"{path.relative_to(site)}: {target}")
    assert not lost


@pytest.mark.heavy
def test_nothing_is_fetched(site):
    """Neither by a page nor by its style sheets."""
    for path in site.rglob("*.html"):
        fetched = [x for x in _Page(path.read_text(encoding="utf-8")).loads if x.startswith(("http", "//"))]
        assert not fetched, path
    for path in site.rglob("*.css"):
        assert not re.findall(r"url\(['\"]?(?:https?:)?//", path.read_text(encoding="utf-8")), path


@pytest.mark.heavy
def test_docstrings_are_rendered_as_sections(site):
    text = (site / "reference" / "experiments.html").read_text(encoding="utf-8")
    for title in ("Parameters:", "Returns:", "Raises:", "Examples:"):
        assert text.count(title) >= 12, title
    everything = "".join(path.read_text(encoding="utf-8") for path in (site / "reference").glob("*.html"))
    assert "<blockquote>" not in everything and "Args:" not in everything and "Example:" not in everything
