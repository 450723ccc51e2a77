"""
The hot loops of the kernels: where they are, what they multiply, and what they should not hold.

A path of a kernel is a function inlined with constants as its first arguments, such as tile_block(12, 2): the
debugging information tells which code belongs to which call. Its hot loop is the loop without further jumps that
multiplies most.
"""

import re
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

from objects import SOURCES, Instruction, Object

# Products that one instruction adds up: a pattern over its text; for SVE, of each byte of a vector.
PRODUCTS = {
    "X86_64": [
        (r"vpdpbusd .*%zmm\d+$", 64),
        (r"(\{vex\} )?vpdpbusd .*%ymm\d+$", 32),
        (r"vpmaddwd .*%zmm\d+$", 32),
        (r"vpmaddwd .*%ymm\d+$", 16),
        (r"tdpbusd ", 16 * 16 * 64),
    ],
    "AARCH64": [(r"sdot v\d+\.4s", 16), (r"smmla v", 32)],
}
SVE_PRODUCTS_PER_BYTE = [(r"sdot z\d+\.s", 1), (r"smmla z", 2)]

MOVES = {
    "X86_64": r"(\{\w+\} )?(v?mov(dq[au]|[au]p[sd]|[qdl]|ntdqa)?(8|16|32|64)?|kmov[bwdq]) %\w+, ?%\w+$",
    "AARCH64": r"(mov|fmov) ([xwvzdq]\d+)(\.\w+)?, ([xwvzdq]\d+)(\.\w+)?$|movprfx ",
}
STORES = {
    "X86_64": r"(?!cmp|test|prefetch|nop|lea|bt).*, ?-?(0x[0-9a-f]+)?\([^()]*\)$",
    "AARCH64": r"st\w* ",
}
STACK = {"X86_64": r"\(%rsp", "AARCH64": r"\[sp\b"}
FRAME = {"X86_64": (r"mov %rsp, ?%rbp$", r"\(%rbp"), "AARCH64": (r"mov x29, sp$", r"\[x29\b")}


@dataclass
class Call:
    """A function inlined where it was called: its name, the call in the source, and where its code lies."""

    name: str = ""
    file: str = ""
    line: int = 0
    column: int = 0
    ranges: list[tuple[int, int]] = field(default_factory=list)

    def arguments(self) -> list[str]:
        """Those at the call in the source, or in the macro that makes the call."""
        source = Path(self.file).read_text(encoding="utf-8")
        text = source.splitlines()[self.line - 1][self.column - 1 :]
        name, *given = re.split(r"[,()] *", text)
        if name == self.name:
            return given
        macro = re.search(rf"#define {name}\((.+?)\)((?:.*\\\n)*.*)", source)
        inner = re.search(rf"\b{self.name}\((.+)", macro[2]) if macro else None
        if macro is None or inner is None:
            return given
        values = dict(zip(macro[1].split(", "), given, strict=False))
        return [values.get(a, a) for a in re.split(r"[,()] *", inner[1])]

    def holds(self, address: int) -> bool:
        return any(low <= address < high for low, high in self.ranges)


@dataclass(frozen=True)
class Loop:
    architecture: str
    path: str  # such as tile_block(12, 2)
    body: list[Instruction]
    frame: bool  # the function keeps a frame pointer

    def products(self, vector_bytes: int = 16) -> int:
        return sum(products(self.architecture, i.text, vector_bytes) for i in self.body)

    def superfluous(self) -> list[str]:
        """Spills, copies and stores: a hot loop loads, multiplies and counts, and nothing else."""
        stack = [STACK[self.architecture]]
        if self.frame:
            stack.append(FRAME[self.architecture][1])
        found = []
        for i in self.body:
            if any(re.search(pattern, i.text) for pattern in stack):
                found.append(f"spill: {i.text}")
            elif re.match(MOVES[self.architecture], i.text):
                found.append(f"move: {i.text}")
            elif re.match(STORES[self.architecture], i.text):
                found.append(f"store: {i.text}")
        return found


def products(architecture: str, text: str, vector_bytes: int) -> int:
    for pattern, count in PRODUCTS[architecture]:
        if re.match(pattern, text):
            return count
    if architecture == "AARCH64":
        for pattern, count in SVE_PRODUCTS_PER_BYTE:
            if re.match(pattern, text):
                return count * vector_bytes
    return 0


