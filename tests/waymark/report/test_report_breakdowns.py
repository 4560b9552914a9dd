from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import report_frames as made

from waymark.metrics.reliability import reliability
from waymark.metrics.risk import risk_coverage
from waymark.report import certainty, choropleth, plots
from waymark.report.breakdowns import block_split_tables, leakage_table, pair_tables, place_table
from waymark.report.digits import shown_interval


def texts(row):
    return [cell.text for cell in row.cells]


def notes(drawn):
    return [annotation.text for annotation in drawn.layout.annotations]


def test_models_are_judged_only_where_the_interval_is_on_one_side():
    pairs = [
        made.pair("worse", "cells", (1.59, 1.44, 1.73)),
        made.pair("better", "cells", (0.8, 0.7, 0.95)),
        made.pair("alike", "cells", (0.95, 0.85, 1.02)),
        made.pair("cells", "better", (1.25, 1.05, 1.43), split="val"),
    ]
    first, second = pair_tables(pairs)
    assert (first.caption, second.caption) == (
        "Against cells, over the same records",
        "Against better, over the same records",
    )
    assert {row.name: texts(row) for row in first.groups["test"]} == {
        "worse": ["260", "+59.0", "1.59", "farther off"],
        "better": ["260", "-20.0", "0.80", "nearer"],
        "alike": ["260", "-5.00", "0.95", "no clear difference"],
    }
    beside = [cell.beside for cell in first.groups["test"][1].cells]
    assert beside == ["", "-30.0 to -5.00", "0.70–0.95", ""]
    assert list(second.groups) == ["val"]


def test_an_interval_below_zero_is_read_with_a_word():
    assert shown_interval((-3.0, 2.0), "km") == "-3.00 to 2.00"
    assert shown_interval((np.nan, 2.0), "km") == shown_interval(None, "km") == ""


def test_places_are_listed_the_worst_first_and_cut_off():
    table = place_table(made.by_cell(), "cell", "By cell", most=5)
    (rows,) = table.groups.values()
    assert [row.name for row in rows] == ["0", "1", "2", "3", "4"]
    assert table.hidden == len(made.by_cell()) - 5
    regions = place_table(made.by_region(), "region", "By region")
    assert [row.name for row in regions.groups[""]] == ["Istra", "Zagorje"]
    assert texts(regions.groups[""][0]) == ["8", "81.2", "70.0"]
    assert [row.cells[1].beside for row in regions.groups[""]] == ["60.0–104", ""]
    assert regions.hidden == 0
    assert place_table(made.by_region().head(0), "region", "None").groups == {}


def test_splits_stand_side_by_side():
    figures, nearest = block_split_tables(made.block_split("cells"))
    random, blocks = figures.groups[""]
    assert random.cells[1].beside == "30.2–60.5"
    assert float(blocks.cells[1].exact) == made.side(1.6, 2)["distance_km"].mean()
    assert texts(nearest.groups[""][1]) == ["1.60", "3.20", "4.80", "6.40", "8.00"]


def test_the_audit_is_shown_in_figures():
    (rows,) = leakage_table(made.leakage()).groups.values()
    assert [row.name for row in rows] == ["val", "test"]
    assert texts(rows[0]) == ["260", "2.50", "0.0 %", "3.4 %", "12.5 %", "3", "7", "3", "2", "5"]
    assert texts(leakage_table(replace(made.leakage(), splits={"test": {}})).groups[""][0]) == ["–"] * 10


def test_the_reliability_curve_is_drawn_with_its_bars():
    rng = np.random.default_rng(1)
    measured = reliability(rng.random(200), rng.random(200) < 0.4)
    line, curve = certainty.reliability_plot(measured).data
    assert list(line.x) == list(line.y) == [0, 1]
    assert np.array_equal(curve.x, measured.curve["probability"])
    assert np.array_equal(curve.y, measured.curve["accuracy"])
    assert np.allclose(curve.y + curve.error_y.array, measured.curve["high"])
    assert np.allclose(curve.y - curve.error_y.arrayminus, measured.curve["low"])


def test_radii_are_drawn_promised_against_covered():
    _, curve = certainty.radius_coverage_plot(made.radii()).data
    assert (list(curve.x), list(curve.y)) == ([0.1, 0.5, 0.9], [0.12, 0.47, 0.93])
    assert notes(certainty.radius_coverage_plot(made.radii().head(0))) == ["Val is too small to promise any radius."]


