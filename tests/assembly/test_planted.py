"""What the checks of machine code must find, planted one at a time: python3 -m unittest discover -s tests/assembly"""

import subprocess
import tempfile
import unittest
from pathlib import Path

from instructions import outside
from loops import Loop, hot_loops
from objects import Isa, Object, disassemble, isas
from prediction import CPUS, Bound, cycles

COMPILERS = {"X86_64": "gcc-12", "AARCH64": "aarch64-linux-gnu-gcc-12"}
ASSEMBLER_FLAGS = {"X86_64": [], "AARCH64": ["-march=armv8.6-a+sve2"]}
SCALAR_X86 = Isa("scalar", "X86_64", ())
SVE = Isa("sve", "AARCH64", ("SVE",))
SVE_I8MM = Isa("sve_i8mm", "AARCH64", ("SVE", "SVEI8MM"))
DOTPROD = Isa("neon_dotprod", "AARCH64", ("ASIMDDP",))
I8MM = Isa("neon_i8mm", "AARCH64", ("I8MM",))
SCALAR_ARM = Isa("scalar", "AARCH64", ())


def isa(name: str) -> Isa:
    return SCALAR_X86 if name == "scalar" else next(i for i in isas() if i.name == name)


def assembled(architecture: str, text: str, function: str = "tile") -> Object:
    """An object with these instructions in a function, as of kernels/planted.c."""
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "planted.s"
        source.write_text(f"{function}:\n{text}\n", encoding="utf-8")
        path = Path(folder) / "native/src/kernels/planted.c.o"
        path.parent.mkdir(parents=True)
        command = [COMPILERS[architecture], *ASSEMBLER_FLAGS[architecture], "-c", str(source), "-o", str(path)]
        subprocess.run(command, check=True)
        return disassemble(path)


