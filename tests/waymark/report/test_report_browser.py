import os
import re
import shutil
import subprocess
from dataclasses import replace

import landmark_frames
import pytest
import report_frames as made

from waymark.report.page import report_page

pytestmark = pytest.mark.slow

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)

HOSTILE = "<img src=x onerror=\"document.documentElement.dataset.hacked='yes'\"><b>Zadar</b>"

# Before anything else runs: errors are written where the dumped page shows them, and folds hide as in browsers that
# know no layout of what is hidden. After it: hover over a record.
FOLDS = "<style>details:not([open]) > :not(summary) { display: none; }</style>"
LISTEN = "<script>addEventListener('error', (e) => { document.documentElement.dataset.failed = e.message; });</script>"
HOVER = """<script>
addEventListener("load", () => setTimeout(() => {
  const map = document.getElementById("plot-model-1-map");
  Plotly.Fx.hover(map, [{curveNumber: map.data.length - 1, pointNumber: 3}]);
  document.querySelectorAll("details").forEach((fold) => { fold.open = true; });
}, 500));
</script>"""


def dumped(page, folder):
    file = folder / "report.html"
    file.write_text(page, encoding="utf-8")
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
             "--disable-background-networking", "--disable-component-update", "--disable-dev-shm-usage",
             "--window-size=1280,900",
             f"--user-data-dir={folder / 'profile'}", "--virtual-time-budget=10000"]  # fmt: skip
    command = [CHROMIUM, *flags, "--dump-dom", file.as_uri()]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout


@pytest.mark.skipif(CHROMIUM is None and not os.environ.get("CI"), reason="no chromium on PATH; CI must have one")
def test_a_browser_draws_every_figure_and_runs_no_hostile_name(tmp_path):
    assert CHROMIUM, "CI needs chromium on PATH to see the report drawn"
    model = made.model("cells", 62)
    model = replace(model, predictions=model.predictions.assign(record_id=HOSTILE))
    report = made.report([model])
    report = replace(report, data=replace(report.data, landmarks=made.landmarks(9).assign(name=HOSTILE)))
    page = report_page(report)
    dom = dumped(page.replace("<head>", f"<head>{LISTEN}{FOLDS}").replace("</body>", f"{HOVER}</body>"), tmp_path)

    assert "data-failed" not in dom.partition("<head>")[0]
    assert "data-hacked" not in dom.partition("<head>")[0]
    figures = page.count('class="plotly-graph-div"')
    assert figures == dom.count("plotly-graph-div js-plotly-plot") == 16
    drawn = dom.split("plotly-graph-div js-plotly-plot")[1:]
    for figure in drawn:
        assert 'class="main-svg"' in figure
        assert re.search(r'<path class="(js-line|point|js-fill)"|<g class="point"', figure), figure[:200]
    risk = next(figure for figure in drawn if "by the error itself" in figure)
    width = re.search(r'<svg class="main-svg"[^>]*? width="(\d+)', risk)
    assert int(width[1]) > 900  # it was drawn in a closed fold, and fills the page once that is open
    test_records = ((model.predictions["split"] == "test") & model.predictions["distance_km"].notna()).sum()
    error_map = next(figure for figure in drawn if 'id="plot-model-1-map"' in figure[:100] or "25 worst" in figure)
    assert error_map.count('<path class="point"') >= test_records
    hover = re.sub(r'data-unformatted="[^"]*"', "", error_map.partition('class="hoverlayer"')[2])
    assert "onerror=" in hover  # as text that is read, not as an attribute that runs
    assert "&lt;img src=x" in hover
    assert "&lt;b&gt;Zadar" in hover


@pytest.mark.skipif(CHROMIUM is None and not os.environ.get("CI"), reason="no chromium on PATH; CI must have one")
def test_a_browser_draws_a_page_of_landmarks_and_its_pictures(tmp_path):
    assert CHROMIUM, "CI needs chromium on PATH to see the report drawn"
    page = report_page(landmark_frames.report([landmark_frames.model(HOSTILE, attends=True)]))
    sized = """<script>addEventListener("load", () => {
      document.documentElement.dataset.broken = [...document.images].filter((its) => !its.naturalWidth).length;
    });</script>"""
    dom = dumped(page.replace("<head>", f"<head>{LISTEN}").replace("</body>", f"{sized}</body>"), tmp_path)
    head = dom.partition("<head>")[0]
    assert "data-failed" not in head
    assert "data-hacked" not in head
    assert 'data-broken="0"' in head
    drawn = dom.split("plotly-graph-div js-plotly-plot")[1:]
    assert len(drawn) == page.count('class="plotly-graph-div"') == 6
    precision = next(figure for figure in drawn if "calibrated threshold" in figure)
    assert precision.count('class="js-line"') >= 2
    assert 'class="point"' in precision
