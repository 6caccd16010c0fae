"""Whole measurements of rows in chunks: against the references, with rows left out, from sources that are read once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from support.streams import draw, generated, same_report, shards

import nrc_fast as nrc
from nrc_fast.testing import reference_nrc1


@pytest.mark.usefixtures("small_chunks", "no_kept_rows")
def test_generators_give_the_report_of_statistics() -> None:
    H, Y, W = draw(4, 2000, 8, 2)
    report = nrc.measure(generated(H, Y, 100), None, W, np.zeros(2))
    wanted = nrc.FeatureStatistics(8, n_targets=2)
    for first in range(0, 2000, 256):
        wanted.update(H[first : first + 256], Y[first : first + 256])
    assert same_report(report, wanted.report(W, np.zeros(2)))
    assert abs(report.nrc1 - reference_nrc1(H, 2, "nrc24")) <= report.bounds["nrc1"] + 1e-14
    assert nrc.nrc1(generated(H, None, 130), 2) == pytest.approx(nrc.nrc1(H, 2), rel=1e-10)
    assert nrc.nrc1(generated(H, None, 130), [1, 3]) == pytest.approx(nrc.nrc1(H, [1, 3]), rel=1e-10)
    assert nrc.nrc2(generated(H, None, 130), W) == pytest.approx(nrc.nrc2(H, W), rel=1e-10)
    assert np.isnan(nrc.measure(generated(H, Y, 100), W=W, convention="id25").nrc1)


@pytest.mark.usefixtures("small_chunks")
def test_bad_rows_are_named_by_shard_and_row(tmp_path: Path) -> None:
    H, Y, W = draw(9, 3000, 6, 2)
    H[2100, 2] = np.nan
    pattern = shards(tmp_path, "H", H, [1000, 2000])
    with pytest.raises(ValueError, match=r"the first is row 100 of .*H_2\.npy; .*nonfinite='skip'"):
        nrc.measure(pattern, Y, W)
    kept = np.isfinite(H).all(axis=1)
    found = nrc.measure(pattern, Y, W, nonfinite="skip")
    wanted = nrc.measure(H[kept], Y[kept], W)
    assert (found.samples, found.skipped_rows) == (2999, 1)
    assert found.nrc1 == pytest.approx(wanted.nrc1, rel=1e-12)
    assert found.nrc2 == pytest.approx(wanted.nrc2, rel=1e-12)


def test_a_chunk_of_wide_rows_may_be_skipped_as_a_whole() -> None:
    H, Y, _ = draw(21, 48, 1600, 2)
    H[16:32] = np.nan
    kept = np.isfinite(H).all(axis=1)
    options = {"convention": "id25", "chunk_rows": 16}
    found = nrc.measure(H, Y, nonfinite="skip", **options)
    wanted = nrc.measure(H[kept], Y[kept], **options)
    assert (found.samples, found.skipped_rows) == (32, 16)
    assert found.nrc1 == pytest.approx(wanted.nrc1, rel=1e-12)


def test_all_rows_skipped_is_an_error_everywhere() -> None:
    H, W = np.full((10, 4), np.nan), np.eye(2, 4)
    for call in (
        lambda: nrc.nrc1(H, 2, nonfinite="skip"),
        lambda: nrc.nrc2(H, W, nonfinite="skip"),
        lambda: nrc.nrc2(H, W, convention="id25", nonfinite="skip"),
        lambda: nrc.measure(H, W=W, nonfinite="skip"),
    ):
        with pytest.raises(ValueError, match=r"all .*rows hold NaN"):
            call()