@pytest.mark.parametrize("number", [50, 3000])
def test_risk_is_drawn_between_chance_and_the_oracle(number):
    rng = np.random.default_rng(2)
    risk = risk_coverage(rng.lognormal(3, 1, number), rng.random(number))
    chance, model, oracle = certainty.risk_coverage_plot(risk).data
    assert list(chance.y) == [risk.random_km] * 2
    assert (model.y[-1], oracle.y[-1]) == pytest.approx((risk.random_km, risk.random_km))
    assert len(model.x) == min(number, 400)
    assert np.array_equal(model.y, risk.curve["mean_km"].to_numpy()[np.isin(risk.curve["share"], model.x)])
    assert np.array_equal(oracle.y, risk.curve["oracle_km"].to_numpy()[np.isin(risk.curve["share"], model.x)])
    assert f"{risk.aurc_km:,.1f} km" in model.name


def test_nearness_is_drawn_by_record_and_by_bin():
    frame = made.predictions(300, without_place=10)
    points, median = certainty.nearness_plot(made.nearness(), frame).data
    assert len(points.x) == 290
    assert set(points.x) == set(frame["nearest_train_km"].dropna())
    assert np.array_equal(median.x, made.nearness()["nearest_km"])
    assert np.array_equal(median.y, made.nearness()["median_km"])
    assert np.allclose(median.y + median.error_y.array, made.nearness()["high_km"])
    assert median.text[0] == "0.20 to 0.80 km, 65 records"
    at_one_place = frame.assign(nearest_train_km=0.0, distance_km=0.0)
    assert np.isfinite(certainty.nearness_plot(made.nearness(), at_one_place).layout.xaxis.range).all()
    assert len(certainty.nearness_plot(made.nearness(), made.predictions(9000)).data[0].x) == 2000
    assert "No record" in notes(certainty.nearness_plot(made.nearness(), frame.head(0)))[0]


def corners(trace):
    return 0 if trace.x[0] is None else int(np.isnan(np.asarray(trace.x, dtype=float)).sum()) + 1


def test_cells_are_coloured_by_their_mean_error():
    errors = made.by_cell()
    drawn = choropleth.error_cells(errors, made.region())
    classes = [trace for trace in drawn.data if trace.fill == "toself" and trace.name]
    assert sum(map(corners, classes)) == len(errors)
    for trace in classes:
        low, high = (float(end.replace(",", "")) for end in trace.name.split("–"))
        pale = "rgba" in trace.fillcolor
        chosen = errors["mean_km"].between(low, high, inclusive="right") & ((errors["records"] < 5) == pale)
        assert corners(trace) == chosen.sum(), trace.name
    assert len({trace.fillcolor for trace in classes}) == len(classes)
    points = drawn.data[-1]
    assert len(points.x) == len(errors)
    first = errors.iloc[0]
    assert f"mean {first['mean_km']:,.1f} km" in points.text[0]


def test_a_single_cell_and_no_cell_are_drawn():
    errors = made.by_cell()
    classes = {trace.name for trace in choropleth.error_cells(errors.head(1)).data if trace.fill == "toself"}
    assert len(classes) == 1
    assert notes(choropleth.error_cells(errors.head(0))) == ["No test record lies in a cell."]


def test_each_split_is_drawn_with_a_baseline_of_its_own():
    (random, same), (blocks, other) = (
        (rows["distance_km"].to_numpy(), rows["constant_km"].to_numpy())
        for rows in (made.side(1.0, 1), made.side(1.6, 2))
    )
    drawn = plots.split_distribution(
        {"random": random, "blocks": np.append(blocks, np.nan)},
        {"random": same, "blocks": other * 2},
    )
    assert [trace.name for trace in drawn.data] == [
        "random",
        "its constant baseline (random)",
        "blocks",
        "its constant baseline (blocks)",
    ]
    for trace, values in zip(
        drawn.data,
        (random, same, blocks, other * 2),
        strict=True,
    ):
        at = list(trace.x).index(200)
        assert trace.y[at] == pytest.approx((values <= 200).mean())
    nothing = pd.Series([np.nan])
    assert notes(plots.split_distribution({"random": nothing}, {"random": nothing})) == [
        "No record with a place was answered."
    ]
