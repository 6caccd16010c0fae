"""Counts, loops, flights and bounds of small listings that can be counted by hand."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from typing import Any

import pytest
from support.benches import bench

# Four stages of a ring: two products of the same accumulators and one more; a copy on each side, the second one left
# out on the diagonal; a branch that is never left out of the longest way; a fold and a slab now and then.
RING = """
	.section	.text._Z4ringv,"ax",@progbits
.text._Z4ringv:
        /*0000*/                   MOV R1, c[0x0][0x28] ;
        /*0010*/              @P5 BRA `(.L_x_9) ;
.L_x_1:
        /*0020*/                   DEPBAR.LE SB0, 0x2 ;
        /*0030*/                   BAR.SYNC.DEFER_BLOCKING 0x0 ;
        /*0040*/               @P0 BRA `(.L_x_4) ;
        /*0050*/                   BSSY B0, `(.L_x_3) ;
        /*0060*/              @!P1 BRA `(.L_x_2) ;
        /*0070*/                   IMAD.WIDE R32, R35, 0x10, R32 ;
        /*0080*/                   IADD3 R33, R33, 0x4, RZ ;
.L_x_2:
        /*0090*/                   BSYNC B0 ;
.L_x_3:
        /*00a0*/              @!PT LDS RZ, [RZ] ;
        /*00b0*/                   LDGSTS.E.BYPASS.128.ZFILL [R41], desc[UR8][R32.64], P0 ;
        /*00c0*/              @!P2 BRA `(.L_x_4) ;
        /*00d0*/                   LDGSTS.E.BYPASS.128.ZFILL [R41+0x2000], desc[UR8][R32.64], P2 ;
.L_x_4:
        /*00e0*/                   LDGDEPBAR ;
        /*00f0*/                   LDSM.16.MT88.4 R4, [R42] ;
        /*0100*/                   HMMA.16816.F32.BF16 R8, R4, R6, R8 ;
        /*0110*/                   LDSM.16.MT88.2 R20, [R42+0x200] ;
        /*0120*/                   HMMA.16816.F32.BF16 R12, R4, R20, R12 ;
        /*0130*/                   HMMA.16816.F32.BF16 R8, R4, R20, R8 ;
        /*0140*/               @P3 BRA P4, `(.L_x_5) ;
{fold}
.L_x_5:
        /*0300*/              @!P4 BRA `(.L_x_6) ;
        /*0310*/                   LDG.E.64 R50, desc[UR8][R60.64] ;
        /*0320*/                   DADD R50, R50, R52 ;
        /*0330*/                   STG.E.64 desc[UR8][R60.64], R50 ;
.L_x_6:
        /*0340*/                   VIADD R36, R36, 0x1 ;
        /*0350*/              @!P5 BRA `(.L_x_1) ;
.L_x_9:
        /*0360*/                   EXIT ;
.L_x_10:
        /*0370*/                   BRA `(.L_x_10);
"""
FOLD = [f"        /*{0x150 + 16 * i:04x}*/   FADD R{70 + i}, R{70 + i}, R{8 + i % 8} ;" for i in range(16)]
RING = RING.replace("{fold}", "\n".join(FOLD))

# Eight turns of two multiply-adds inside a loop that loads; what is loaded in one turn is used in the next.
NESTED = """
.text._Z6nestedv:
        /*0000*/                   IMAD.MOV.U32 R7, RZ, RZ, RZ ;
.L_x_1:
        /*0010*/                   STS [R2], R10 ;
        /*0020*/                   BAR.SYNC.DEFER_BLOCKING 0x0 ;
        /*0030*/                   LDG.E.U16 R10, desc[UR4][R4.64] ;
        /*0040*/                   LDG.E.U16 R11, desc[UR4][R4.64+0x40] ;
        /*0050*/                   LDG.E.64 R12, desc[UR4][R6.64] ;
        /*0060*/                   MOV R9, RZ ;
.L_x_2:
        /*0070*/                   LDS.128 R16, [R3] ;
        /*0080*/                   FFMA R20, R16, R17, R20 ;
        /*0090*/                   FFMA R21, R18, R19, R21 ;
        /*00a0*/                   IADD3 R9, R9, 0x4, RZ ;
        /*00b0*/                   ISETP.NE.AND P0, PT, R9, 0x20, PT ;
        /*00c0*/               @P0 BRA `(.L_x_2) ;
        /*00d0*/               @P1 BRA `(.L_x_1) ;
        /*00e0*/                   EXIT ;
"""

# One half of the warps copies and works before its products, the other half after them.
IN_TURNS = """
.text._Z5turnsv:
        /*0000*/                   MOV R33, RZ ;
.L_x_1:
        /*0010*/                   BAR.SYNC.DEFER_BLOCKING 0x0 ;
        /*0020*/              @P0 BRA `(.L_x_2) ;
        /*0030*/                   LDGSTS.E.BYPASS.128 [R41], desc[UR8][R32.64] ;
        /*0040*/                   IADD3 R34, R34, 0x4, RZ ;
        /*0050*/                   IADD3 R35, R35, 0x4, RZ ;