class InstructionsOutsideTheList(unittest.TestCase):
    def verdict(self, isa: Isa, text: str) -> list[str]:
        return outside(assembled(isa.architecture, text), isa)

    def test_each_is_found(self) -> None:
        for name, text in [
            ("scalar", "vpaddd %xmm0, %xmm1, %xmm2"),  # VEX
            ("scalar", "pabsd %xmm0, %xmm1"),  # SSSE3
            ("scalar", "popcnt %rax, %rax"),
            ("avx2", "{evex} vpaddd %ymm0, %ymm1, %ymm2"),  # the mnemonic is AVX2's, the encoding is not
            ("avx2", "vpaddd %ymm16, %ymm1, %ymm2"),
            ("avx2", "vpaddd %zmm0, %zmm1, %zmm2"),
            ("avx2", "kmovw %eax, %k1"),
            ("avx2", "{vex} vpdpbusd %ymm0, %ymm1, %ymm2"),
            ("avx2", "vfmadd231ps %ymm0, %ymm1, %ymm2"),
            ("avx2", "vcvtph2ps %xmm0, %ymm0"),  # F16C
            ("avx2", "andn %rax, %rbx, %rcx"),  # BMI1
            ("avx2", "shlx %rax, %rbx, %rcx"),  # BMI2
            ("avxvnni", "{evex} vpdpbusd %ymm0, %ymm1, %ymm2"),  # AVX512-VNNI
            ("avxvnni", "vpmadd52luq %ymm0, %ymm1, %ymm2"),  # IFMA
            ("avx512", "vpdpbusd %zmm0, %zmm1, %zmm2"),
            ("avx512", "vfmadd231ps %zmm0, %zmm1, %zmm2"),  # AVX512F has it, the numerics do not
            ("avx512", "{vex} vcvtph2ps %xmm0, %ymm0"),
            ("avx512", "vpermb %zmm0, %zmm1, %zmm2"),  # VBMI
            ("avx512vnni", "{vex} vpdpbusd %ymm0, %ymm1, %ymm2"),  # AVX-VNNI
            ("avx512vnni", "tdpbusd %tmm0, %tmm1, %tmm2"),
            ("avx512vnni", "vdpbf16ps %zmm0, %zmm1, %zmm2"),
            ("amx", "tdpbf16ps %tmm0, %tmm1, %tmm2"),
        ]:
            with self.subTest(isa=name, text=text):
                self.assertEqual(len(self.verdict(isa(name), text)), 1)
        for arm, text in [
            (SCALAR_ARM, "sdot v0.4s, v1.16b, v2.4b[0]"),
            (SCALAR_ARM, "ldadd x0, x1, [x2]"),  # LSE
            (SCALAR_ARM, "fmadd s0, s1, s2, s3"),  # ARMv8.0 has it, the numerics do not
            (DOTPROD, "fmla v0.4s, v1.4s, v2.4s"),
            (DOTPROD, "smmla v0.4s, v1.16b, v2.16b"),
            (DOTPROD, "fadd v0.8h, v1.8h, v2.8h"),  # FP16
            (I8MM, "sdot v0.4s, v1.16b, v2.16b"),
            (I8MM, "smmla z0.s, z1.b, z2.b"),
            (I8MM, "whilelo p0.b, x0, x1"),
            (SVE, "smmla z0.s, z1.b, z2.b"),
            (SVE, "smlalb z0.s, z1.h, z2.h"),  # SVE2
            (SVE, "fmla z0.s, p0/m, z1.s, z2.s"),
            (SVE, "fmad z0.s, p0/m, z1.s, z2.s"),
            (SVE_I8MM, "smmla v0.4s, v1.16b, v2.16b"),
        ]:
            with self.subTest(isa=arm.name, text=text):
                self.assertEqual(len(self.verdict(arm, text)), 1)

    def test_what_is_in_the_list_passes(self) -> None:
        for name, text in [
            ("scalar", "addps %xmm0, %xmm1\ncmovne %rax, %rbx\nnopw 0(%rax)\nendbr64\njne tile\ncall tile"),
            ("avx2", "vpaddd %ymm0, %ymm1, %ymm2\nvzeroupper"),
            ("avxvnni", "{vex} vpdpbusd (%rax), %ymm1, %ymm2"),
            ("avx512", "{evex} vpaddd %ymm0, %ymm1, %ymm2\nkmovw %eax, %k1\nvpaddd %zmm30, %zmm1, %zmm2{%k1}{z}"),
            ("avx512vnni", "vpdpbusd (%rax){1to16}, %zmm1, %zmm2"),
            ("amx", "tdpbusd %tmm0, %tmm1, %tmm2\ntileloadd (%rax,%rbx), %tmm0\nvpdpbusd %zmm0, %zmm1, %zmm2"),
        ]:
            with self.subTest(isa=name):
                self.assertEqual(self.verdict(isa(name), text), [])
        for arm, text in [
            (SCALAR_ARM, "fadd v0.4s, v1.4s, v2.4s\nb.ne tile\ntbz x0, #3, tile\nbl tile\nadr x0, tile"),
            (DOTPROD, "sdot v0.4s, v1.16b, v2.4b[3]"),
            (I8MM, "smmla v0.4s, v1.16b, v2.16b"),
            (SVE, "sdot z0.s, z1.b, z2.b\nwhilelo p0.b, x0, x1"),
            (SVE_I8MM, "smmla z0.s, z1.b, z2.b"),
        ]:
            with self.subTest(isa=arm.name):
                self.assertEqual(self.verdict(arm, text), [])

    def test_only_the_float_matmul_fuses(self) -> None:
        for name, text in [("avx2", "vfmadd231ps %ymm0, %ymm1, %ymm2"), ("avx512", "vfmadd231ps %zmm0, %zmm1, %zmm2")]:
            with self.subTest(isa=name):
                self.assertEqual(outside(assembled("X86_64", text, "matmul_rows_6"), isa(name)), [])
                self.assertEqual(len(outside(assembled("X86_64", text, "softmax_sum"), isa(name))), 1)
        for arm, text in [(DOTPROD, "fmla v0.4s, v1.4s, v2.4s"), (SCALAR_ARM, "fmadd s0, s1, s2, s3")]:
            with self.subTest(isa=arm.name):
                self.assertEqual(outside(assembled("AARCH64", text, "matmul_rows_1"), arm), [])
                self.assertEqual(len(outside(assembled("AARCH64", text, "softmax_sum"), arm)), 1)
        vnni = outside(assembled("X86_64", "vfmadd231ps %ymm0, %ymm1, %ymm2", "matmul_rows_6"), isa("avxvnni"))
        self.assertEqual(len(vnni), 1)  # its list has no FMA

    def test_the_rest_of_the_library_is_held_to_the_baseline(self) -> None:
        self.assertEqual(len(outside(assembled("X86_64", "vpaddd %ymm0, %ymm1, %ymm2"), None)), 1)
        self.assertEqual(len(outside(assembled("AARCH64", "sdot v0.4s, v1.16b, v2.16b"), None)), 1)


def loop(architecture: str, text: str, frame: bool = False) -> Loop:
    obj = assembled(architecture, text)
    return Loop(architecture, "planted(1)", obj.functions["tile"], frame)


