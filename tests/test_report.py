"""What people look at: the printed lines, the page of a run, and its pictures."""

import re
import subprocess
from dataclasses import replace
from pathlib import Path

import matplotlib.image
import pytest
import yaml
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support
from support import FACTS, REPORT_LINE, record
from support import prediction as row

from pruneloop.errors import InputError
from pruneloop.records import LayerRecord, RunFolder
from pruneloop.report.answer import answers
from pruneloop.report.card import model_card
from pruneloop.report.curve import accuracy_curve, limits
from pruneloop.report.figures import heat_map, save_png, to_svg
from pruneloop.report.layers import by_kind, by_layer_and_kind
from pruneloop.report.predictions import changes, confusions, moved
from pruneloop.report.run import write_report
from pruneloop.report.table import TABLE_HEADER, plan_table, table_line

DENSE = replace(record(0, None), accuracy=0.9, loss=0.3, seconds=12.34)
PRUNED = replace(
    record(3, 0.51234), sparsity=0.488, model_sparsity=0.4526, accuracy=0.8876, loss=0.3456
)


def test_the_dense_round_has_no_shock_and_no_change() -> None:
    assert table_line(DENSE, 0.9) == (
        "    0     0.00%           0.00%           -    0.9000         -  0.3000     12.3"
    )


def test_a_pruned_round_shows_its_distance_to_dense() -> None:
    assert table_line(PRUNED, 0.9) == (
        "    3    48.80%          45.26%      0.5123    0.8876  -1.24 pt  0.3456      1.5"
    )
    assert "+0.76 pt" in table_line(PRUNED, 0.88)


def test_the_columns_end_where_their_titles_end() -> None:
    assert len(table_line(DENSE, 0.9)) == len(table_line(PRUNED, 0.9)) == len(TABLE_HEADER)


def test_the_plan_has_every_rounds_zeros() -> None:
    even = [(0, 0), (20_000, 20_000), (36_000, 36_000)]
    assert plan_table(even, 100_000, 200_000).splitlines() == [
        "round  sparsity  model sparsity  zeros expected",
        "    0     0.00%           0.00%               0",
        "    1    20.00%          10.00%          20,000",
        "    2    36.00%          18.00%          36,000",
    ]
    assert plan_table([(500, 500), (600, 700)], 1000, 2000).splitlines() == [
        "round  sparsity  model sparsity  zeros at most",
        "    0    50.00%          25.00%            500  (at least 500)",
        "    1    70.00%          35.00%            700  (at least 600)",
    ]


# -- where the zeros are -------------------------------------------------------------------


def layer(number: int, name: str, kind: str, zeros: int) -> LayerRecord:
    return LayerRecord(
        round=number, name=name, kind=kind, size=100, zeros=zeros, sparsity=zeros / 100
    )


LAYERS = [
    layer(0, "bert.encoder.layer.0.attention.self.query.weight", "query", 0),
    layer(0, "bert.encoder.layer.11.attention.self.query.weight", "query", 0),
    layer(0, "bert.pooler.dense.weight", "pooler", 0),
    layer(1, "bert.encoder.layer.0.attention.self.query.weight", "query", 10),
    layer(1, "bert.encoder.layer.11.attention.self.query.weight", "query", 30),
    layer(1, "bert.pooler.dense.weight", "pooler", 7),
]


def test_the_grid_has_a_cell_for_each_layer_and_kind() -> None:
    grid = by_layer_and_kind(LAYERS[3:])
    assert grid.rows == ["0", "11", "-"] and grid.kinds == ["query", "pooler"]
    assert grid.cells == [[0.1, None], [0.3, None], [None, 0.07]]


def test_kinds_are_added_up_round_by_round() -> None:
    query, pooler = by_kind(LAYERS)
    assert (query.name, query.matrices, query.size, query.zeros) == ("query", 2, 200, 40)
    assert query.sparsities == [0.0, 0.2]
    assert (pooler.matrices, pooler.sparsities) == (1, [0.0, 0.07])


# -- predictions ----------------------------------------------------------------------------


ROWS = [
    row("긍정", "긍정", "부정", "재미있다 <b>정말</b>"),
    row("부정", "긍정", "부정"),
    row("중립", "긍정", "부정"),
    row("긍정", "긍정", "긍정"),
    row("부정", "부정", "부정"),
]
LABELS = ["부정", "긍정", "중립"]


def test_label_scores_are_those_of_scikit_learn() -> None:
    for side, confusion in zip(("dense", "pruned"), confusions(ROWS, LABELS), strict=True):
        true, said = [r.label for r in ROWS], [getattr(r, side) for r in ROWS]
        assert confusion.counts == confusion_matrix(true, said, labels=LABELS).tolist()
        theirs = precision_recall_fscore_support(true, said, labels=LABELS, zero_division=0.0)
        ours = [(s.precision, s.recall, s.f1, s.support) for s in confusion.scores()]
        assert ours == [pytest.approx(column) for column in zip(*theirs, strict=True)]


