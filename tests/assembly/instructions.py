"""
No instruction set's kernels hold an instruction outside its own list, and the rest of the library holds none above the
baseline (SSE2; ARMv8.0-A): python3 tests/assembly/instructions.py BUILD...

Each object is disassembled and assembled again by an assembler that was told the features named in isa.def and no
others, since it knows exactly which instruction in which encoding needs which feature. For x86 that is GNU's: LLVM's
takes everything. For AArch64 it is LLVM's: GNU's wants ARMv8.2 as a whole for a dot product. Fused multiply-adds, which
FMA, AVX-512 and ARMv8 have, are for the float matmul alone, the functions named matmul_*: elsewhere they round once
where docs/numerics.md rounds twice.
"""

import re
import subprocess
import sys
import tempfile
from pathlib import Path

from objects import SOURCES, Isa, Object, architecture_of, disassemble, instructions_of, isas, objects_of

# HWCAPs whose names the assembler does not know; the x86 names of cpu_features.def are the assembler's own.
ARM_EXTENSIONS = {"ASIMDDP": "dotprod", "SVEI8MM": "i8mm"}
FUSED = {
    "X86_64": r"vfn?m(add|sub)",
    "AARCH64": r"(fn?m(add|sub|la|ls|ad|sb)|fml[as]l2?|fcmla|fmmla|bfm?mla\w*|bfdot)$",
}
# Mnemonics that an object may hold besides, and why.
ALLOWED = {
    "base/cpu.c": {"xgetbv": "runs where CPUID's OSXSAVE bit is set"},
}
HINTS = {"endbr64": "does nothing on a processor that does not know it"}


def extensions(isa: Isa) -> list[str]:
    """The features' names as the assembler has them."""
    text = (SOURCES / "base" / "cpu_features.def").read_text(encoding="utf-8")
    names = {m[0]: m[1] for m in re.findall(r'^CPU_(?:X86|ARM)\((\w+), "(\w+)"', text, re.MULTILINE)}
    return [ARM_EXTENSIONS.get(feature, names[feature]) for feature in isa.features]


def outside(obj: Object, isa: Isa | None) -> list[str]:
    """The instructions of an object that the instruction set (None: the baseline) does not have, with the reason."""
    features = isa.features if isa else ()
    allowed = HINTS | ALLOWED.get(obj.source, {})
    lines, origins, found = [], [], []
    for function, instruction in instructions_of(obj):
        where = f"{obj.source}, {function}, {instruction.address:#x}: {instruction.text}"
        if instruction.mnemonic in (".word", *allowed):  # .word: constants between functions
            continue
        if "(bad)" in instruction.text or "undefined" in instruction.text or instruction.mnemonic == ".inst":
            found.append(f"{where}: unknown to objdump")
        elif re.match(FUSED[obj.architecture], instruction.mnemonic) and not function.startswith("matmul_"):
            found.append(f"{where}: a fused multiply-add")
        elif re.match(r"([su]|us)mmla .*\bv\d", instruction.text) and "I8MM" not in features:
            found.append(f"{where}: I8MM is not in the list; SVE's own bit speaks of z registers")
        else:
            lines.append(assembly(obj.architecture, instruction.code, instruction.text))
            origins.append(where)
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "a.s"
        source.write_text("\n".join(lines) + "\n", encoding="utf-8")
        command = [*assembler(obj.architecture, extensions(isa) if isa else []), "-o", "/dev/null", str(source)]
        result = subprocess.run(command, capture_output=True, text=True)
    for line, message in re.findall(r"^\S+?:(\d+):(?:\d+:)? [Ee]rror: (.*)$", result.stderr, re.MULTILINE):
        found.append(f"{origins[int(line) - 1]}: {message}")
    if result.returncode != 0 and not found:
        raise SystemExit(f"{' '.join(command)}: {result.stderr}")
    return found


def assembler(architecture: str, names: list[str]) -> list[str]:
    if architecture == "X86_64":
        return ["as", "-march=" + "+".join(["generic64", *names])]
    return ["llvm-mc-19", "-triple=aarch64", "-mattr=" + ",".join(f"+{name}" for name in ["neon", *names])]


def assembly(architecture: str, code: str, text: str) -> str:
    """The text that assembles to the same kind of encoding."""
    if architecture == "AARCH64":
        return re.sub(r"\b0x[0-9a-f]+$", ".", text) if re.match(r"(b|bl|b\.\w+|cbn?z|tbn?z|adrp?) ", text) else text
    if re.match(r"(data16 |cs )+nop", text):  # padding: its doubled prefixes do not assemble
        return "nop"
    if text.startswith("{"):
        return text
    if code.startswith("62"):
        return "{evex} " + text
    return "{vex} " + text if code.startswith(("c4", "c5")) else text


def check(build: Path) -> list[str]:
    paths = objects_of(build)
    architecture = architecture_of(paths[0])
    lists = {f"kernels/{isa.name}.c": isa for isa in isas() if isa.architecture == architecture}
    found, seen = [], set()
    for path in paths:
        obj = disassemble(path)
        isa = lists.get(obj.source)
        wrong = outside(obj, isa)
        found += wrong
        seen.add(obj.source)
        count = sum(len(f) for f in obj.functions.values())
        features = " ".join(isa.features).lower() if isa else "the baseline"
        print(f"{architecture.lower()} {obj.source:24} {count:5} instructions, {len(wrong)} outside {features}")
    return found + [f"{build}: {source} was not built" for source in sorted(lists.keys() - seen)]


if __name__ == "__main__":
    wrong = [line for build in sys.argv[1:] for line in check(Path(build))]
    for line in wrong[:100]:
        print(line, file=sys.stderr)
    if wrong or len(sys.argv) == 1:
        raise SystemExit(f"{len(wrong)} instructions outside their lists" if wrong else __doc__)
