"""Checks whether machine code for sm_90 uses registers that a matrix product in flight still needs.

`HGMMA`, the machine instruction of `wgmma`, runs asynchronously until `WARPGROUP.DEPBAR.LE gsb0, 0x0`. Until then the
registers of its factor must not be written, and its accumulator must not be used except by another product. Some
releases of ptxas silently reused the registers of a factor too early (triton issues 9433 and 11366).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

_INSTRUCTION = re.compile(r"/\*([0-9a-f]{4,})\*/\s+(?:@!?U?P\w+\s+)?([A-Z][\w.]*)\s*(.*?)\s*;")
_PREDICATED = re.compile(r"/\*[0-9a-f]{4,}\*/\s+@")
_LABEL = re.compile(r"\s*(\.L_\w+):")
_REGISTER = re.compile(r"(?<![A-Z])R(\d+)(\.64)?")
_WITHOUT_DESTINATION = (
    "ST", "BAR", "BRA", "EXIT", "WARP", "DEPBAR", "LDGSTS", "LDGDEPBAR", "MEMBAR", "ERRBAR", "CCTL", "NOP", "FENCE",
    "ISETP", "FSETP", "DSETP", "HSETP", "PLOP3", "RED", "BSYNC", "BSSY", "RET", "CALL", "U", "R2UR", "SYNCS", "VOTEU",
    "S2UR", "CREDUX",
)  # fmt: skip
"""Prefixes of instructions that write no register of a thread: memory, barriers, predicates and uniform registers."""
_FACTOR_REGISTERS = 4
"""Number of registers per thread of a 64 x 16 factor in half precision, held by 128 threads."""


@dataclass(frozen=True)
class _Instruction:
    address: str
    name: str
    operands: str
    predicated: bool
    target: str | None

    @property
    def product(self) -> bool:
        return self.name.startswith("HGMMA")

    @property
    def waits(self) -> bool:
        return self.name.startswith("WARPGROUP.DEPBAR") and "0x0" in self.operands

    @property
    def accumulator(self) -> set[int]:
        """Registers of the accumulator of a 64 x N product by 128 threads: N / 2 float32, or N / 4 pairs of float16."""
        columns = int(re.search(r"\d+x(\d+)x\d+", self.name)[1])  # type: ignore[index]
        return _span(self.operands.split(",")[0], columns // 2 if ".F32" in self.name else columns // 4)

    @property
    def factor(self) -> set[int]:
        """The registers of a factor of a product; empty if both factors are in shared memory."""
        return _span(self.operands.split(",")[1], _FACTOR_REGISTERS)

    @property
    def writes(self) -> set[int]:
        if self.name.startswith(_WITHOUT_DESTINATION):
            return set()
        return _span(self.operands.split(",")[0], _width(self.name))

    @property
    def reads(self) -> set[int]:
        stores = self.name.startswith(("ST", "RED"))
        sources = self.operands if stores else self.operands.partition(",")[2]
        found = ((int(first), bool(pair)) for first, pair in _REGISTER.findall(sources))
        return {number for first, pair in found for number in range(first, first + 1 + pair)}


def _width(name: str) -> int:
    """Number of registers that an instruction writes."""
    if name.startswith("LDSM"):
        return 4 if name.endswith(".4") or ".x4" in name else 2 if name.endswith(".2") else 1
    if name.startswith("LD"):
        return 4 if ".128" in name else 2 if ".64" in name else 1
    return 2 if name.startswith(("IMAD.WIDE", "DADD", "DMUL", "DFMA", "F2F.F64", "I2F.F64", "CS2R")) else 1


def _span(operand: str, count: int) -> set[int]:
    found = re.fullmatch(r"[-|~!]*R(\d+)(?:\.\w+)*\|?", operand.strip())
    return set(range(int(found[1]), int(found[1]) + count)) if found else set()


def _parse(text: str) -> tuple[list[_Instruction], dict[str, int]]:
    """The instructions in order, and the index of each label."""
    code: list[_Instruction] = []
    labels: dict[str, int] = {}
    for line in text.splitlines():
        if label := _LABEL.match(line):
            labels[label[1]] = len(code)
        if found := _INSTRUCTION.search(line):
            target = re.search(r"\.L_\w+", found[3]) if found[2] == "BRA" else None
            predicated = bool(_PREDICATED.search(line))
            code.append(_Instruction(found[1], found[2], found[3], predicated, target[0] if target else None))
    return code, labels


def _until_it_waits(code: list[_Instruction], labels: dict[str, int], start: int) -> Iterator[_Instruction]:
    """Every instruction, once, that may run after `start` and before the next wait, along all branches."""
    seen: set[int] = set()
    waiting = [start]
    while waiting:
        at = waiting.pop()
        while at < len(code) and at not in seen:
            seen.add(at)
            now = code[at]
            if now.waits:
                break
            yield now
            if now.target in labels:
                waiting.append(labels[now.target])
            if now.name in ("BRA", "EXIT") and not now.predicated:
                break
            at += 1


def hazards(text: str) -> list[str]:
    """The hazards in the output of `nvdisasm`, one line each; empty if there are none."""
    code, labels = _parse(text)
    found = []
    for i, product in enumerate(code):
        if not product.product:
            continue
        accumulator, factor = product.accumulator, product.factor
        for other in _until_it_waits(code, labels, i + 1):
            touched = f"of the product at {product.address} is"
            if other.product:
                if other.accumulator & factor:
                    found.append(f"a factor {touched} overwritten by the product at {other.address}")
                continue
            if other.writes & factor:
                found.append(f"a factor {touched} overwritten at {other.address}: {other.name} {other.operands}")
            if (other.writes | other.reads) & accumulator:
                found.append(f"the accumulator {touched} touched at {other.address}: {other.name} {other.operands}")
    return found


def products(text: str) -> int:
    """Number of matrix products of a program."""
    return sum(instruction.product for instruction in _parse(text)[0])
