"""Pages in a real browser: nothing is cut off, on a telephone or a screen; no value is missing."""

import html
import json
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from support import FACTS, prediction, record

from pruneloop.records import LayerRecord, RoundRecord, RunFolder
from pruneloop.report.points import read_runs
from pruneloop.report.run import write_report
from pruneloop.report.sweep import write_sweep

BROWSER = next(filter(None, map(shutil.which, ("chromium", "google-chrome", "chrome"))), None)

pytestmark = [
    pytest.mark.more,
    pytest.mark.skipif(BROWSER is None, reason="no Chromium is installed"),
]

LOOK = """
<!doctype html><body style="margin:0"><pre id="found"></pre>
<iframe id="page" style="width:{width}px;height:900px;border:0" srcdoc="{page}"></iframe>
<script>
document.getElementById("page").onload = event => {{
  const page = event.target.contentDocument;
  page.querySelectorAll("details").forEach(each => each.open = true);
  const boxes = [page.documentElement, ...page.querySelectorAll(".scroll, pre, td, th")];
  const cut = boxes.filter(box => box.scrollWidth > box.clientWidth + 1);
  const seen = page.querySelector("main");
  document.getElementById("found").textContent = JSON.stringify({{
    cut: cut.map(box => box.tagName + "." + box.className + ": " + box.textContent.slice(0, 60)),
    text: seen.innerText,
    panels: [...page.querySelectorAll(".panel")].filter(panel => panel.offsetHeight).length,
    rings: [...page.querySelectorAll("[id^=ring-]")].filter(
      ring => ring.getBoundingClientRect().height).length,
    dark: getComputedStyle(page.body).backgroundColor,
  }});
}};
</script>
"""

MISSING = re.compile(r"\b(None|nan|undefined|inf)\b|\{\{|%\(")


def look(page: Path, width: int, tmp_path: Path, *flags: str) -> dict:
    """Show a page in a frame of this width; return what a reader would see of it."""
    frame = tmp_path / "frame.html"
    text = html.escape(page.read_text(encoding="utf-8"), quote=True)
    frame.write_text(LOOK.format(width=width, page=text), encoding="utf-8")
    assert BROWSER is not None
    options = ["--headless=new", "--no-sandbox", "--disable-gpu", "--window-size=1400,1000"]
    line = [BROWSER, *options, *flags, "--virtual-time-budget=5000", "--dump-dom", frame.as_uri()]
    dom = subprocess.run(line, capture_output=True, text=True, timeout=60, check=True).stdout
    found = re.search(r'<pre id="found">(.*?)</pre>', dom, re.DOTALL)
    assert found and found[1], dom[-2000:]
    return json.loads(html.unescape(found[1]))


def layers(number: int) -> list[LayerRecord]:
    kinds = ("query", "key", "value", "attention_output", "ffn_in", "ffn_out")
    share = 1 - 0.7**number
    return [
        LayerRecord(number, f"bert.encoder.layer.{n}.{kind}.weight", kind, 1000, 0, share)
        for n in range(12)
        for kind in kinds
    ]


def rounds(count: int) -> list[RoundRecord]:
    return [
        replace(
            record(n, 0.8123 if n else None),
            sparsity=1 - 0.7**n,
            accuracy=0.95 - 0.004 * n,
            zeros=n,
        )
        for n in range(count)
    ]


@pytest.fixture(params=["en", "ko"])
def run(request: pytest.FixtureRequest, tmp_path: Path) -> RunFolder:
    """A run of twelve layers and eight rounds, with seven labels and long texts."""
    labels = ["정치", "경제", "사회", "생활문화", "세계", "IT과학", "스포츠"]
    folder = RunFolder(tmp_path / "run")
    folder.path.mkdir()
    folder.write_rounds(rounds(9))
    folder.write_layers([layer for n in range(9) for layer in layers(n)])
    data = replace(FACTS.data, labels=labels)
    folder.write_facts(replace(FACTS, data=data, language=request.param))
    long = "띄어쓰기없이아주길게이어지는문장이라서줄을바꾸기어려운리뷰" * 4
    folder.write_predictions(
        [prediction(label, label, other, long) for label in labels for other in labels]
    )
    control = RunFolder(folder.control)
    control.path.mkdir()
    control.write_rounds(rounds(9))
    write_report(folder)
    return folder


@pytest.mark.parametrize("width", [390, 1200])
def test_nothing_of_a_report_is_cut_off_and_no_value_is_missing(
    run: RunFolder, width: int, tmp_path: Path
) -> None:
    seen = look(run.report, width, tmp_path)
    assert seen["cut"] == []
    before_configuration = seen["text"].partition("prune.criterion:")[0]
    assert not MISSING.search(before_configuration), MISSING.search(before_configuration)
    assert (seen["panels"], seen["rings"]) == (1, 1)  # those of the budget that is chosen


def test_a_report_is_dark_where_the_system_is(run: RunFolder, tmp_path: Path) -> None:
    light = look(run.report, 390, tmp_path)
    dark = look(run.report, 390, tmp_path, "--blink-settings=preferredColorScheme=0")
    assert light["dark"] == "rgb(255, 255, 255)" != dark["dark"]


@pytest.mark.parametrize("width", [390, 1200])
def test_nothing_of_a_comparison_is_cut_off(run: RunFolder, width: int, tmp_path: Path) -> None:
    for name in ("a", "b"):
        shutil.copytree(run.path, tmp_path / name)
        facts = replace(FACTS, overrides=[f"prune=layer_l1_{name}", "data.path=/a/long/path"])
        RunFolder(tmp_path / name).write_facts(facts)
    write_sweep(read_runs([tmp_path / "a", tmp_path / "b"], tmp_path), "compare")
    seen = look(tmp_path / "compare.html", width, tmp_path)
    assert seen["cut"] == [] and not MISSING.search(seen["text"])
