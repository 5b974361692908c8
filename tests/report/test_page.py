"""The report holds what it should, from the file alone, and nothing from outside."""

from __future__ import annotations

import base64
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from click.testing import CliRunner

from nuppl.cli.report import report
from nuppl.diagnostics.checks import Check
from nuppl.diagnostics.verdict import Verdict
from nuppl.errors import InputError
from nuppl.report.contents import gather, write_figures
from nuppl.report.page import render
from nuppl.results.storage import load, save

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
PICTURES = (
    "Parameters of interest",
    "Prior and posterior",
    "Sensitivity to the prior",
    "Counts: near, far",
    "Counts, by detector",
    "Left out one by one: counts",
    "Pulls",
    "Pulls: spectrum shape",
    "Correlations",
    "Traces",
    "Ranks",
)


@pytest.fixture(scope="module")
def page(groups, tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    stored = load(save(groups, folder / "posterior.nc"))
    return render(stored, folder / "report.html", "nuppl infer <model>.py --seed 9")


@pytest.fixture(scope="module")
def short(groups):
    """The same result with little to draw."""
    return {
        **groups,
        "posterior": groups["posterior"][["sin2_2theta13", "background_1"]],
        "observed_data": xr.Dataset(),
    }


class Links(HTMLParser):
    """Everything that a browser would fetch, what a reader can click on, and the text of the page."""

    def __init__(self) -> None:
        super().__init__()
        self.sources: list[str] = []
        self.anchors: list[str] = []
        self.ids: list[str] = []
        self.text = ""

    def handle_starttag(self, tag, attrs):
        links = [value for name, value in attrs if name in ("src", "href", "srcset", "data")]
        (self.anchors if tag == "a" else self.sources).extend(links)
        self.ids += [value for name, value in attrs if name == "id"]

    def handle_data(self, data):
        self.text += data


@pytest.fixture(scope="module")
def parsed(page):
    links = Links()
    links.feed(page.read_text())
    return links


def test_nothing_comes_from_outside(page, parsed):
    assert parsed.sources and all(source.startswith("data:") for source in parsed.sources)
    assert "<script" not in page.read_text() and "@import" not in page.read_text() and "url(" not in page.read_text()


def test_links_lead_to_sections_and_to_the_sources(parsed):
    inside = [link[1:] for link in parsed.anchors if link.startswith("#")]
    assert len(inside) > 8 and set(inside) <= set(parsed.ids)
    outside = [link for link in parsed.anchors if not link.startswith("#")]
    assert outside == ["https://doi.org/10.1000/182", "https://arxiv.org/abs/2211.14988"]
    assert "A & B <i>Collaboration</i>, doi:10.1000/182" in parsed.text


def test_numbers_and_provenance_are_on_the_page(parsed):
    for text in (
        "This posterior can be trusted",
        "0.0850 ± 0.0024",
        "sin2_2theta13",
        "nuppl infer <model>.py --seed 9",
        "<HM> & more",
        "<b>hostile</b> docstring",
        "A result like that of a reactor experiment",
        "flat in log x",
        "208 entries",
        "docs/verdict.md#",
        "conftest.py",
        "3158",
        "R-hat, interest",
        "all other parameters",
    ):
        assert text.lower() in parsed.text.lower(), text


def test_every_figure_is_there_and_is_a_picture(page, parsed):
    assert tuple(re.findall(r'alt="([^"]*)"', page.read_text())) == PICTURES
    pictures = [s for s in parsed.sources if s.startswith("data:image/svg+xml;base64,")]
    assert len(pictures) == len(PICTURES)
    for picture in pictures:
        assert b"</svg>" in base64.b64decode(picture.partition(",")[2])


def test_the_page_is_the_same_every_time(groups, page, tmp_path):
    again = render(groups, tmp_path / "again.html", "nuppl infer <model>.py --seed 9")
    assert again.read_text() == page.read_text() and [e.name for e in tmp_path.iterdir()] == ["again.html"]


def test_a_bad_verdict_leads_the_page(short, tmp_path):
    verdict = Verdict(False, (Check("Pareto k", 0.93, "< 0.7", False, "use an exact engine"),))
    text = render(short, tmp_path / "x.html", verdict=verdict).read_text()
    assert 'class="verdict bad"' in text and text.index("Do not trust") < text.index("Parameters of interest")
    assert "Pareto k: use an exact engine." in text


def test_cautions_are_told_from_failures(short, tmp_path):
    caution = Check("pile-up", 0.3, "< 0.1", False, "look at the bound", "pile-up", serious=False)
    text = render(short, tmp_path / "x.html", verdict=Verdict(True, (caution,))).read_text()
    assert text.count('class="verdict cautious"') == 1 and 'class="verdict bad"' not in text
    failed = Check("Pareto k", 0.93, "< 0.7", False, "use an exact engine")
    both = render(short, tmp_path / "y.html", verdict=Verdict(False, (failed, caution))).read_text()
    assert both.index('class="verdict bad"') < both.index('class="verdict cautious"')
    assert both.count("look at the bound") == both.count("use an exact engine") == 2
    assert '<td class="caution">caution</td>' in text and "docs/verdict.md#pile-up" in text


def test_impacts_are_shown_where_the_result_has_them(short, tmp_path):
    size = ("interest", "group")
    split = xr.Dataset(
        {
            "value": ("interest", [0.085]),
            "error": ("interest", [0.0025]),
            "statistical": ("interest", [0.0020]),
            "unit": ("interest", [""]),
            "component": (size, [[0.0020, 0.0015]]),
            "conventional": (size, [[np.nan, 0.0015]]),
            "kind": ("group", ["data", "pull"]),
            "size": ("group", [208, 1]),
            "pull": ("group", [np.nan, 0.2]),
            "width": ("group", [np.nan, 0.9]),
            "lowest": ("group", [np.nan, 0.2]),
            "highest": ("group", [np.nan, 0.2]),
        },
        {"interest": ["sin2_2theta13"], "group": ["counts", "background_1"]},
    )
    text = render({**short, "impacts": split}, tmp_path / "x.html").read_text()
    assert 'id="impacts"' in text and 'alt="Impacts on sin2 2theta13"' in text


def test_an_older_result_without_sources_has_a_page(short, tmp_path):
    attrs = {name: value for name, value in short["/"].attrs.items() if name not in ("sources", "file_docstring")}
    text = render({**short, "/": xr.Dataset(attrs=attrs)}, tmp_path / "x.html").read_text()
    assert "<h3>Cite</h3>" not in text and "&lt;b&gt;hostile" in text


def test_every_figure_is_a_file_too(groups, tmp_path):
    save(groups, tmp_path / "posterior.nc")
    outcome = CliRunner().invoke(report, [str(tmp_path), "--figures", str(tmp_path / "figures"), "--format", "pdf"])
    assert outcome.exception is None, outcome.output
    names = [re.sub(r"[^a-z0-9]+", "-", title.lower()) for title in PICTURES]
    assert sorted(file.name for file in (tmp_path / "figures").iterdir()) == sorted(f"{name}.pdf" for name in names)
    assert all(file.read_bytes().startswith(b"%PDF") for file in (tmp_path / "figures").iterdir())
    assert outcome.output.split()[0] == str(tmp_path / "report.html")


def test_figures_in_no_format_or_place(short, tmp_path):
    contents = gather(short)
    with pytest.raises(InputError, match="unknown format of figures 'gif'"):
        write_figures(contents, tmp_path, "gif")
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="expected a folder, found a file"):
        write_figures(contents, tmp_path / "file")


