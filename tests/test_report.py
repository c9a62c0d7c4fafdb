"""What people look at: the lines of the tables, and the picture."""

from dataclasses import replace
from pathlib import Path

import matplotlib.image
from test_records import record

from pruneloop.report import TABLE_HEADER, draw_curve, plan_table, table_line

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
    assert plan_table([0, 20_000, 36_000], 100_000).splitlines() == [
        "round  sparsity  zeros expected",
        "    0     0.00%               0",
        "    1    20.00%          20,000",
        "    2    36.00%          36,000",
    ]


def test_the_curve_is_a_png(tmp_path: Path) -> None:
    """A missing glyph would be a warning, and warnings are errors here."""
    path = tmp_path / "curve.png"
    draw_curve([DENSE, record(1, 0.7), PRUNED], path)
    assert path.read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
    pixels = matplotlib.image.imread(path)
    assert pixels.shape[:2] == (648, 1008)
    assert pixels[..., :3].std() > 0.05  # something is drawn on the white