class SuperfluousInstructions(unittest.TestCase):
    def test_spills_copies_and_stores_are_found(self) -> None:
        for text, frame in [
            ("vmovdqa64 %zmm1, 64(%rsp)", False),
            ("vpaddd -32(%rsp), %ymm1, %ymm2", False),
            ("cmp %rax, -8(%rsp)", False),
            ("mov -8(%rbp), %rax", True),
            ("vmovdqa %ymm1, %ymm2", False),
            ("{evex} vmovdqu32 %zmm1, %zmm2", False),
            ("vmovq %rax, %xmm27", False),
            ("mov %rax, %rcx", False),
            ("vmovdqu %ymm1, (%rax,%rbx,4)", False),
        ]:
            with self.subTest(text=text):
                self.assertEqual(len(loop("X86_64", text, frame).superfluous()), 1)
        for text, frame in [
            ("str q1, [sp, #16]", False),
            ("ldr q1, [sp, #16]", False),
            ("ldr x1, [x29, #16]", True),
            ("mov v0.16b, v1.16b", False),
            ("mov z0.d, z1.d", False),
            ("movprfx z0, z1\nsmmla z0.s, z2.b, z3.b", False),
            ("fmov d0, x0", False),
            ("stp q0, q1, [x3]", False),
        ]:
            with self.subTest(text=text):
                self.assertEqual(len(loop("AARCH64", text, frame).superfluous()), 1)

    def test_what_a_hot_loop_is_made_of_passes(self) -> None:
        text = "vpbroadcastd 4(%rax,%r8), %zmm1\nvmovdqa64 64(%rbp), %zmm2\nvpdpbusd (%rdx), %zmm1, %zmm3\n"
        self.assertEqual(loop("X86_64", text + "lea 4(%rax), %rcx\ncmp %rax, %rcx\njne tile").superfluous(), [])
        text = "ld1b {z0.b}, p0/z, [x0]\nldp q1, q2, [x1], #32\nsdot v0.4s, v1.16b, v2.4b[1]\nadd x2, x2, #4\n"
        self.assertEqual(loop("AARCH64", text + "cmp x2, x3\nb.ne tile").superfluous(), [])


KERNEL = """
#include <immintrin.h>
#include <stddef.h>
#define V_INLINE static inline __attribute__((always_inline))
V_INLINE void tile_block(const size_t R, size_t n, const int *a, const __m512i *w, __m512i *acc) {
  __m512i sum[4];
  for (size_t r = 0; r < R; r++) sum[r] = _mm512_setzero_si512();
  for (size_t g = 0; g < n; g++)
#pragma GCC unroll 4
    for (size_t r = 0; r < R; r++) sum[r] = _mm512_dpbusd_epi32(sum[r], _mm512_set1_epi32(a[r * 64 + g]), w[g]);
  for (size_t r = 0; r < R; r++) acc[r] = sum[r];
}
#define ROWS(R) void tile_##R(size_t n, const int *a, const __m512i *w, __m512i *acc) { tile_block(R, n, a, w, acc); }
ROWS(2)
ROWS(3)
"""


class HotLoops(unittest.TestCase):
    def test_each_path_is_found_and_named(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            source = Path(folder) / "native/src/kernels/avx512vnni.c"  # the file tells what is constant
            source.parent.mkdir(parents=True)
            source.write_text(KERNEL, encoding="utf-8")
            command = ["gcc-12", "-g", "-O3", "-mavx512f", "-mavx512vnni", "-c", str(source), "-o", f"{source}.o"]
            subprocess.run(command, check=True)
            found = hot_loops(disassemble(Path(f"{source}.o")))
            self.assertEqual([(p.path, p.products()) for p in found], [("tile_block(2)", 128), ("tile_block(3)", 192)])


class Predictions(unittest.TestCase):
    def test_a_slowed_loop_is_slower(self) -> None:
        fast = "".join(f"vpdpbusd %zmm0, %zmm1, %zmm{i}\n" for i in range(2, 14))
        self.assertAlmostEqual(cycles(loop("X86_64", fast), CPUS["sapphirerapids"]), 6, delta=0.1)
        slow = fast.replace("%zmm3\n", "%zmm2\n")  # two in a row into one sum
        self.assertAlmostEqual(cycles(loop("X86_64", slow), CPUS["sapphirerapids"]), 10, delta=0.1)
        fast = "".join(f"sdot v{i}.4s, v0.16b, v1.4b[0]\n" for i in range(2, 14))
        self.assertAlmostEqual(cycles(loop("AARCH64", fast), CPUS["neoverse-n2"]), 6, delta=0.1)

    def test_a_processor_takes_in_so_many_instructions_a_cycle(self) -> None:
        self.assertAlmostEqual(cycles(loop("AARCH64", "nop\n" * 40), CPUS["a64fx"]), 10, delta=0.01)

    def test_tiles_cost_what_the_manual_says(self) -> None:
        text = "tileloadd (%rax,%rbx), %tmm0\n" * 5 + "tdpbusd %tmm0, %tmm1, %tmm2\n"
        self.assertEqual(cycles(loop("X86_64", text), CPUS["sapphirerapids"]), 40)

    def test_bounds_are_read(self) -> None:
        bound = Bound("skylake", "tile_block(R, 2)", "128R / (5R + 3)")
        self.assertAlmostEqual(bound.of("tile_block(8, 2)") or 0, 1024 / 43)
        self.assertIsNone(bound.of("tile_block(8, 1)"))
        self.assertIsNone(bound.of("tile_rows(8, 2)"))
        self.assertEqual(Bound("skylake", "rows(R, S)", "min(2R, max(S, 3))").of("rows(9, 4)"), 4)
        self.assertEqual(Bound("neoverse-v1", "rows(R, V)", "12V / (2 + R)").of("rows(4, 2)"), 4)
        self.assertEqual(Bound("neoverse-v1", "rows(R, 4)", "-").of("rows(4, 4)"), 0)
        self.assertIsNone(Bound("neoverse-v1", "rows(R, 4)", "-").of("rows(4, 2)"))


if __name__ == "__main__":
    unittest.main()
