from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from nrc_fast import kernels
from nrc_fast.kernels.calls import gram
from nrc_fast.kernels.inputs import as_rows

Run = Callable[..., Any]


def test_the_baseline_is_always_there_and_the_last_choice() -> None:
    assert kernels.available_isas()[-1] == "baseline"
    assert len(set(kernels.available_isas())) == len(kernels.available_isas())
    built = kernels.build_config()["isas"]
    assert [isa for isa in built if isa in kernels.available_isas()] == kernels.available_isas()


def test_a_process_starts_with_the_fastest_instruction_set(run_alone: Run) -> None:
    answer = run_alone("from nrc_fast import kernels; print(kernels.current_isa())")
    assert answer.stdout.split() == kernels.available_isas()[:1]


@pytest.mark.usefixtures("isa")
def test_the_chosen_one_computes(arrays: Any, request: pytest.FixtureRequest) -> None:
    assert kernels.current_isa() == request.getfixturevalue("isa")
    features = arrays.normal((300, 53), "float32", seed=0)
    arrays.gram_reference(features, unit="raw").check(gram(as_rows(features, "H"), unit="raw"))


def test_an_unknown_name_is_refused_with_the_known_ones() -> None:
    before = kernels.current_isa()
    for name in ("sse9", "", "AVX2"):
        with pytest.raises(
            ValueError, match=rf"unknown instruction set '{name}'; this build has: .*baseline$"
        ) as caught:
            kernels.set_isa(name)
        assert all(isa in str(caught.value) for isa in kernels.available_isas())
        assert kernels.current_isa() == before


def test_one_that_the_machine_lacks_is_refused_with_those_it_has() -> None:
    missing = [isa for isa in kernels.build_config()["isas"] if isa not in kernels.available_isas()]
    if not missing:
        pytest.skip("this machine can run every instruction set of the build")
    with pytest.raises(ValueError, match=r"it can run: .*baseline$"):
        kernels.set_isa(missing[0])


SUMS = """
import numpy as np
from nrc_fast.kernels.inputs import as_rows
from nrc_fast import kernels
from nrc_fast.kernels import calls
rows = np.random.default_rng(0).standard_normal((300, 53)).astype(np.float32)
sums = calls.gram(as_rows(rows, "H"))
print(kernels.current_isa(), sums.gram.tobytes().hex())
"""


def test_the_environment_chooses(run_alone: Run, isa: str) -> None:
    answer = run_alone(SUMS, NRC_FAST_ISA=isa, NRC_FAST_NUM_THREADS=str(kernels.thread_count()))
    rows = np.random.default_rng(0).standard_normal((300, 53)).astype(np.float32)
    wanted = gram(as_rows(rows, "H")).gram
    assert answer.stdout.split() == [isa, wanted.tobytes().hex()]


def test_a_wrong_name_in_the_environment_is_refused(run_alone: Run) -> None:
    answer = run_alone(SUMS, NRC_FAST_ISA="sse9")
    assert answer.returncode == 1
    last = answer.stderr.splitlines()[-1]
    assert last.startswith("ValueError: environment variable NRC_FAST_ISA: unknown instruction set 'sse9'; ")
    assert last.endswith("baseline")


def test_an_empty_choice_in_the_environment_is_none(run_alone: Run) -> None:
    answer = run_alone(SUMS, NRC_FAST_ISA="")
    assert answer.stdout.split()[0] == kernels.available_isas()[0]


def test_subnormal_numbers_survive(run_alone: Run, isa: str) -> None:
    # Fast-math start-up code would flush them to zero in the whole process, in threads started later as well.
    code = f"""
import sys, threading
import numpy as np
import nrc_fast
from nrc_fast.kernels import _cpu, calls
from nrc_fast.kernels.inputs import as_rows
from nrc_fast import kernels

kernels.set_isa({isa!r})
kernels.set_thread_count(3)
_cpu.set_least_work(4e5)
rows = np.full((4000, 53), 5e-324)
sums = calls.gram(as_rows(rows, "H"))
single = calls.gram(as_rows(np.full((4000, 53), 1e-45, np.float32), "H"))

def halves():
    print((np.array([4e-310]) / 2).item(), (np.array([2e-40], np.float32) / 2).item() > 0, sys.float_info.min / 2 > 0)

halves()
thread = threading.Thread(target=halves)
thread.start()
thread.join()
print(set((sums.column_sums / 5e-324).tolist()), set((single.column_sums / 2.0**-149).tolist()))
"""
    answer = run_alone(code)
    assert answer.stdout.splitlines() == ["2e-310 True True", "2e-310 True True", "{4000.0} {4000.0}"]


def test_small_float16_numbers_survive_flushing(run_alone: Any) -> None:
    pytest.importorskip("torch")
    # Where a user has float32 subnormals flushed, no kernel may meet one on the way from float16.
    answer = run_alone(
        "import torch, numpy as np\n"
        "from nrc_fast import kernels\n"
        "from nrc_fast.kernels.calls import gram\n"
        "from nrc_fast.kernels.inputs import as_rows\n"
        "rows = as_rows(np.full((4, 3), 2.0**-20, np.float16), 'H')\n"
        "torch.set_flush_denormal(True)\n"
        "for isa in kernels.available_isas():\n"
        "    kernels.set_isa(isa)\n"
        "    print(*gram(rows).column_sums / 2.0**-18)\n"
    )
    assert set(answer.stdout.split()) == {"1.0"}, answer.stderr