.L_x_2:
        /*0060*/                   HMMA.16816.F32.BF16 R8, R4, R6, R8 ;
        /*0070*/             @!P0 BRA `(.L_x_3) ;
        /*0080*/                   LDGSTS.E.BYPASS.128 [R41], desc[UR8][R32.64] ;
        /*0090*/                   IADD3 R34, R34, 0x4, RZ ;
        /*00a0*/                   IADD3 R35, R35, 0x4, RZ ;
.L_x_3:
        /*00b0*/              @!P5 BRA `(.L_x_1) ;
        /*00c0*/                   EXIT ;
"""


def only(listing: str) -> Any:
    (function,) = bench("machine_code.listing").read_listing(listing)
    return function


def loop_of(listing: str, **known: Any) -> Any:
    module = bench("machine_code.main_loop")
    return module.main_loop(only(listing), module.Launch(**known))


def facts_of(listing: str, name: str = "ring_kernel", **changed: int) -> Any:
    tools, facts = bench("machine_code.tools"), bench("machine_code.facts")
    resources = tools.Resources(**{"registers": 254, "threads": 256, "shared": 1024, "local": 0} | changed)
    return facts.facts_of(name, "90a", resources, only(listing))


def test_instructions_are_read() -> None:
    function = only(RING)
    assert function.name == "_Z4ringv"
    assert len(function.instructions) == 21 + 16 + 8
    assert function.instructions[function.labels[".L_x_4"]].name == "LDGDEPBAR"
    by_address = {each.address: each for each in function.instructions}
    copy = by_address[0xB0]
    assert (copy.operation, copy.bytes, copy.predicate, copy.registers) == ("LDGSTS", 16, "", {41, 32, 33})
    product = by_address[0x120]
    assert product.registers == {*range(4, 8), 20, 21, *range(12, 16)}
    assert product.written == 12
    assert (by_address[0xF0].bytes, by_address[0x110].bytes) == (16, 8)
    assert by_address[0xF0].registers == {4, 5, 6, 7, 42}
    assert by_address[0x320].registers == {50, 51, 52, 53}
    assert by_address[0x330].registers == {60, 61, 50, 51}
    assert by_address[0x60].target == ".L_x_2"
    assert by_address[0xA0].is_off


def test_of_warps_that_take_turns_those_count_that_multiply_first() -> None:
    """What they do, the others do before their products: each of both once a turn, and behind no barrier."""
    both, once = (
        facts_of(IN_TURNS, name)["loop"]
        for name in ("ring_kernel", "gram_row_tiles_kernel<RowGram<float, 128, 2, false>>")
    )
    assert (both["counts"]["copy"], both["counts"]["integer"], both["behind barriers"]) == (2, 4, 4)
    assert (once["counts"]["copy"], once["counts"]["integer"], once["behind barriers"]) == (1, 2, 1)
    assert loop_of(IN_TURNS, takes_turns=True).half is None


def test_loops_and_what_leads_where() -> None:
    loops = bench("machine_code.loops")
    graph = loops.graph_of(only(NESTED))
    inner, outer = loops.find_loops(graph)
    assert (inner.outer, outer.inner, outer.outer) == (outer, [inner], None)
    assert inner.blocks < outer.blocks
    assert [each.name for each in graph.blocks[inner.header]][:1] == ["LDS.128"]
    # Every turn of the ring passes its products, not its copies.
    graph = loops.graph_of(only(RING))
    (ring,) = (loop for loop in loops.find_loops(graph) if len(loop.blocks) > 1)
    always = [each.operation for block in loops.always_run(graph, ring) for each in graph.blocks[block]]
    assert always.count("HMMA") == 3
    assert "LDGSTS" not in always
    # Where lanes meet again, the way goes on at the label of their BSSY.
    meeting = next(block for block, code in enumerate(graph.blocks) if code[-1].operation == "BSYNC")
    assert [graph.blocks[follower][0].address for follower in graph.after[meeting]] == [0xA0]


def test_sums_that_are_folded_between_two_runs_of_a_loop() -> None:
    inside = RING.replace(".L_x_1:", ".L_x_0:\n        /*0018*/  MOV R36, RZ ;\n.L_x_1:")
    inside = inside.replace("@P3 BRA P4, `(.L_x_5)", "@P3 BRA `(.L_x_1)").replace(
        "@!P5 BRA `(.L_x_1)", "@!P5 BRA `(.L_x_0)"
    )
    loop = loop_of(inside)
    assert [each.operation for each in loop.path][-1] == "BRA"
    assert "FADD" not in [each.operation for each in loop.path]
    assert [each.operation for each in loop.folded] == ["FADD"] * 16  # not what goes to the slab


def test_counts_of_a_ring() -> None:
    loop = loop_of(RING)
    counts = bench("machine_code.instructions").count(loop.path)
    expected = {"tensor": 3, "copy": 2, "shared load": 2, "barrier": 3, "integer": 2, "multiply": 1, "off": 1}
    assert counts == expected | {"control": 8}  # six branches, and both halves of the meeting
    assert len(loop.half) == len(loop.path) - 1
    assert [each.operation for each in loop.folded] == ["FADD"] * 16  # not what goes to the slab
    facts = facts_of(RING)
    assert facts["loop"]["tensor work"] == 3 * 16 * 16 * 8
    assert facts["loop"]["shared bytes"] == 16 + 8 + 2 * 16
    # From the barrier to the first product.
    assert facts["loop"]["behind barriers"] == 12
    # Two groups may be pending when the third has been asked for: four stages of 2 x 16 bytes and 256 threads.
    assert facts["shared"] == 4 * 2 * 16 * 256
    assert facts["loop"]["round trips"] == "1/3"
    assert facts["loop"]["in flight"] == 3 * 32
    assert facts["half loop"]["in flight"] == 3 * 16


def test_counts_of_loops_inside() -> None:
    loop = loop_of(NESTED)
    counts = bench("machine_code.instructions").count(loop.path)
    assert loop.turns_of_inner == [8]
    assert (counts["float32"], counts["shared load"], counts["global load"], counts["barrier"]) == (16, 8, 3, 1)
    unknown = loop_of(NESTED.replace("MOV R9, RZ", "MOV R9, R30"))
    assert unknown.turns_of_inner == [None]
    assert bench("machine_code.instructions").count(unknown.path)["float32"] == 2
    # A loop that waits has an end too, at which it gives up.
    waiting = loop_of(NESTED.replace("R9, 0x20", "R9, 0x4000000"))
    assert waiting.turns_of_inner == [1]
    assert bench("machine_code.instructions").count(waiting.path)["float32"] == 2


def test_products_of_warpgroups() -> None:
    line = "        /*2580*/                   HGMMA.64x128x16.F32.BF16 R24, gdesc[UR16].tnspA.tnspB, R24, gsb0 ;\n"
    instructions = bench("machine_code.instructions")
    (product,) = only(".text._Z1kv:\n" + line).instructions
    assert product.name == "HGMMA.64x128x16.F32.BF16"
    assert instructions.kind_of(product) == "tensor"
    assert 4 * instructions.work_of(product) == 64 * 128 * 16


def test_counts_that_only_the_launch_knows() -> None:
    count = bench("machine_code.instructions").count
    many = loop_of(NESTED.replace("MOV R9, RZ", "MOV R9, R30"), inside=5)
    assert many.turns_of_inner == [5]
    assert count(many.path)["float32"] == 10
    # A loop of copies in front of the products, which may be passed by, and copies behind it.
    copies = """.L_x_3:
        /*0061*/                   LDGSTS.E.BYPASS.128 [R41], desc[UR4][R32.64] ;
        /*0062*/                   LDGSTS.E.BYPASS.128 [R41+0x200], desc[UR4][R32.64+0x200] ;
        /*0063*/               @P3 BRA `(.L_x_3) ;
        /*0064*/               @P4 BRA `(.L_x_2) ;
        /*0065*/                   LDGSTS.E.BYPASS.128 [R41], desc[UR4][R32.64] ;
