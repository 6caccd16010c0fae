"""The machine code of the built kernels is as good as the one on record, and its page says what the record says."""

from __future__ import annotations

import json
from copy import deepcopy
from typing import Any

import pytest
from support.benches import bench
from support.tools import must_be_complete


@pytest.fixture
def record() -> Any:
    return bench("read_machine_code").read_record()


@pytest.fixture
def kernel() -> str:
    """One with tensor cores and a ring of copies: the first that has a target."""
    return str(bench("machine_code.passes").PASSES[0].readers[-1])


def require_disassembler(*others: str) -> None:
    """Skip, or fail in CI, without the programs that read machine code."""
    missing = bench("machine_code.tools").missing_tools("cuobjdump", "nvdisasm", "c++filt", *others)
    if missing:
        message = f"{', '.join(missing)} are not here: pip install nvidia-cuda-cuobjdump nvidia-cuda-nvdisasm"
        pytest.fail(message) if must_be_complete() else pytest.skip(message)


def differences(found: list[Any]) -> str:
    again = bench("read_machine_code").AGAIN
    return "\n".join([*map(str, found), f"If that is meant: {again}, --accept-worse if a number is worse."])


def test_no_count_of_the_built_module_is_worse(record: Any) -> None:
    """Better ones fail too, so that the record is renewed and keeps them."""
    require_disassembler()
    command = bench("read_machine_code")
    if bench("machine_code.tools").built_module() is None:
        if not must_be_complete():
            pytest.skip("the CUDA kernels are not built")
        require_disassembler("nvcc")
    present = command.present_record(command.parser().parse_args([]))
    if must_be_complete():
        assert set(present["kernels"]) == set(command.ARCHITECTURES)
    found = bench("machine_code.gate").changes(record, present)
    assert not found, differences(found)


def test_no_kernel_keeps_anything_in_local_memory(record: Any) -> None:
    kernels = [facts for of_one in record["kernels"].values() for facts in of_one.values()]
    assert len(kernels) > 100
    assert not any("local" in facts for facts in kernels)


@pytest.mark.long
def test_worse_code_of_the_compiler_is_found() -> None:
    require_disassembler("nvcc")
    tools, facts = bench("machine_code.tools"), bench("machine_code.facts")
    records = [
        facts.record_of(tools.compiled(["90a"], names=["gram/tensor"], options=options))
        for options in ([], ["-Xptxas=-O1"])
    ]
    found = bench("machine_code.gate").changes(*records)
    worse = {change.quantity for change in found if change.is_worse and change.kernel.startswith("gram_tensor_kernel<")}
    assert {"instructions a product", "share of peak on H100 SXM"} <= worse


def test_page_says_what_the_record_says(record: Any, kernel: str) -> None:
    command = bench("read_machine_code")
    assert command.record_text(record) == command.RECORD.read_text(encoding="utf-8"), f"run: {command.AGAIN}"
    written = command.PAGE.read_text(encoding="utf-8")
    assert bench("machine_code.page").page(record) == written, f"run: {command.AGAIN}"
    # A row, read again.
    facts = record["kernels"]["90a"][kernel]
    title = bench("machine_code.kernels").title_of(kernel)
    row = next(line for line in written.split("## H100")[1].splitlines() if line.startswith(f"| {title} |"))
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    counts = facts["loop"]["counts"]
    assert cells[1:5] == [str(facts[key]) for key in ("registers", "threads", "blocks")] + [str(counts["tensor"])]
    assert cells[7] == str(counts["copy"])
    assert cells[9] == str(sum(counts.values()))


def test_every_kernel_has_a_name_and_every_target_is_met(record: Any) -> None:
    """Who adds, renames or fuses kernels says so in bench/machine_code/kernels.py."""
    kernels, page, card = (
        bench("machine_code.kernels"),
        bench("machine_code.page"),
        bench("machine_code.cards").CARDS[1],
    )
    for architecture, known in record["kernels"].items():
        for name in known:
            assert "`" not in kernels.title_of(name), (architecture, name)
    for wanted in bench("machine_code.passes").PASSES:
        assert set(wanted.readers) <= record["kernels"]["90a"].keys(), wanted.title
        assert page.is_met(card, record["kernels"]["90a"], wanted), wanted.title


def test_targets_are_computed() -> None:
    page, cards, passes = bench("machine_code.page"), bench("machine_code.cards"), bench("machine_code.passes")
    card = cards.CARDS[1]
    loop = {"counts": {"tensor": 32}, "tensor work": 32 * 2048, "multiply-adds": 0, "is float64": False}
    loop |= {"shared bytes": 0, "loaded bytes": 16, "row bytes": 16, "in flight": 48, "behind barriers": 9, "folded": 0}
    facts = {"registers": 128, "threads": 256, "shared": 0, "blocks": 2, "loop": loop}
    once = passes.Pass("once", ("a",), is_half=False, share_of_bandwidth=0.85)
    twice = passes.Pass("twice", ("a", "a"), is_half=False, share_of_bandwidth=0.85)
    products = passes.Pass("products", ("a",), is_half=False, share_of_peak=0.6)
    known = {"a": facts}
    # 24 KB on their way are enough, but the products take 8 x 32 x 2 x 2,048 multiply-adds for 8 KB of rows.
    clocks = 16 * 32 * 2048 / card.tensor
    share = 16 * 512 * card.clock * card.multiprocessors / clocks / card.bandwidth
    assert share < 1
    assert page.share_of_pass(card, known, once) == pytest.approx((1.0, share))
    assert page.share_of_pass(card, known, twice)[1] == pytest.approx(share / 2)
    assert page.is_met(card, known, products)
    assert not page.is_met(card, known, once)
    loop["tensor work"] //= 4
    assert page.is_met(card, known, once)
    assert not page.is_met(card, known, twice)
    loop["in flight"] = 2
    assert not page.is_met(card, known, once)
    assert not page.is_met(card, {}, once)


