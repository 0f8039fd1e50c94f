"""The picture of a pipeline: drawn from whatever figures a stage may come to."""

from groupwise.pipeline.plan import make_plan
from groupwise.pipeline.plot import draw
from groupwise.pipeline.table import Row
from groupwise.statistics.intervals import wilson
from tests.project.sources import ROOT


def test_shares_of_none_and_of_all_are_drawn_though_rounding_puts_them_outside_their_interval(tmp_path):
    plan = make_plan(str(ROOT / "recipes" / "pipeline.yaml"), [], folder=lambda file: tmp_path)
    rows = []
    for number, right in enumerate((0, 60)):
        share = wilson(right, 60)
        figures = {"accuracy": share.value, "low": share.low, "high": share.high, "length": 2.0, "n": 60}
        rows.append(Row(f"stage-{number}", "sft", "base", {}, {"digits": figures}))
    assert any(row.measured["digits"]["high"] < row.measured["digits"]["accuracy"] for row in rows)
    assert draw(plan, rows, tmp_path / "picture.png")
    assert (tmp_path / "picture.png").stat().st_size > 10_000