.L_x_2:
"""
    listing = "\n".join(line for line in NESTED.splitlines() if "LDG.E" not in line).replace(".L_x_2:\n", copies)
    assert count(loop_of(listing).path)["copy"] == 3
    assert None in loop_of(listing).turns_of_inner
    for number in (2, 3):
        loop = loop_of(listing, copies=number)
        assert count(loop.path)["copy"] == number
        assert sorted(loop.turns_of_inner) == [1, 8]
    with pytest.raises(ValueError, match="no turn has 4 copies and loads"):
        loop_of(listing, copies=4)


def test_copies_at_the_edges_of_a_matrix() -> None:
    """They ask how much of them there is; of as many copies those are a turn's that need not."""
    copies = """        /*0061*/               @P3 BRA `(.L_x_3) ;
        /*0062*/                   IADD3 R40, R41, 0x10, RZ ;
        /*0063*/                   LDGSTS.E.BYPASS.128.ZFILL [R41], desc[UR4][R32.64], P2 ;
        /*0064*/                   BRA `(.L_x_2) ;
.L_x_3:
        /*0065*/                   LDGSTS.E.BYPASS.128 [R41], desc[UR4][R32.64] ;
.L_x_2:
"""
    listing = "\n".join(line for line in NESTED.splitlines() if "LDG.E" not in line).replace(".L_x_2:\n", copies)
    found = [each.name for each in loop_of(listing).path if each.operation == "LDGSTS"]
    assert found == ["LDGSTS.E.BYPASS.128"]
    edges = listing.replace("128 [R41], desc[UR4][R32.64] ;", "128.ZFILL [R41], desc[UR4][R32.64], P2 ;")
    assert len(loop_of(edges).path) == len(loop_of(listing).path) + 2