def inlined_calls(path: Path) -> list[Call]:
    """Callers before callees, as the debugging information has them."""
    command = ["llvm-dwarfdump-19", "--debug-info", str(path)]
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    found: list[Call] = []
    inside = False  # the entry of an inlined call
    for line in text.splitlines():
        if m := re.match(r"0x[0-9a-f]+: +(DW_TAG_\w+|NULL)", line):
            inside = m[1] == "DW_TAG_inlined_subroutine"
            if inside:
                found.append(Call())
        elif not inside:
            continue
        elif m := re.search(r'DW_AT_abstract_origin\s*\(0x\w+ "(\w+)"\)', line):
            found[-1].name = m[1]
        elif m := re.search(r'DW_AT_call_file\s*\("(.+)"\)', line):
            found[-1].file = m[1]
        elif m := re.search(r"DW_AT_call_(line|column)\s*\((\d+)\)", line):
            setattr(found[-1], m[1], int(m[2]))
        elif m := re.search(r"\[0x(\w+), 0x(\w+)\)", line):
            found[-1].ranges.append((int(m[1], 16), int(m[2], 16)))
        elif m := re.search(r"DW_AT_low_pc\s*\(0x(\w+)\)", line):
            found[-1].ranges.append((int(m[1], 16), int(m[1], 16)))
        elif m := re.search(r"DW_AT_high_pc\s*\(0x(\w+)\)", line):
            found[-1].ranges[-1] = (found[-1].ranges[-1][0], int(m[1], 16))
    return found


def constant_parameters(source: str) -> dict[str, list[str]]:
    """The first parameters of a kernel file's inlined functions, as far as they are `const size_t`."""
    files = [SOURCES / source, *(SOURCES / "kernels/common").glob("*.h")]
    text = "".join(file.read_text(encoding="utf-8") for file in files)
    heads = re.findall(r"^\w*INLINE void (\w+)\(((?:const size_t \w+, )*)", text, re.MULTILINE)
    return {name: re.findall(r"size_t (\w+)", parameters) for name, parameters in heads}


def path_of(calls: list[Call], parameters: dict[str, list[str]], address: int) -> str | None:
    """The innermost call around it whose constant arguments are known, some of them from the calls around that one."""
    known: dict[str, str] = {}
    path = None
    for call in calls:
        if call.holds(address) and parameters.get(call.name):
            names = parameters[call.name]
            values = [known.get(a, a) for a in call.arguments()[: len(names)]]
            if len(values) == len(names) and all(v.isdigit() for v in values):
                known |= dict(zip(names, values, strict=True))
                path = f"{call.name}({', '.join(values)})"
    return path


def straight_loops(instructions: list[Instruction]) -> list[list[Instruction]]:
    """From the target of a jump back to the jump, where there is no other jump between them."""
    jump = r"(?:j\w+|b|b\.\w+|cbn?z|tbn?z) (?:.*, ?)?(?:0x([0-9a-f]+)|\*.*)$"
    position = {i.address: n for n, i in enumerate(instructions)}
    loops, last = [], -1
    for n, i in enumerate(instructions):
        if m := re.match(jump, i.text):
            start = position.get(int(m[1], 16), n + 1) if m[1] else n + 1
            if last < start <= n:
                loops.append(instructions[start : n + 1])
            last = n
    return loops


def hot_loops(obj: Object) -> list[Loop]:
    """One of each path, in the order of the paths' names and numbers."""
    calls, parameters = inlined_calls(obj.path), constant_parameters(obj.source)
    best: dict[str, Loop] = {}
    for function, instructions in obj.functions.items():
        frame = any(re.match(FRAME[obj.architecture][0], i.text) for i in instructions)
        for body in [] if function == "peak" else straight_loops(instructions):
            if not any(products(obj.architecture, i.text, 16) for i in body):
                continue
            paths = [path_of(calls, parameters, i.address) for i in body]
            path = next((p for p in paths if p is not None), f"{function}()")
            loop = Loop(obj.architecture, path, body, frame)
            if path not in best or loop.products() > best[path].products():
                best[path] = loop
    return [best[p] for p in sorted(best, key=lambda p: [int(s) if s.isdigit() else s for s in re.split(r"(\d+)", p)])]