def worsened(record: Any, kernel: str, key: str, change: Any) -> Any:
    """A record in which one number of the loop of one kernel is another one."""
    new = deepcopy(record)
    loop = new["kernels"]["90a"][kernel]["loop"]
    loop[key] = change(loop[key])
    return new


@pytest.mark.parametrize(
    ("key", "change", "quantity"),
    [
        ("counts", lambda counts: counts | {"integer": counts["integer"] + 1}, "integer instructions a product"),
        ("counts", lambda counts: counts | {"copy": counts["copy"] + 1}, "copies a product"),
        ("counts", lambda counts: counts | {"control": counts["control"] + 1}, "instructions a product"),
        ("shared bytes", lambda number: number + 16, "bytes of shared memory a product"),
        ("behind barriers", lambda number: number + 1, "instructions behind barriers a product"),
        ("in flight", lambda number: number - 16, "bytes in flight on a multiprocessor"),
    ],
)
def test_one_worse_count_is_found(record: Any, kernel: str, key: str, change: Any, quantity: str) -> None:
    gate = bench("machine_code.gate")
    new = worsened(record, kernel, key, change)
    assert gate.changes(record, record) == []
    found = gate.changes(record, new)
    assert {(each.kernel, each.architecture) for each in found} == {(kernel, "90a")}
    (named,) = (each for each in found if each.quantity == quantity)
    assert named.is_worse
    assert "worse" in str(named)
    assert kernel in str(named)
    # The other way round it is better, and asks for a new record too.
    (named,) = (each for each in gate.changes(new, record) if each.quantity == quantity)
    assert not named.is_worse


def test_registers_count_where_a_block_less_fits(record: Any, kernel: str) -> None:
    gate = bench("machine_code.gate")
    new = deepcopy(record)
    facts = new["kernels"]["90a"][kernel]
    facts["registers"] -= 1
    (change,) = gate.changes(record, new)
    assert (change.quantity, change.is_worse) == ("other counts", False)
    facts["blocks"], facts["local"] = 0, 8
    worse = {each.quantity for each in gate.changes(record, new) if each.is_worse}
    assert {"blocks at once on a multiprocessor", "bytes of local memory", "share of peak on H100 SXM"} <= worse


def test_other_compilers_have_a_margin(record: Any, kernel: str) -> None:
    gate = bench("machine_code.gate")
    new = worsened(record, kernel, "behind barriers", lambda number: number + 1) | {"compiler": "99.0"}
    assert gate.changes(record, new) == []
    new = worsened(record, kernel, "behind barriers", lambda number: 2 * number + 40) | {"compiler": "99.0"}
    assert "instructions behind barriers a product" in {each.quantity for each in gate.changes(record, new)}
    assert gate.changes(new, record) == []  # what is better there is nobody's matter here


def test_kernels_that_came_and_went(record: Any, kernel: str) -> None:
    gate = bench("machine_code.gate")
    new = deepcopy(record)
    new["kernels"]["80"]["new_kernel"] = new["kernels"]["80"].pop(kernel)
    found = [(each.kernel, each.after) for each in gate.changes(record, new)]
    assert found == [(kernel, "gone"), ("new_kernel", "new")]
    del new["kernels"]["80"]
    assert gate.changes(record, new) == []  # not built for it


def test_the_command_writes_nothing_worse(
    record: Any, kernel: str, tmp_path: Any, monkeypatch: Any, capsys: Any
) -> None:
    command = bench("read_machine_code")
    path = tmp_path / "record.json"
    monkeypatch.setattr(command, "RECORD", path)
    monkeypatch.setattr(command, "PAGE", path.with_suffix(".md"))
    present = deepcopy(record)
    monkeypatch.setattr(command, "present_record", lambda _: present)
    assert command.main(["--write"]) == 0
    assert json.loads(path.read_text(encoding="utf-8")) == record
    assert command.main([]) == 0
    present["kernels"]["90a"][kernel]["loop"]["behind barriers"] += 1
    assert command.main([]) == 1
    assert command.main(["--write"]) == 1
    assert json.loads(path.read_text(encoding="utf-8")) == record
    assert "instructions behind barriers a product" in capsys.readouterr().out
    assert command.main(["--write", "--accept-worse"]) == 0
    assert json.loads(path.read_text(encoding="utf-8")) == present
