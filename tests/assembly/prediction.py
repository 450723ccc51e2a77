"""
What the kernels' hot loops should reach, by the bound in each file's head comment and by llvm-mca:

    python3 tests/assembly/prediction.py BUILD...            every loop, and what is wrong with it
    python3 tests/assembly/prediction.py --write BUILD...    ... and the table of docs/performance.md
    python3 tests/assembly/prediction.py --check BUILD...    ... fails where that table is another

It fails where a hot loop spills, copies or stores, where a loop has no bound, and where the prediction is below 85 % of
it. The builds need debugging information (-g). A bound is a line of such a table in the kernel's file or in the header
of common/ that has the loop; the columns are two spaces apart, the formulas take R, S, P and V from the loop's name,
and a dash stands where the processor does not run the loop:

     *   bound, MAC a cycle    sapphirerapids    neoverse-v1
     *   tile_block(R, 2)      128R / (5R + 3)   64
     *   tile_block(R, 4)      -                 64
"""

import re
import subprocess
import sys
from dataclasses import dataclass
from math import inf
from pathlib import Path

from loops import Loop, hot_loops
from objects import ROOT, SOURCES, architecture_of, disassemble, isas, objects_of

LEAST_SHARE = 0.85
DOCUMENT = ROOT / "docs/performance.md"
MARKS = ("<!-- prediction.py writes from here -->", "<!-- to here -->")
VERSION = "19"


@dataclass(frozen=True)
class Cpu:
    """A processor as llvm-mca knows it."""

    triple: str
    model: str
    sve_bytes: int = 0
    width: float = inf  # instructions a cycle, where LLVM's figure is too good
    stand_ins: tuple[tuple[str, str], ...] = ()  # pattern and replacement in the text of an instruction


# Where LLVM 19 is wrong about a processor, an instruction that it is right about stands for the other:
# - its Sapphire Rapids is a client's, with one 512-bit multiplier; the servers have two (uops.info), as for 256 bits
YMM = ((r"%zmm", "%ymm"),)
# - its Skylake-X does three vpaddd zmm a cycle, where port 1 is closed to 512 bits: vpandd does two
TWO_PORTS = ((r"^vpaddd (.*%zmm)", r"vpandd \1"),)
# - a vpdpbusd that loads adds to the latency of its sum; a load before it does not. The micro-operations are the same
LOADS = ((r"^((?:\{vex\} )?vpdpbusd) ([^%]*\(.*?\)),(%\w+,%ymm)", r"vmovdqu \2,%ymm15\n\1 %ymm15,\3"),)
# - its Neoverses take in 8 (N1), 10 (N2), 15 (V1) and 16 (V2) micro-operations a cycle, its A64FX 6; a later N2 of its
#   has 5. The widths below are narrower, and of instructions: a loop that needs no more is safe from such doubts
CPUS = {
    "sapphirerapids": Cpu("x86_64", "sapphirerapids", stand_ins=YMM + LOADS),
    "skylake-avx512": Cpu("x86_64", "skylake-avx512", stand_ins=TWO_PORTS),
    "alderlake": Cpu("x86_64", "alderlake", stand_ins=LOADS),
    "skylake": Cpu("x86_64", "skylake"),
    "znver3": Cpu("x86_64", "znver3"),
    "neoverse-n1": Cpu("aarch64", "neoverse-n1", width=4),
    "neoverse-n2": Cpu("aarch64", "neoverse-n2", 16, width=5),
    "neoverse-v1": Cpu("aarch64", "neoverse-v1", 32, width=8),
    "neoverse-v2": Cpu("aarch64", "neoverse-v2", 16, width=8),
    "a64fx": Cpu("aarch64", "a64fx", 64, width=4),
}
# LLVM knows nothing of the tiles of AMX; cycles from one to the next, Intel's optimization manual, chapter on AMX.
TILE_CYCLES = {"tdpbusd": 16, "tileloadd": 8}


@dataclass(frozen=True)
class Bound:
    cpu: str
    line: str  # of the table: the loops that it speaks of
    formula: str

    def of(self, path: str) -> float | None:
        """The bound of a loop, 0 where the processor does not run it; None where the line speaks of other loops."""
        pattern = re.sub(r"\\?\b([RSPV])\b", r"(?P<\1>\\d+)", re.escape(self.line).replace(r"\ ", " "))
        m = re.fullmatch(pattern, path)
        if m is None:
            return None
        if self.formula == "-":
            return 0
        formula = re.sub(r"(\d|\))\s*([RSPV(])", r"\1 * \2", self.formula)
        if not re.fullmatch(r"(?:[\d.+\-*/(), RSPV]|max|min)+", formula):
            raise SystemExit(f"cannot read the bound {self.formula!r}")
        return float(eval(formula, {"max": max, "min": min}, {k: int(v) for k, v in m.groupdict().items()}))


@dataclass(frozen=True)
class Figure:
    isa: str
    bound_line: Bound
    loop: Loop
    bound: float
    predicted: float

    @property
    def share(self) -> float:
        return self.predicted / self.bound


def bounds_of(source: str) -> list[Bound]:
    """The lines of the tables in the file and in the headers of common/ that it includes."""
    text = (SOURCES / source).read_text(encoding="utf-8")
    for header in re.findall(r'#include "(common/\w+\.h)"', text):
        text += (SOURCES / "kernels" / header).read_text(encoding="utf-8")
    found = []
    cpus: list[str] = []
    for line in text.splitlines():
        cells = re.split(r" {2,}", line.removeprefix(" *").strip())
        if cells[0] == "bound, MAC a cycle":
            cpus = cells[1:]
        elif cpus and len(cells) == len(cpus) + 1 and re.fullmatch(r"\w+\(.*\)", cells[0]):
            found += [Bound(cpu, cells[0], cell) for cpu, cell in zip(cpus, cells[1:], strict=True)]
        else:
            cpus = []
    return found