def test_only_posteriors_have_a_report(groups, tmp_path):
    with pytest.raises(InputError, match="a result with a posterior"):
        render({"/": groups["/"], "observed_data": groups["observed_data"]}, tmp_path / "x.html")


def chromium(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [
        CHROMIUM,
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-background-networking",
        "--no-first-run",
        "--enable-logging=stderr",
        "--v=0",
        f"--user-data-dir={folder / 'profile'}",
        *arguments,
    ]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)


PROBE = """<script>
const parse = text => text.match(/[\\d.]+/g).map(Number);
const light = c => c.slice(0, 3).map(x => x / 255).map(x => x <= 0.03928 ? x / 12.92 : ((x + 0.055) / 1.055) ** 2.4)
  .reduce((sum, x, i) => sum + x * [0.2126, 0.7152, 0.0722][i], 0);
function contrast(element) {
  let at = element, paper = [255, 255, 255];
  for (; at; at = at.parentElement) {
    const c = parse(getComputedStyle(at).backgroundColor);
    if (c.length < 4 || c[3] > 0) { paper = c; break; }
  }
  const pair = [light(parse(getComputedStyle(element).color)), light(paper)];
  return (Math.max(...pair) + 0.05) / (Math.min(...pair) + 0.05);
}
addEventListener("load", () => {
  const images = [...document.images];
  document.title = "probe " + JSON.stringify({
    loaded: images.filter(i => i.complete && i.naturalWidth > 0).length,
    overflow: document.documentElement.scrollWidth - document.documentElement.clientWidth,
    clipped: [...document.querySelectorAll(".scroll, pre, dl, figure, nav")]
      .filter(e => e.scrollWidth > e.clientWidth + 1).length,
    dark: matchMedia("(prefers-color-scheme: dark)").matches,
    faint: [...document.querySelectorAll("p, td, th, li, dt, dd, pre, a, h2, h3, figcaption, strong, code")]
      .filter(e => contrast(e) < 4.5).map(e => e.textContent.slice(0, 30)),
  });
});</script></body>"""


@pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")
@pytest.mark.parametrize("width", [800, 1280])
@pytest.mark.parametrize("dark", [False, True])
def test_a_browser_shows_it_without_complaint(page, tmp_path, width, dark):
    probed = tmp_path / "probed.html"
    probed.write_text(page.read_text().replace("</body>", PROBE))
    # 0 is dark, 1 is light.
    scheme = f"--blink-settings=preferredColorScheme={0 if dark else 1}"
    seen = chromium(tmp_path, scheme, f"--window-size={width},900", "--dump-dom", probed.as_uri())
    assert f'"dark":{"true" if dark else "false"}' in seen.stdout and '"faint":[]' in seen.stdout, seen.stdout[:900]
    assert f'"loaded":{len(PICTURES)}' in seen.stdout and '"overflow":0' in seen.stdout, seen.stdout[:300]
    assert '"clipped":0' in seen.stdout, seen.stdout[:300]
    assert "CONSOLE" not in seen.stderr


@pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")
def test_the_browser_check_can_fail(page, tmp_path):
    broken = tmp_path / "broken.html"
    text = page.read_text().replace("data:image/svg+xml;base64,PD94", "data:image/svg+xml;base64,AAAA", 1)
    broken.write_text(text.replace("</body>", PROBE + "<script>nothing()</script>"))
    seen = chromium(tmp_path, "--window-size=1280,900", "--dump-dom", broken.as_uri())
    assert f'"loaded":{len(PICTURES) - 1}' in seen.stdout and "CONSOLE" in seen.stderr
