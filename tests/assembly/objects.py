"""What the checks of machine code read: isa.def, and the objects of the library as objdump shows them."""

import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
SOURCES = ROOT / "native/src"
PREFIX = {"X86_64": "", "AARCH64": "aarch64-linux-gnu-"}  # of the binutils
MACHINES = {0x3E: "X86_64", 0xB7: "AARCH64"}  # e_machine of an ELF file


@dataclass(frozen=True)
class Isa:
    name: str
    architecture: str
    features: tuple[str, ...]  # as isa.def has them, without CPU_


@dataclass(frozen=True)
class Instruction:
    address: int
    code: str  # hexadecimal; on AArch64 one word
    text: str  # without comments; branch targets are numbers

    @property
    def mnemonic(self) -> str:
        return re.sub(r"^(\{\w+\} |data16 |cs |lock |rep\w* |notrack |bnd )*", "", self.text).split(None, 1)[0]

    @property
    def operands(self) -> str:
        return self.text.partition(self.mnemonic)[2].strip()


@dataclass(frozen=True)
class Object:
    path: Path
    architecture: str
    functions: dict[str, list[Instruction]]

    @property
    def source(self) -> str:
        """Relative to native/src."""
        return self.path.as_posix().rpartition("native/src/")[2].removesuffix(".o")


def isas() -> list[Isa]:
    found = []
    for line in (SOURCES / "isa.def").read_text(encoding="utf-8").splitlines():
        if m := re.fullmatch(r'DYNQ_ISA\((\w+), (\w+), ([\w| ]+), ".*"\)', line):
            found.append(Isa(m[1], m[2], tuple(re.findall(r"CPU_(\w+)", m[3]))))
        elif line.startswith("DYNQ_ISA("):
            raise SystemExit(f"isa.def: cannot read {line!r}")
    return found


def objects_of(build: Path) -> list[Path]:
    """The object files of the library in a CMake build folder."""
    found = sorted(build.glob("CMakeFiles/dynq_objects.dir/native/src/**/*.o"))
    if not found:
        raise SystemExit(f"{build}: no objects of the library")
    return found


def architecture_of(path: Path) -> str:
    machine = int.from_bytes(path.read_bytes()[18:20], "little")
    if machine not in MACHINES:
        raise SystemExit(f"{path}: of an unknown processor, e_machine {machine:#x}")
    return MACHINES[machine]


def disassemble(path: Path) -> Object:
    architecture = architecture_of(path)
    objdump = [f"{PREFIX[architecture]}objdump", "-d", "-w", "--insn-width=16", str(path)]
    functions: dict[str, list[Instruction]] = {}
    current: list[Instruction] = []
    for line in subprocess.run(objdump, check=True, capture_output=True, text=True).stdout.splitlines():
        if m := re.fullmatch(r"[0-9a-f]+ <(.+)>:", line):
            current = functions.setdefault(m[1], [])
        elif m := re.fullmatch(r" *([0-9a-f]+):\t([0-9a-f ]+?) *\t(.+)", line):
            text = re.sub(r"\s*(#|//) .*$", "", m[3])
            text = re.sub(r"\b([0-9a-f]+) <[^>]*>", r"0x\1", text)
            current.append(Instruction(int(m[1], 16), m[2].replace(" ", ""), re.sub(r"\s+", " ", text).strip()))
    return Object(path, architecture, functions)


def instructions_of(obj: Object) -> Iterator[tuple[str, Instruction]]:
    for function, instructions in obj.functions.items():
        for instruction in instructions:
            yield function, instruction