def cycles(loop: Loop, cpu: Cpu) -> float:
    """Of one round, in the steady state."""
    tiles = [TILE_CYCLES[i.mnemonic] for i in loop.body if i.mnemonic in TILE_CYCLES]
    if tiles:
        return max(sum(c for c in tiles if c == each) for each in set(tiles))
    text = ""
    for i in loop.body:
        line = i.text
        for pattern, replacement in cpu.stand_ins:
            line = re.sub(pattern, replacement, line)
        text += line + "\n"
    predicted = (total_cycles(text, cpu, 600) - total_cycles(text, cpu, 200)) / 400
    return max(predicted, len(loop.body) / cpu.width)


def total_cycles(text: str, cpu: Cpu, rounds: int) -> int:
    command = [f"llvm-mca-{VERSION}", f"-mtriple={cpu.triple}", f"-mcpu={cpu.model}", f"-iterations={rounds}"]
    result = subprocess.run(command, input=text, capture_output=True, text=True)
    m = re.search(r"Total Cycles: +(\d+)", result.stdout)
    if result.returncode != 0 or m is None:
        raise SystemExit(f"{' '.join(command)}: {result.stderr}\n{text}")
    return int(m[1])


def figures_of(builds: list[Path]) -> tuple[list[Figure], list[str]]:
    figures, wrong = [], []
    for build in builds:
        paths = {p.name.removesuffix(".c.o"): p for p in objects_of(build)}
        for isa in isas():
            if isa.architecture != architecture_of(next(iter(paths.values()))):
                continue
            if isa.name not in paths:
                wrong.append(f"{build}: {isa.name} was not built")
                continue
            obj = disassemble(paths[isa.name])
            loops, bounds = hot_loops(obj), bounds_of(obj.source)
            if not loops:
                wrong.append(f"{isa.name}: no loop that multiplies was found")
            for loop in loops:
                name = f"{isa.name}, {loop.path}"
                wrong += [f"{name}, {loop.body[0].address:#x}: {what}" for what in loop.superfluous()]
                stated = [(b, value) for b in bounds if (value := b.of(loop.path)) is not None]
                if not stated:
                    wrong.append(f"{name}: {obj.source} states no bound of it")
                seen = set()
                for bound, value in stated:
                    if bound.cpu in seen:  # a line above is more precise
                        continue
                    seen.add(bound.cpu)
                    if value == 0:
                        continue
                    cpu = CPUS[bound.cpu]
                    predicted = loop.products(cpu.sve_bytes) / cycles(loop, cpu)
                    figure = Figure(isa.name, bound, loop, value, predicted)
                    figures.append(figure)
                    print(
                        f"{isa.name:12} {loop.path:18} {bound.cpu:15} {len(loop.body):3} instructions,"
                        f" bound {value:7.1f} MAC a cycle, predicted {predicted:7.1f}, {figure.share:4.0%}"
                    )
                    if figure.share < LEAST_SHARE:
                        wrong.append(f"{name}, {bound.cpu}: {figure.share:.0%} of the bound is predicted")
    return figures, wrong


def table(figures: list[Figure]) -> str:
    """A row for each line of the tables and each processor, with how many loops it stands for: none may vanish."""
    rows: dict[tuple[str, str, str], list[Figure]] = {}
    for f in figures:
        rows.setdefault((f.isa, f.bound_line.line, f.bound_line.cpu), []).append(f)
    lines = [
        "| isa | loop | loops | processor | bound, MAC a cycle | predicted | of the bound |",
        "|---|---|---|---|---|---|---|",
    ]
    for (isa, line, cpu), group in rows.items():
        bound, predicted = span([f.bound for f in group]), span([f.predicted for f in group])
        share = min(f.share for f in group)
        lines.append(f"| `{isa}` | `{line}` | {len(group)} | {cpu} | {bound} | {predicted} | {share:.0%} |")
    return "\n".join(lines) + "\n"


def span(values: list[float]) -> str:
    low, high = f"{min(values):.1f}".removesuffix(".0"), f"{max(values):.1f}".removesuffix(".0")
    return low if low == high else f"{low} to {high}"


def main(arguments: list[str]) -> None:
    mode = arguments.pop(0) if arguments and arguments[0] in ("--write", "--check") else ""
    if not arguments:
        raise SystemExit(__doc__)
    figures, wrong = figures_of([Path(a) for a in arguments])
    old = DOCUMENT.read_text(encoding="utf-8")
    before, _, rest = old.partition(MARKS[0])
    _, mark, after = rest.partition(MARKS[1])
    if not mark:
        raise SystemExit(f"{DOCUMENT}: no marks for the table")
    new = f"{before}{MARKS[0]}\n{table(figures)}{MARKS[1]}{after}"
    if mode == "--write":
        DOCUMENT.write_text(new, encoding="utf-8")
    elif mode == "--check" and new != old:
        wrong.append("docs/performance.md has other figures: python3 tests/assembly/prediction.py --write BUILD...")
    if wrong:
        raise SystemExit("\n".join(wrong))


if __name__ == "__main__":
    main(sys.argv[1:])