def test_changes_are_sorted_by_what_they_did() -> None:
    found = changes(ROWS)
    assert (found.broken, found.mended, found.other) == (ROWS[:1], ROWS[1:2], ROWS[2:3])


def test_the_surest_changes_come_first() -> None:
    rows = [row("긍정", "긍정", "부정", sure=sure) for sure in (0.6, 0.9, 0.7)]
    assert [r.pruned_confidence for r in changes(rows).broken] == [0.9, 0.7, 0.6]


def test_what_moved_is_better_on_the_diagonal_and_worse_beside_it() -> None:
    cells = moved(*confusions(ROWS, LABELS))
    assert [[cell.change for cell in row] for row in cells] == [[1, -1, 0], [1, -1, 0], [1, -1, 0]]
    assert [cells[0][0].better, cells[0][1].better, cells[1][0].better, cells[1][1].better] == [
        *(True, True, False, False)
    ]


CURVE = [DENSE, record(1, 0.7), PRUNED]


# -- pictures -------------------------------------------------------------------------------


def test_the_pictures_are_pngs(tmp_path: Path) -> None:
    """A missing glyph would be a warning, and warnings are errors here."""
    figure, _ = accuracy_curve(CURVE, FACTS, answers(CURVE, FACTS))
    for name, picture in (("curve", figure), ("heat", heat_map(LAYERS[3:]))):
        save_png(picture, tmp_path / f"{name}.png")
        pixels = matplotlib.image.imread(tmp_path / f"{name}.png")
        assert pixels[..., :3].std() > 0.05  # something is drawn on the white


def test_a_picture_is_whole_or_its_name_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that is full leaves the old one, and a link in its place is not followed."""
    victim, path = tmp_path / "victim", tmp_path / "heat.png"
    victim.write_text("mine")
    path.symlink_to(victim)
    save_png(heat_map(LAYERS[3:]), path)
    assert victim.read_text() == "mine" and not path.is_symlink()
    before = path.read_bytes()

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match=r"No space left on device: .*heat\.png"):
        save_png(heat_map(LAYERS[:3]), path)
    assert path.read_bytes() == before


def test_the_curve_tells_its_values() -> None:
    svg = to_svg(*accuracy_curve(CURVE, FACTS, answers(CURVE, FACTS)), "the curve")
    tips = re.findall(r'data-tip="([^"]*)"', svg)
    assert len(tips) == 3 + 3 + 2  # no shock in round 0
    assert "round 3: 48.80% sparse, validation 0.8876" in tips
    assert "round 3: 48.80% sparse, right after the prune 0.5123" in tips
    assert svg.count("tabindex") == len(tips) and 'aria-label="the curve"' in svg
    for index in range(3):  # what the buttons of the page show and hide
        for part in ("budget", "said", "ring"):
            assert f'id="{part}-{index}"' in svg
    assert "#1c2330" not in svg  # the ink is the page's own, in any scheme


@pytest.mark.parametrize(
    ("values", "low", "high"),
    [([0.90, 0.91], 0.878, 0.932), ([0.99, 1.0], 0.946, 1.0), ([0.2, 0.9], 0.172, 0.928)],
)
def test_the_axis_has_five_points_and_ends_at_1(values, low: float, high: float) -> None:
    assert limits(values) == pytest.approx((low, high))


# -- the page --------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    folder = RunFolder(tmp_path / "run")
    folder.path.mkdir()
    folder.write_rounds([record(0, None), record(1, 0.7)])
    folder.write_layers(LAYERS)
    folder.write_facts(FACTS)
    folder.write_predictions(ROWS)
    folder.checkpoint.mkdir()
    (folder.checkpoint / "model.safetensors").write_bytes(bytes(8_500_000))
    return folder


def test_the_page_says_where_a_result_depends_on_its_batch(folder: RunFolder) -> None:
    write_report(folder)
    assert "in its batch" not in folder.report.read_text(encoding="utf-8")
    card = "# x\n\n## Padding\n\nThe result depends on the others in its batch.\n"
    (folder.checkpoint / "README.md").write_text(card, encoding="utf-8")
    write_report(folder)
    assert "depends on the others in its batch" in folder.report.read_text(encoding="utf-8")


def test_the_page_stands_alone(folder: RunFolder) -> None:
    write_report(folder)
    page = folder.report.read_text(encoding="utf-8")
    assert len(page.encode()) < 1_000_000
    outside = re.findall(r'(?:src|href|url)\s*[=(]\s*["\']?(?!#|data:)([^"\')\s>]+)', page)
    assert not outside, outside
    assert "<link" not in page and "@import" not in page and "fetch(" not in page
    assert 'name="viewport"' in page and '<meta charset="utf-8">' in page


def test_the_page_has_what_was_recorded(folder: RunFolder) -> None:
    write_report(folder)
    page = folder.report.read_text(encoding="utf-8")
    for text in (
        "How sparse can monologg/kobert be?",
        "python train.py &#39;data.path=&#34;/자료&#34;&#39;",
        "재미있다 &lt;b&gt;정말&lt;/b&gt;",  # escaped
        "8.50 MB",
        "make neither the dense file smaller",
        "1 right predictions wrong and 1 wrong ones right",
        "For at most 1 points, <b>20.00%</b> of the prunable weights can go, in round 1.",
        "Its checkpoint is <code>checkpoint/</code>.",
        "Few validation rows: 100 of them",
        "torch 2.13.0",
        "0.87% unknown",
    ):
        assert text in page, text
    assert "Not finished" not in page and "At chance" not in page


def test_a_run_under_way_has_a_page_too(folder: RunFolder) -> None:
    folder.predictions_csv.unlink()
    folder.write_facts(replace(FACTS, planned_zeros=[0, 200, 360]))
    folder.write_status("failed", message="the disk is full")
    write_report(folder)
    page = folder.report.read_text(encoding="utf-8")
    assert "1 of 2 rounds are done. the disk is full" in page and "confusion" not in page


def test_the_dense_round_alone_has_a_page(folder: RunFolder) -> None:
    folder.write_rounds([record(0, None)])
    folder.write_layers(LAYERS[:3])
    folder.predictions_csv.unlink()
    write_report(folder)
    assert "0 of 1 rounds" in folder.report.read_text(encoding="utf-8")


def test_an_empty_folder_has_none(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no round"):
        write_report(RunFolder(tmp_path))


def test_the_page_can_be_made_again(folder: RunFolder) -> None:
    write_report(folder)
    before = folder.report.read_bytes()
    folder.report.unlink()
    result = subprocess.run([*REPORT_LINE, str(folder.path)], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert f"report:     {folder.report}" in result.stdout
    assert folder.report.read_bytes() == before


def test_a_folder_without_a_run_is_one_line(tmp_path: Path) -> None:
    result = subprocess.run([*REPORT_LINE, str(tmp_path)], capture_output=True, text=True)
    assert result.returncode == 3 and result.stdout == ""
    assert result.stderr.splitlines() == [f"pruneloop: {tmp_path}: holds no run and no sweep"]


def test_many_labels_keep_the_page_small(folder: RunFolder) -> None:
    labels = [f"라벨{number}" for number in range(150)]
    folder.write_facts(replace(FACTS, data=replace(FACTS.data, labels=labels)))
    folder.write_predictions([row(label, label, labels[0]) for label in labels])
    write_report(folder)
    page = folder.report.read_text(encoding="utf-8")
    assert len(page.encode()) < 1_000_000
    assert "라벨149" in page and "confusion matrices of so many labels" in page


def test_any_text_comes_back(folder: RunFolder) -> None:
    """A lone carriage return, quotes, lines, and more than csv's usual limit."""
    texts = ["가\r나", '"다"', "라\n마", "바," * 100_000, "NA", ""]
    rows = [row("긍정", "긍정", "부정", text) for text in texts]
    folder.write_predictions(rows)
    assert folder.read_predictions() == rows
    write_report(folder)


