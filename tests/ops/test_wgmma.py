"""The checker of matrix products in flight, on machine code with planted faults."""

from __future__ import annotations

import pytest

from golf_fast.ops.wgmma import hazards, products

SOUND = """
.L_x_0:
        /*0010*/                   WARPGROUP.ARRIVE ;
        /*0020*/                   HGMMA.64x64x16.F32.BF16 R24, gdesc[UR16], RZ, !UPT ;
        /*0030*/                   HGMMA.64x64x16.F32.BF16 R24, gdesc[UR20], R24, gsb0 ;
        /*0040*/                   IMAD.MOV.U32 R2, RZ, RZ, R3 ;
        /*0050*/                   WARPGROUP.DEPBAR.LE gsb0, 0x0 ;
        /*0060*/                   FADD R100, R24, R25 ;
        /*0070*/                   F2FP.BF16.F32.PACK_AB R88, R100, R101 ;
        /*0080*/                   WARPGROUP.ARRIVE ;
        /*0090*/                   HGMMA.64x64x16.F32.BF16 R56, R88, gdesc[UR16].tnspB, R56, gsb0 ;
        /*00a0*/                   LDGDEPBAR ;
        /*00b0*/               @P4 BRA `(.L_x_1) ;
        /*00c0*/                   FMUL R2, R3, R4 ;
.L_x_1:
        /*00d0*/                   WARPGROUP.DEPBAR.LE gsb0, 0x0 ;
        /*00e0*/               @P5 BRA `(.L_x_0) ;
        /*00f0*/                   STG.E.128 desc[UR4][R2.64], R56 ;
        /*0100*/                   EXIT ;
"""


def test_sound_code_passes() -> None:
    assert products(SOUND) == 3
    assert hazards(SOUND) == []


@pytest.mark.parametrize(
    ("line", "fault", "found"),
    [
        ("FMUL R2, R3, R4", "FMUL R91, R3, R4", "a factor of the product at 0090 is overwritten at 00c0"),
        ("FMUL R2, R3, R4", "LDS.128 R92, [R2]", None),
        ("FMUL R2, R3, R4", "LDS.128 R86, [R2]", "a factor of the product at 0090 is overwritten at 00c0"),
        ("FMUL R2, R3, R4", "FMUL R87, R3, R4", "the accumulator of the product at 0090 is touched at 00c0"),
        ("FMUL R2, R3, R4", "FADD R2, R56, R4", "the accumulator of the product at 0090 is touched at 00c0"),
        ("FMUL R2, R3, R4", "STS [R2], R87", "the accumulator of the product at 0090 is touched at 00c0"),
        ("IMAD.MOV.U32 R2, RZ, RZ, R3", "CS2R R54, SRZ", "the accumulator of the product at 0020 is touched at 0040"),
        ("IMAD.MOV.U32 R2, RZ, RZ, R3", "CS2R R56, SRZ", None),
        ("LDGDEPBAR", "@P0 FMUL R90, R3, R4", "a factor of the product at 0090 is overwritten at 00a0"),
    ],
)
def test_what_is_touched_too_early_is_seen(line: str, fault: str, found: str | None) -> None:
    said = hazards(SOUND.replace(line, fault))
    assert said == [] if found is None else said[0].startswith(found)


def test_round_the_edge_of_a_loop() -> None:
    """Without a wait at its end the next turn of the loop comes while the product is in flight."""
    first, last = "/*0010*/                   ", "/*00d0*/                   "
    code = SOUND.replace(f"{last}WARPGROUP.DEPBAR.LE gsb0, 0x0", f"{last}NOP")
    code = code.replace(f"{first}WARPGROUP.ARRIVE", f"{first}FMUL R89, R2, R3")
    assert any(said.startswith("a factor of the product at 0090 is overwritten at 0010") for said in hazards(code))


def test_a_product_that_overwrites_a_factor_in_flight() -> None:
    second = "/*0095*/                   HGMMA.64x64x16.F32.BF16 R64, gdesc[UR16], R64, gsb0 ;"
    code = SOUND.replace(".tnspB, R56, gsb0 ;", f".tnspB, R56 ;\n        {second}")
    assert any("overwritten by the product at 0095" in said for said in hazards(code))