def test_jumps_that_look_like_calls_or_are_hardly_ever_made() -> None:
    """A call to a place in the kernel is a jump; what lanes do that have parted is in no turn."""
    usual = loop_of(NESTED)
    called = NESTED.replace(
        "@P1 BRA `(.L_x_1) ;", "@!P1 CALL.REL.NOINC `(.L_x_5) ;\n        /*00d8*/                   BRA `(.L_x_1) ;"
    )
    called = called.replace("        /*00e0*/", ".L_x_5:\n        /*00e0*/")
    loops = bench("machine_code.loops")
    for listing in (NESTED, called):
        graph = loops.graph_of(only(listing))
        inner, outer = loops.find_loops(graph)
        assert inner.outer is outer
    graph = loops.graph_of(only(called))
    last = next(block for block, code in enumerate(graph.blocks) if code[-1].operation == "EXIT")
    assert graph.before[last], "the call leads out of the loop"
    assert loop_of(called).turns_of_inner == [8]
    parted = NESTED.replace(
        "        /*0060*/", "        /*0058*/                   BRA.DIV ~URZ, `(.L_x_6) ;\n        /*0060*/"
    )
    parted += """.L_x_6:
        /*00f0*/                   FADD R50, R50, R51 ;
        /*0100*/                   BRA `(.L_x_1) ;
"""
    path = loop_of(parted).path
    assert len(path) == len(usual.path) + 1
    assert "FADD" not in {each.operation for each in path}


def test_bytes_in_flight() -> None:
    flight = bench("machine_code.flight")
    path = loop_of(NESTED).path
    # All loads are asked for before one is used, once in a turn.
    assert flight.flight_of(path) == flight.Flight(2 + 2 + 8, 3, Fraction(1))
    # A shift is in the cache: of 16-bit rows there are four bytes.
    assert flight.flight_of(path, 2) == flight.Flight(4, 2, Fraction(1))
    # Each load used before the next one is asked for: as many ways there and back as there are loads.
    serial = NESTED.replace("LDG.E.U16 R11", "IADD3 R10, R10, R10, RZ ;\n        /*0038*/  LDG.E.U16 R11")
    serial = serial.replace("LDG.E.64", "IADD3 R11, R11, R11, RZ ;\n        /*0048*/  LDG.E.64")
    found = flight.flight_of(loop_of(serial).path, 2)
    assert (found.round_trips, found.in_flight) == (2, 2)
    # A copy that is waited for at once.
    assert flight.flight_of(loop_of(RING.replace("SB0, 0x2", "SB0, 0x0")).path).round_trips == 1