@pytest.mark.parametrize("damage", ["rounds", "facts"])
def test_records_of_another_version_are_one_line(folder: RunFolder, damage: str) -> None:
    if damage == "rounds":
        folder.rounds_jsonl.write_text('{"round": 0}\n')
    else:
        folder.facts.write_text('{"command": "x"}')
    with pytest.raises(InputError, match="not what this version"):
        write_report(folder)


# -- the card -----------------------------------------------------------------------------


def test_the_card_has_a_model_index_and_no_folder_of_this_machine() -> None:
    facts = replace(FACTS, model="/비밀/kobert", base_model=None)
    for these, base in ((FACTS, "monologg/kobert"), (facts, "kobert")):
        card = model_card(these, [record(0, None), record(1, 0.7)])
        _, head, text = card.split("---\n", 2)
        data = yaml.safe_load(head)
        assert data["language"] == "ko" and data.get("base_model") == these.base_model
        assert data["license"] == "apache-2.0" and "Licence: apache-2.0." in text
        assert "This checkpoint is round 1 of 1, 20.00% sparse." in text
        assert "datasets" not in data  # files of this machine are no data set of the hub
        (model,) = data["model-index"]
        assert model["name"] == "kobert-sparse-20"
        (result,) = model["results"]
        assert result["dataset"]["name"] == "NSMC"
        assert {m["type"]: m["value"] for m in result["metrics"]} == {"accuracy": 0.88, "f1": 0.87}
        assert f"# {base}, 20.00% sparse" in text
        assert "| 1 | 20.00% | 10.00% | 0.7000 | 0.9000 | 0.8800 | 0.8700 |" in text
        assert "neither the file smaller nor dense kernels faster" in text
        assert "자료" not in card and "비밀" not in card


def test_nothing_that_a_file_names_is_markup_in_the_card() -> None:
    named = replace(FACTS.data, name="[x](http://h) <img>\n# y", labels=["**a**", "b|c", "\x1b[1m"])
    text = model_card(replace(FACTS, data=named, base_model=None, model="_m_"), [record(0, None)])
    for shown in (r"\[x\](http://h) &lt;img&gt; # y", r"\*\*a\*\*, b\|c", r"\\x1b\[1m", r"\_m\_"):
        assert shown in text
