"""The kernels of a card that the benchmarks know: all of them are launched, profiled under their names, and judged."""

from __future__ import annotations

import re
import shlex
from typing import Any

import pytest
from support import cuda_core
from support.benches import BENCH, ROOT, bench
from support.launch_bounds import kernels_of_launch

SOURCES = [
    path.read_text(encoding="utf-8")
    for path in sorted((ROOT / "csrc" / "cuda").rglob("*"))
    if path.suffix in (".cu", ".h") and "emulation" not in path.parts
]
LAUNCHED = {name for source in SOURCES for name in re.findall(r'\blaunch\([^"]*"(\w+)"', source)}
# What the smoke test does not launch, and why.
LEFT_OUT = {
    "gram_direct": "of cards before sm_80, and of float32 rows on cards whose tensor cores have half the rate",
    "residual": "of cards before sm_80",
    "gram_warpgroup": "off unless it is asked for: card_probes.py tries it",
    "probe_product": "card_probes.py",
    "probe_box": "card_probes.py",
    "probe_ring": "card_probes.py",
}
PROFILES = [
    shlex.split(line)[1:]
    for line in (BENCH / "gpu.sh").read_text(encoding="utf-8").splitlines()
    if re.match(r"\s*profile \S", line)
]


def functions_of(launch: str) -> set[str]:
    """The functions that are launched under a name."""
    return {function for source in SOURCES for function in kernels_of_launch(source, launch)}


def smoke_launches(*options: str) -> tuple[list[dict[str, Any]], list[str]]:
    """The rows of the smoke test with these options on the emulated device, and the names of what it has launched."""
    core = cuda_core.emulation()
    core.configure(keeps_records=True)
    smoke, card = bench("card_smoke"), bench("card").Card(is_emulated=True)
    rows = list(bench("card_attempts").attempts(card, smoke.smoke_calls(card, smoke.parsed([*options])), skip=0))
    return rows, [launch[0] for launch in core.launched()]


def test_every_launch_has_functions() -> None:
    """A name of a launch is not always that of its function, by which tools of a card know it."""
    defined = {name for source in SOURCES for name in re.findall(r"\n(\w+_kernel)\(\w", source)}
    assert {"gram_panel_moments_kernel", "residual_tensor_kernel", "basis_kernel"} <= defined
    for name in LAUNCHED:
        assert functions_of(name) <= defined, name
        assert functions_of(name), name


def test_every_production_kernel_is_in_the_smoke_test() -> None:
    """Rows of all its widths but the widest, which takes long here, and launches nothing else."""
    smoke = bench("card_smoke")
    widths = [str(d) for d in smoke.WIDTHS if d < 1000]
    assert len(widths) == len(smoke.WIDTHS) - 1
    rows, launched = smoke_launches("--widths", *widths, "--rows", "40")
    assert {row["check"] for row in rows} == {"ok"}
    assert set(launched) | set(LEFT_OUT) == LAUNCHED
    assert not set(launched) & set(LEFT_OUT)


@pytest.mark.parametrize(("regex", "options"), [(words[0], words[1:]) for words in PROFILES])
def test_every_profile_finds_its_kernel(regex: str, options: list[str]) -> None:
    """The one of that pass that takes the time; rows beside it do not change what is launched."""
    (row,), launched = smoke_launches(*options, "--rows", "70")
    assert row["check"] == "ok"
    found = [name for name in launched if any(re.search(regex, function) for function in functions_of(name))]
    assert found
    assert set(found) <= {"gram_tensor", "gram_row_tiles", "residual_tensor"}


def test_there_are_profiles() -> None:
    assert [words[words.index("--dtypes") + 1] for words in PROFILES] == ["bfloat16", "float32", "float32"]


def test_memcheck_sees_float64_tiles_of_one_panel() -> None:
    """Between 64 and 128 columns."""
    script = (BENCH / "gpu.sh").read_text(encoding="utf-8")
    (widths,) = re.findall(r"sanitize memcheck --widths ([\d ]+) --rows", script)
    assert any(64 < int(width) <= 128 for width in widths.split())
    assert any(64 < width <= 128 for width in bench("card_smoke").WIDTHS)


# ---- how works are judged ----


def test_a_kernel_that_errs_is_told() -> None:
    cuda_core.emulation()
    smoke, grams, kernels = bench("card_smoke"), bench("card_grams"), bench("card_kernels")
    card = bench("card").Card(is_emulated=True)

    def wrong(factor: float) -> Any:
        def prepare(card: Any, H: Any) -> Any:
            work = grams.plain_gram(card, H, precision="high")
            exact, scale = work.exact["gram"]
            work.exact["gram"] = exact * factor, scale
            return work

        return prepare

    facts = {"rows": 20, "d": 3, "dtype": "float64"}
    checks = [
        smoke.checked(card, kernels.Kernel("k", wrong(factor), lambda _: 1e-12), facts)
        for factor in (1.0, 1.0 + 1e-9, float("nan"))
    ]
    assert [row["check"] for row in checks] == ["ok", "errs more than allowed", "errs more than allowed"]
    assert checks[1]["error"] == pytest.approx(1e-9, rel=1e-3)


@pytest.mark.parametrize("number", range(6))
def test_rows_that_were_miscounted_are_an_error(number: int) -> None:
    """Of a plain pass zeros, bad rows and the first of them; of statistics also rows, batches and blocks."""
    cuda_core.emulation()
    card, grams = bench("card").Card(is_emulated=True), bench("card_grams")
    H = card.random(20, 3, "float32")
    H[7] = 0
    works = [grams.plain_gram(card, H, precision="high")] if number < 3 else []
    works += [grams.statistics(card, H), grams.statistics(card, H, skips_nonfinite=True)]
    for work in works:
        work.call()
        work.call()
        assert work.error(calls=2) <= 1e-6
        work.counts.added[number] += 1
        assert work.error(calls=2) == float("inf")


def test_a_row_that_is_left_out_counts_as_that() -> None:
    cuda_core.emulation()
    card, grams = bench("card").Card(is_emulated=True), bench("card_grams")
    H = card.random(600, 3, "float64")
    H[5] = 0
    work = grams.statistics(card, H, skips_nonfinite=True)
    work.call()
    # Rows, zeros, skipped, batches, added, blocks of 512 rows.
    assert work.counts.numbers.tolist()[:6] == [599, 1, 1, 1, 1, 2]
    assert H.isfinite().all()


def test_what_is_written_anew_is_not_divided() -> None:
    """Residuals of rows after two calls are those of one; the sums are twice theirs."""
    cuda_core.emulation()
    card, vectors = bench("card").Card(is_emulated=True), bench("card_vectors")
    work = vectors.residual_of_rows(card, card.random(70, 40, "float64"))
    for calls in (1, 2):
        work.call()
        assert work.error(calls) <= 1e-13
        assert work.error(3 - calls) >= 0.4


def test_rows_near_collapse_leave_the_expanded_form() -> None:
    """What is left of them is less than squares of coefficients can tell, in float64 too."""
    card, vectors = bench("card").Card(is_emulated=True), bench("card_vectors")
    cuda_core.emulation()
    work = vectors.collapsed_residual(card, card.random(70, 40, "float64"), double_precision=True)
    raw = work.exact["raw"][0]
    assert 1e-6 < float(raw[-1] / raw[0]) < 1e-3