def test_blocks_at_once_as_in_the_guides() -> None:
    occupancy = bench("machine_code.occupancy")
    ampere, hopper = occupancy.LIMITS["80"], occupancy.LIMITS["90"]
    # The CUDA C++ Best Practices Guide, "Calculating Occupancy", for 64 warps and 65,536 registers.
    assert occupancy.blocks_at_once(ampere, 128, 32, 0) * 128 == 2048
    assert occupancy.blocks_at_once(ampere, 128, 37, 0) == 12
    assert occupancy.blocks_at_once(ampere, 320, 37, 0) == 4
    # The tuning guides: a block may have 163 KB on 8.0 and 227 KB on 9.0, and 1 KB of each is the system's.
    for limits, most in ((ampere, 163), (hopper, 227)):
        assert occupancy.blocks_at_once(limits, 128, 32, most * 1024) == 1
        assert occupancy.blocks_at_once(limits, 128, 32, most * 1024 + 1) == 0
        assert occupancy.blocks_at_once(limits, 128, 32, (most - 1) // 2 * 1024) == 2
    # 255 registers of 256 threads, and of 257, which are nine warps.
    assert occupancy.blocks_at_once(hopper, 256, 255, 0) == 1
    assert occupancy.blocks_at_once(hopper, 257, 255, 0) == 0
    # The most registers with which two and three blocks of 256 threads fit.
    for registers, blocks in ((128, 2), (129, 1), (80, 3), (81, 2)):
        assert occupancy.blocks_at_once(hopper, 256, registers, 0) == blocks


def test_bytes_that_a_bandwidth_needs() -> None:
    bounds, cards = bench("machine_code.bounds"), bench("machine_code.cards")
    card = replace(cards.CARDS[1], bandwidth=4e12, multiprocessors=100, latency=5e-7)
    assert bounds.needed_in_flight(card) == pytest.approx(20_000)
    assert bounds.needed_in_flight(card, 0.85) == pytest.approx(17_000)
    assert bounds.share_of_bandwidth(card, 5_000) == pytest.approx(0.25)
    assert bounds.share_of_bandwidth(card, 50_000) == 1.0


def test_bounds_of_a_ring() -> None:
    bounds, cards = bench("machine_code.bounds"), bench("machine_code.cards")
    card = cards.CARDS[1]
    facts = facts_of(RING)
    bound = bounds.bound_of(card, facts)
    # Eight warps of one block: 22 instructions on four schedulers, 3 x 2,048 multiply-adds, 56 bytes of each lane.
    assert facts["blocks"] == 1
    assert bound.clocks["schedulers"] == 8 * 22 / 4
    assert bound.clocks["tensor cores"] == pytest.approx(8 * 3 * 2048 / card.tensor)
    assert bound.clocks["shared memory"] == 8 * 56 * 32 / 128
    assert bound.clocks["cache"] == pytest.approx(32 * 256 / (3840 / 132))
    assert bound.exposed == 8 * 12 / 4 + card.shared_latency
    assert bound.limit == "cache"
    assert bound.share_of_peak == pytest.approx(bound.clocks["tensor cores"] / bound.turn)
    # Two blocks overlap what one cannot.
    both = bounds.bound_of(card, facts_of(RING, registers=128))
    assert both.exposed == 0
    assert both.clocks["schedulers"] == 2 * bound.clocks["schedulers"]
    # Fewer bytes in flight than Little's law asks for: the share is theirs.
    slow = replace(card, latency=1.0)
    assert bounds.bound_of(slow, facts).share_of_bandwidth == pytest.approx(
        3 * 32 * 256 / (card.bandwidth / card.multiprocessors)
    )
    assert bounds.bound_of(card, facts | {"blocks": 0}) is None


def test_kernels_have_readable_names() -> None:
    kernels = bench("machine_code.kernels")
    assert kernels.arguments_of("a_kernel<float, Sums<int, 2>, 3>") == ["float", "Sums", "int", "2", "3"]
    assert kernels.title_of("residual_kernel<BFloat16, float>") == "residual by lanes, bfloat16 rows in float32"
    for unknown in ("residual_kernel<BFloat16>", "residual_kernel<3, float>"):
        assert kernels.title_of(unknown) == f"`{unknown}`"
    assert kernels.title_of("new_kernel<3>") == "`new_kernel<3>`"
    shorter = bench("machine_code.tools")._short
    space = "nrc_fast::cuda::(anonymous namespace)::"
    long = f"void {space}planes_kernel<nrc_fast::Float16, (nrc_fast::cuda::PlaneContent)1>({space}PlaneArguments)"
    assert shorter(long) == "planes_kernel<Float16, 1>"
