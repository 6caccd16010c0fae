"""Launches keep to the `__launch_bounds__` of their kernels, which a card would refuse or run wrongly without."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
from support.launch_bounds import (
    Bounds,
    bounded_threads,
    check_room,
    kernels_of_launch,
    launch_bounds,
    launched_threads,
    of_kernel,
    registers,
)
from support.small_passes import SMALL_PASSES
from support.tools import ROOT, require_tool

CSRC = ROOT / "csrc"
# Blocks of as many threads as there is work for, and their sources: that these keep to the bounds is seen in what is
# launched.
WITHIN_BOUNDS = {"descent": "descent/descent", "planes": "gram/planes", "resident_product": "gram/resident_product"}
CARD = {"threads_per_multiprocessor": 1024, "blocks_per_multiprocessor": 16}


def test_what_ptx_and_the_assembler_say() -> None:
    ptx = ".visible .entry _Z3one4Args(\n .param .b8 x[8]\n)\n.maxntid 256, 1, 1\n.minnctapersm 2\n{ }"
    assert launch_bounds(ptx) == {"_Z3one4Args": Bounds(256, 2)}
    with pytest.raises(AssertionError, match="no launch bounds"):
        launch_bounds(".entry _Z3two4Args(\n)\n{ }")
    report = "Compiling entry function '_Z3one4Args' for 'sm_80'\nptxas info : x\nptxas info : Used 128 registers"
    assert registers(report) == {"_Z3one4Args": 128}
    assert kernels_of_launch('launch(some_kernel<decltype(row), 3>, "some", {1}, 32)', "some") == {"some_kernel"}
    assert kernels_of_launch('launch(one < Row, 2 > 1 ? 2 : 1 >, "some", {1}, 32)', "some") == {"one"}
    assert kernels_of_launch('launch(kernel, "some", {1}, 32)', "some") == {"some_kernel"}
    assert of_kernel("one", launch_bounds(ptx)) == [Bounds(256, 2)]


def test_what_has_no_room() -> None:
    check_room(Bounds(256, 2), 128, CARD)
    check_room(Bounds(1024, 1), 64, CARD)
    for bounds, of_thread in ((Bounds(256, 2), 129), (Bounds(1056, 1), 16), (Bounds(576, 2), 16), (Bounds(32, 17), 16)):
        with pytest.raises(AssertionError):
            check_room(bounds, of_thread, CARD)


def test_what_launches_and_kernels_say_of_threads() -> None:
    source = """
        NRC_FAST_GLOBAL(Gram::threads, blocks)
        one_kernel(Arguments arguments) {}
        NRC_FAST_GLOBAL(columns_at_once* walkers, 1)
        two_kernel(Arguments arguments) {}
        launch(one_kernel<Row, Gram>, "one", {f(1, 2), 3},
               Gram::threads, 0, stream);
        launch(two_kernel, "two", grid, columns_at_once * walkers, g(1, 2), stream);
    """
    assert bounded_threads(source) == {"one_kernel": "Gram::threads", "two_kernel": "columns_at_once*walkers"}
    assert launched_threads(source) == [
        ("one_kernel", "one", "Gram::threads"),
        ("two_kernel", "two", "columns_at_once*walkers"),
    ]


def test_launches_have_the_threads_of_the_bounds_of_their_kernels() -> None:
    """By the same words, in the template arguments of a kernel too: what no launch of small passes may come to."""
    texts = {path: path.read_text(encoding="utf-8") for path in sorted(CSRC.glob("cuda/*/*.[ch]*"))}
    texts = {path: text for path, text in texts.items() if path.suffix in {".cu", ".h"}}
    places = {kernel: (path, words) for path, text in texts.items() for kernel, words in bounded_threads(text).items()}
    seen = set()
    for path, text in texts.items():
        for kernel, name, words in launched_threads(text):
            home, bound = places[kernel]
            seen.add(kernel)
            if name in WITHIN_BOUNDS:
                continue
            assert words == bound, (path.name, name)
            # The same word is the same number: each is defined once in what the two files see.
            assert home == path or not re.search(rf"\bint {words} =", text), (path.name, name)
    assert seen == set(places)


@pytest.mark.long
def test_launches_keep_to_the_bounds(cuda_core: Any, tmp_path: Path) -> None:
    backend = cuda_core.Emulation()
    launched: dict[str, int] = {}
    for work in SMALL_PASSES:
        work.bits(backend, keeps_records=True)
        for name, _, threads, _ in backend.core.launched():
            launched[name] = max(launched.get(name, 0), threads)
    for name, source in WITHIN_BOUNDS.items():
        target, path = tmp_path / f"{name}.ptx", CSRC / "cuda" / f"{source}.cu"
        command = [require_tool("nvcc"), "-std=c++17", f"-I{CSRC}", "-arch=compute_80", "-ptx", "-o", str(target)]
        subprocess.run([*command, str(path)], check=True)
        bounds = launch_bounds(target.read_text(encoding="utf-8"))
        kernels = kernels_of_launch(path.read_text(encoding="utf-8"), name)
        found = [bound for function in kernels for bound in of_kernel(function, bounds)]
        # Templates of one kernel may have different bounds: the launch has to keep to its own.
        assert launched[name] <= max(bound.threads for bound in found), name
