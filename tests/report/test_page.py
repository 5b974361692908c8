"""The report holds what it should, from the file alone, and nothing from outside."""

from __future__ import annotations

import base64
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import pytest
import xarray as xr

from nuppl.diagnostics.checks import Check
from nuppl.diagnostics.verdict import Verdict
from nuppl.errors import InputError
from nuppl.report.page import render
from nuppl.results.storage import load, save

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
PICTURES = ("Parameters of interest", "Counts: near, far", "Counts, by detector", "Pulls", "Pulls: spectrum shape")


@pytest.fixture(scope="module")
def page(groups, tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    stored = load(save(groups, folder / "posterior.nc"))
    return render(stored, folder / "report.html", "nuppl infer <model>.py --seed 9")


class Links(HTMLParser):
    """Everything that a browser would fetch, and the text of the page."""

    def __init__(self) -> None:
        super().__init__()
        self.sources: list[str] = []
        self.text = ""

    def handle_starttag(self, tag, attrs):
        self.sources += [value for name, value in attrs if name in ("src", "href", "srcset", "data")]

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


def test_numbers_and_provenance_are_on_the_page(parsed):
    for text in (
        "This posterior can be trusted",
        "0.0850 ± 0.0024",
        "sin2_2theta13",
        "nuppl infer <model>.py --seed 9",
        "<HM> & more",
        "<b>hostile</b> docstring",
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


def test_a_bad_verdict_leads_the_page(groups, tmp_path):
    verdict = Verdict(False, (Check("Pareto k", 0.93, "< 0.7", False, "use an exact engine"),))
    short = {**groups, "posterior": groups["posterior"][["sin2_2theta13"]], "observed_data": xr.Dataset()}
    text = render(short, tmp_path / "x.html", verdict=verdict).read_text()
    assert 'class="verdict bad"' in text and text.index("Do not trust") < text.index("Parameters of interest")
    assert "Pareto k: use an exact engine." in text


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


PROBE = """<script>addEventListener("load", () => {
  const images = [...document.images];
  document.title = "probe " + JSON.stringify({
    loaded: images.filter(i => i.complete && i.naturalWidth > 0).length,
    overflow: document.documentElement.scrollWidth - document.documentElement.clientWidth,
    clipped: [...document.querySelectorAll(".scroll")].filter(e => e.scrollWidth > e.clientWidth + 1).length,
  });
});</script></body>"""


@pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")
@pytest.mark.parametrize("width", [800, 1280])
def test_a_browser_shows_it_without_complaint(page, tmp_path, width):
    probed = tmp_path / "probed.html"
    probed.write_text(page.read_text().replace("</body>", PROBE))
    seen = chromium(tmp_path, f"--window-size={width},900", "--dump-dom", probed.as_uri())
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
