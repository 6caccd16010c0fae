"""What is said of an NRC3 beside random heads: sentences, lines of a report, records, and the band of a history."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from support import results
from support.drawings import tree, with_class

import nrc_fast as nrc
from nrc_fast.metrics.random_heads import random_heads
from nrc_fast.reports import History, Report
from nrc_fast.reports.charts import charts_of_runs
from nrc_fast.reports.head_context import HEAD_LABELS
from nrc_fast.reports.head_records import record_of_weights
from nrc_fast.reports.pages import page
from nrc_fast.reports.svg_charts import svg_charts
from nrc_fast.reports.verdicts.heads import HeadNumbers, head_verdict, share_of_heads
from nrc_fast.reports.verdicts.levels import Known

SIGMA = np.diag([4.0, 1.0])
HAS, HAS_NOT = ("W W^T has the shape that the UFM predicts: ", "W W^T does not have the shape that the UFM predicts: ")
AT_ZERO = (
    "NRC3 is smallest at gamma = 0: W W^T is no steeper than Sigma^(1/2), as under weight decay that is weak beside "
    "the variance of the targets, or behind a deep trunk."
)
AT_END = "NRC3 is smallest at gamma = lambda_min: a direction of the targets is about to drop out of W, or has."
INSIDE = "Gamma has fitted the ratio of the two eigenvalues: NRC3 is how far the eigenvectors are turned, no more."
OPEN = "Whether W W^T has the shape that the UFM predicts, the bound of NRC3 leaves open: it is "
TYPICAL = "and that of an untrained W would be about 0.12"


@pytest.mark.parametrize(
    ("nrc3", "quantile", "rest", "said"),
    [
        (
            Known(1e-4),
            Known(0.0, 4e-4),
            {},
            f"{HAS}NRC3 is 0.0001, which at most 0.04% of random heads reach.",
        ),
        (Known(0.05), Known(0.02, 1e-3), {}, f"{HAS_NOT}NRC3 is 0.05, which 2% of random heads reach."),
        (
            Known(0.02, 1e-3),
            Known(0.02, 1e-3),
            {},
            "W W^T is near the shape that the UFM predicts: NRC3 is 0.02, which 2% of random heads reach.",
        ),
        (Known(0.2), Known(0.83, 0.01), {}, f"{HAS_NOT}NRC3 is 0.2, and 83% of random heads do as well."),
        (Known(2e-3), Known(0.4, 0.01), {}, "NRC3 0.002 says little of the training: 40% of random heads do as well."),
        # An interval that holds 5 percent says neither.
        (
            Known(2e-3),
            Known(0.049, 0.004),
            {},
            f"{HAS}NRC3 is 0.002, and 4.9% of random heads do as well.",
        ),
        # Few draws, none or all of them below: what they tell is no share of 0 or 100 percent.
        (Known(2e-3), Known(0.0, 0.17), {}, f"{HAS}NRC3 is 0.002, and at most 17% of random heads do as well."),
        (
            Known(2e-3),
            Known(0.0, 0.17),
            {"draws": 20},
            f"{HAS}NRC3 is 0.002, and none of the 20 random heads does as well.",
        ),
        (
            Known(0.2),
            Known(1.0, 0.8),
            {"draws": 1},
            f"{HAS_NOT}NRC3 is 0.2, and at least 20% of random heads do as well.",
        ),
        (Known(1e-4), Known(math.nan), {}, f"{HAS}NRC3 is 0.0001, {TYPICAL}."),
        (
            Known(1e-4),
            Known(math.nan),
            {"untrained": 0.005},
            "NRC3 0.0001 says little: an untrained W would have about 0.005.",
        ),
        (Known(0.2), Known(math.nan), {"untrained": math.nan}, f"{HAS_NOT}NRC3 is 0.2."),
        (
            Known(0.0, 0.5),
            Known(0.01, 0.01),
            {},
            f"{OPEN}no larger than 5.0e-01.",
        ),
        (
            Known(math.nan),
            Known(math.nan),
            {},
            "NRC3 is not defined here: W, or the covariance of the targets, has no shape.",
        ),
    ],
)
def test_what_an_nrc3_is_worth(nrc3: Known, quantile: Known, rest: dict[str, float], said: str) -> None:
    numbers = {"n": 3, "nrc3": nrc3, "quantile": quantile, "untrained": 0.12, "gamma_share": Known(0.3, 0.01)} | rest
    assert head_verdict(HeadNumbers(**numbers)) == (said,)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("n", "share", "said"),
    [
        (3, Known(0.0, 0.01), AT_ZERO),
        (2, Known(0.0, 0.01), AT_ZERO),
        (3, Known(1.0, 1e-9), AT_END),
        (2, Known(0.4, 0.1), INSIDE),
        (3, Known(0.4, 0.1), ""),
        (2, Known(0.0, 1.0), ""),  # not determined
        (2, Known(1.0, 0.5), ""),
        (2, Known(0.05, 0.1), ""),
        (2, Known(math.nan), ""),
    ],
)
def test_what_gamma_says(n: int, share: Known, said: str) -> None:
    head = HeadNumbers(n, Known(0.2), Known(0.01, 0.001), 0.1, share)
    assert head_verdict(head)[1:] == ((said,) if said else ())
    # Of weight decay the gamma of a head that is like random ones, or has not come to rest, says nothing.
    of_ratio = (said,) if said == INSIDE else ()
    assert head_verdict(replace(head, quantile=Known(0.5, 0.01)))[1:] == of_ratio
    assert head_verdict(replace(head, is_moving=True))[1:] == of_ratio
    assert len(head_verdict(HeadNumbers(n, Known(math.nan), gamma_share=share))) == 1


def test_few_random_heads_leave_open_what_they_cannot_tell() -> None:
    """n = 300: of the 20 heads that are drawn none comes near a head with the shape, and that is no 0 percent."""
    n = 300
    eigenvalues = np.linspace(1.0, 30.0, n)
    W = np.diag(np.sqrt(np.sqrt(eigenvalues) - 0.5)) + 1e-3 * np.random.default_rng(0).standard_normal((n, n))
    context = nrc.nrc3_context(W, covariance=np.diag(eigenvalues))
    assert context.draws == 20
    assert context.nrc3 < 0.01
    assert context.verdict[0].startswith(HAS)
    assert context.verdict[0].endswith(", and none of the 20 random heads does as well.")
    assert "5% to 95%" not in str(context)
    assert context.bounds["untrained_low"] >= context.untrained_low  # it may be anything down to 0
    history = History()
    history.add_weights(0, W, np.diag(eigenvalues))
    low, middle, high = history.nrc3_null()
    assert math.isnan(low)
    assert math.isnan(high)
    assert middle == context.untrained


def test_fewer_features_than_targets_may_have_the_shape() -> None:
    """At gamma = lambda_min one direction less is what the UFM predicts, and for singular targets always."""
    for roots, sigma in (([1.5, 0.5], [4.0, 1.0, 0.25]), ([2.0, 1.0], [4.0, 1.0, 0.0])):
        W = np.zeros((3, 2))
        W[[0, 1], [0, 1]] = np.sqrt(roots)
        context = nrc.nrc3_context(W, covariance=np.diag(sigma))
        assert context.nrc3 < 1e-12
        assert context.verdict[0].startswith(HAS)
        rows = np.linalg.qr(np.c_[np.ones(50), np.random.default_rng(0).standard_normal((50, 3))])[0][:, 1:] * 50**0.5
        report = nrc.measure(rows[:, :2], rows @ np.diag(np.sqrt(sigma)), W, np.zeros(3))
        assert report.verdict[1].startswith(HAS)
    wide = nrc.nrc3_context(np.eye(3)[:, :2], covariance=np.diag([4.0, 1.0, 0.5]))
    (sentence,) = wide.verdict
    assert sentence == (
        "W W^T does not have the shape that the UFM predicts from n = 3 features on: NRC3 is 0.19. Its rank is at most "
        "2, so that NRC3 is 0 for no gamma below lambda_min. See ufm.minimum(..., d=2).gram."
    )


def test_shares_of_heads_are_no_more_exact_than_the_draws() -> None:
    found = [share_of_heads(Known(value, bound)) for value, bound in ((1e-4, 6e-4), (0.0123, 2e-3), (0.9999, 6e-4))]
    assert found == ["at most 0.07% of random heads", "1.2% of random heads", "more than 99% of random heads"]


def test_two_targets_in_the_eigenbasis_have_no_nrc3_left() -> None:
    """For a gamma inside its interval: the ratio of the eigenvalues is fitted, whatever it is."""
    for strength in (0.12, 0.25, 0.4):
        context = nrc.nrc3_context(np.diag([1.0, strength]) ** 0.5, covariance=SIGMA)
        assert context.nrc3 < 1e-28
        assert 0.0 < context.gamma_share < 1.0
        assert context.verdict[1] == INSIDE
        assert context.at_zero > 1e-3
    turned = nrc.nrc3_context(np.array([[1.0, 0.3], [0.0, 0.4]]), covariance=SIGMA)
    assert turned.nrc3 == pytest.approx(2.0 - 2.0 * math.sqrt(1.0 - turned.outside), rel=1e-12)


def test_a_direction_that_drops_out_puts_gamma_at_its_end() -> None:
    context = nrc.nrc3_context(np.diag([1.5, 0.5, 0.0]), covariance=np.diag([4.0, 1.0, 0.2]))
    assert context.gamma_share == 1.0
    assert context.verdict[1] == AT_END


# ---- text ----


def test_a_context_is_told_in_lines() -> None:
    context = nrc.nrc3_context(np.random.default_rng(0).standard_normal((2, 64)), covariance=SIGMA)
    title, empty, *verdict, between, _, _, _, _, _, _ = str(context).splitlines()
    lines = str(context).splitlines()[-6:]
    assert title == "NRC3 of a head of n = 2 rows and d = 64 columns beside 10,000 random ones"
    assert (empty, tuple(verdict), between) == ("", context.verdict, "")
    assert context.gamma == 0.0  # so that NRC3 at 0 is said already
    told = [HEAD_LABELS[name] for name in ("nrc3_quantile", "nrc3_untrained", "head_outside")]
    labels = ["NRC3 at its best gamma", "that gamma", *told, "NRC3 of random heads, 5% to 95%"]
    assert [line[:54].strip() for line in lines] == labels
    assert lines[2][54:] == f"{context.quantile:.4f}  +- {math.ceil(1e4 * context.bounds['quantile']) / 1e4}"
    assert lines[-1][54:] == f"{context.untrained_low:.3g} to {context.untrained_high:.3g}"
    assert repr(context).startswith(
        "<NRC3Context of a head of n = 2 rows and d = 64 columns beside 10,000 random ones: NRC3 0."
    )
    shown = tree(context._repr_html_())
    assert "".join(shown.itertext()).count(HEAD_LABELS["head_outside"]) == 1
    one = str(nrc.nrc3_context(np.ones((1, 4)), covariance=np.eye(1))).splitlines()
    assert one[0].endswith("columns without random ones")
    assert len(one) == 3


def test_a_report_tells_it_below_gamma() -> None:
    report = results.report()
    lines = str(report).splitlines()
    place = next(k for k, line in enumerate(lines) if line.startswith("  gamma that NRC3 is smallest at"))
    heads, shape = lines[place + 1 : place + 3]
    assert heads[:54].strip() == "random heads with a smaller NRC3"
    assert f"{report.nrc3_quantile:.3f}"[:4] in heads[54:]
    assert f"; half of them are below {report.nrc3_untrained:.2g}" in heads
    assert shape[:54].strip() == "at gamma = 0"
    assert shape[54:].startswith(f"{report.nrc3_at_zero:.3g}; gamma/lambda_min ")
    assert f"; outside the basis of Sigma {report.head_outside:.3g}" in shape
    at_zero = str(replace(report, gamma=0.0, gamma_share=0.0, nrc3_at_zero=report.nrc3)).splitlines()
    place = next(k for k, line in enumerate(at_zero) if line.startswith("    random heads with a smaller NRC3"))
    shape = at_zero[place + 1]
    assert shape[:54].strip() == "share of W W^T outside the basis of Sigma"
    assert shape[54:] == f"{report.head_outside:.3g}"
    without = str(nrc.measure(np.random.default_rng(0).standard_normal((20, 5)), np.eye(20)[:, :2]))
    assert "random heads" not in without
    assert "at gamma = 0" not in without


def test_a_page_and_a_notebook_tell_it_beside_nrc3() -> None:
    report = results.report()
    text = page([("r", report)])
    for label in HEAD_LABELS.values():
        assert text.count(f">{label}<") == 1
    assert text.index("gamma that NRC3 is smallest at") < text.index(HEAD_LABELS["nrc3_quantile"])
    assert text.index(HEAD_LABELS["head_outside"]) < text.index("training MSE, summed over outputs")
    assert "<dt>random heads</dt>" in text
    assert HEAD_LABELS["gamma_share"] in report._repr_html_()


def test_reports_of_older_files_have_no_context() -> None:
    stored = json.loads(results.report().to_json())
    older = {name: value for name, value in stored.items() if name not in HEAD_LABELS}
    report = Report.from_dict(older)
    assert all(math.isnan(getattr(report, name)) for name in HEAD_LABELS)
    assert report.verdict[1].startswith(HAS_NOT)
    assert "random heads" not in str(report).partition("linear CKA")[0]
    middle = Report.from_dict(older | {"nrc3_untrained": 0.3})
    assert "and that of an untrained W would be about 0.3." in middle.verdict[1]


# ---- histories ----


def test_records_have_the_quantile_of_their_report() -> None:
    history = results.history()
    kept = [record.nrc3_quantile for record in history.records()]
    assert kept == [results.report(0, 10.0**-step).nrc3_quantile for step in range(4)]
    stored = json.loads(history.to_json())
    assert [record.nrc3_quantile for record in History.from_dict(stored).records()] == kept
    for row in stored["records"]:
        del row["nrc3_quantile"]
    assert all(math.isnan(record.nrc3_quantile) for record in History.from_dict(stored).records())


def test_weights_alone_have_a_record_of_nrc3() -> None:
    W = np.random.default_rng(3).standard_normal((2, 9)).astype(np.float32)
    record, context = record_of_weights(7, W, SIGMA), nrc.nrc3_context(W, covariance=SIGMA)
    assert (record.step, record.d, record.samples) == (7, 9, 0)
    assert (record.nrc3, record.gamma, record.nrc3_quantile) == (context.nrc3, context.gamma, context.quantile)
    assert record.bounds == {"nrc3_quantile": context.bounds["quantile"]}
    assert math.isnan(record.nrc1)


def test_the_null_of_a_history_is_that_of_its_targets_and_width() -> None:
    history = results.history()
    heads = random_heads(np.array([2.0, 1.0]), 6)
    assert history.nrc3_null() == (heads.point(0.05), heads.point(0.5), heads.point(0.95))
    assert all(map(math.isnan, History().nrc3_null()))
    single = History()
    single.add_weights(0, np.ones((1, 4)), np.eye(1))
    assert all(map(math.isnan, single.nrc3_null()))
    # Files of older versions do not know the width: the middle is that of very wide heads.
    stored = json.loads(history.to_json())
    for row in stored["records"]:
        del row["d"]
    low, middle, high = History.from_dict(stored).nrc3_null()
    assert math.isnan(low)
    assert math.isnan(high)
    limit = nrc.nrc3(np.eye(2), covariance=np.diag([2.0, 1.0]))
    assert middle == pytest.approx(limit, abs=1e-14)


def test_the_verdict_of_a_history_counts_random_heads() -> None:
    history = History()
    rng = np.random.default_rng(5)
    Y = rng.standard_normal((50, 3)) * np.array([2.0, 1.0, 0.5])
    W = rng.standard_normal((3, 16))
    H = Y @ np.linalg.pinv(W).T
    covariance = np.cov(Y, rowvar=False, bias=True)
    report = nrc.measure(H, Y, W, np.zeros(3))
    history.add(0, report, W, covariance)
    # Of gamma = 0 nothing is said beside a head that is like random ones, and the balance of an exact fit is unknown.
    assert history.verdict[1:] == report.verdict[1:] == (history.verdict[1],)
    assert report.gamma == 0.0
    assert f"{100 * report.nrc3_quantile:.2g}% of random heads do as well" in history.verdict[1]


def test_heads_alone_have_a_verdict() -> None:
    history = History()
    for step, W in enumerate(np.random.default_rng(0).standard_normal((3, 2, 16))):
        history.add_weights(step, W, SIGMA)
    context = nrc.nrc3_context(W, covariance=SIGMA)
    first, *others = history.verdict
    assert first == "The features were not measured, or are not finite: only NRC3 and gamma are known."
    assert tuple(others) == context.verdict
    assert f"{100 * context.quantile:.2g}% of random heads" in others[0]


def replayed_runs() -> dict[str, Any]:
    return {"one": results.history("one"), "two": results.history("two", seed=1)}


def test_charts_hold_nrc3_of_each_step_and_random_heads_behind() -> None:
    runs = replayed_runs()
    charts = charts_of_runs(runs)
    assert [bool(chart.beside) for chart in charts] == [False, False, False, True, False, False]
    chart = charts[3]
    assert chart.title == "NRC3, gamma of the last step"
    assert chart.words == "thin: gamma of each step; band: 90% of random heads"
    for curve, name in zip(chart.beside, runs, strict=True):
        assert (curve.run, curve.x) == (name, (0, 10, 20, 30))
        assert curve.y == tuple(record.nrc3 for record in runs[name].records("each"))
    low, _, high = runs["one"].nrc3_null()
    assert chart.band == (low, high)
    each = charts_of_runs(runs, "each")[3]
    assert each.beside == ()
    assert each.words == "band: 90% of random heads"
    # Runs with other targets or widths have other heads: no band holds for both.
    runs["two"].add_weights(40, np.eye(2, 11), np.diag([2.0, 1.0]))
    mixed = charts_of_runs(runs)[3]
    assert mixed.band is None
    assert mixed.words == "thin: gamma of each step"


def test_drawings_have_the_band_and_thin_lines() -> None:
    chart = charts_of_runs(replayed_runs())[3]
    (markup,) = svg_charts([chart])
    root = tree(markup)[0]
    (band,) = with_class(root, "band")
    assert [part.text for part in root.iter("small")] == [chart.words]
    assert band.findtext("title") == f"between {chart.band[0]:.3g} and {chart.band[1]:.3g}"  # type: ignore[index]
    thin, line = with_class(root, "run-1")
    assert len(with_class(thin, "dot")) == 0
    assert len(with_class(line, "dot")) == 4
    widths = [group.find("path").get("stroke-width") for group in (thin, line)]  # type: ignore[union-attr]
    assert widths == ["0.9", "1.8"]


def test_figures_have_the_band_and_thin_lines() -> None:
    pytest.importorskip("matplotlib")
    history = results.history("one")
    panel = history.plot().axes[1]
    labels = [line.get_label() for line in panel.get_lines()]
    assert labels == ["NRC3", "at the best gamma of each step"]
    for line, gamma in zip(panel.get_lines(), ("last", "each"), strict=True):
        assert list(line.get_ydata()) == [record.nrc3 for record in history.records(gamma)]
    (band,) = panel.patches
    low, _, high = history.nrc3_null()
    box = band.get_path().get_extents(band.get_patch_transform())
    assert (box.y0, box.y1) == pytest.approx((low, high))
    assert panel.get_ylim()[0] < low < high < panel.get_ylim()[1]
    assert [line.get_label() for line in history.plot("each").axes[1].get_lines()] == ["NRC3"]
    both = nrc.compare(replayed_runs()).plot().axes[3]
    assert len(both.get_lines()) == 4
    assert len(both.patches) == 1
    assert both.get_title() == "NRC3, gamma of the last step\nthin: gamma of each step; band: 90% of random heads"
