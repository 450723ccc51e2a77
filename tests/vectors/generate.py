"""Write the conformance set, cases.txt and data.bin, from the NumPy reference.

    python tests/vectors/generate.py            write both files beside this one
    python tests/vectors/generate.py --check    exit status 1 where they are not what it would write

The expected outputs come from tests/python/references/reference*.py alone. Of the installed dynq only the reader of the
format is used, for the generators of the inputs. README.md beside this file describes the format.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from dynq.core import vectors

FOLDER = Path(__file__).parent
sys.path.insert(0, str(FOLDER.parents[1]))

from tests.python.references import reference  # noqa: E402
from tests.python.references.reference_activations import finish  # noqa: E402

F = np.float32
STORED_BYTES = 1024  # an output up to this size is stored, a larger one is a checksum
SCHEMES, GRANULARITIES = ("asymmetric", "symmetric"), ("row", "tensor")
ACTIVATIONS = ("none", "relu", "sigmoid", "tanh", "silu", "gelu", "gelu_tanh", "hard_swish", "mish")
FILLS = ("uniform", "spread", "halves", "denormal", "huge", "bits")
BAD = (F("nan"), F("inf"), F("-inf"))
NAMES = {np.dtype(dtype): name for name, dtype in vectors.TYPES.items()}


class Writer:
    """Collects cases: lines of the index, bytes of the data."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.data = bytearray()
        self.offsets: dict[bytes, int] = {}
        self.cases = self.seeds = 0

    def case(self, op: str, *, at: int | None = None, **options: str) -> None:
        """Begin a case; ``at`` is its line where its inputs are written already."""
        given = [f"{key}={value}" for key, value in options.items()]
        self.lines.insert(len(self.lines) if at is None else at, " ".join(["case", str(self.cases), op, *given]))
        self.cases += 1

    def fill(self, name: str, type_: str, shape: tuple[int, ...], kind: str) -> np.ndarray:
        """An input that its reader generates: ``kind`` with a seed of its own, or ``constant=BITS``."""
        kind, _, bits = kind.partition("=")
        self.seeds += 1
        seed = int(bits) if bits else self.seeds
        self._line("in", name, type_, shape, f"fill {kind} {seed}")
        return vectors.fill(kind, seed, type_, int(np.prod(shape))).reshape(shape)

    def stored(self, name: str, array: np.ndarray) -> np.ndarray:
        """An input that is stored."""
        self._line("in", name, NAMES[array.dtype], array.shape, f"stored {self._place(array.tobytes())}")
        return array

    def out(self, name: str, array: np.ndarray) -> None:
        data = array.tobytes()
        small = len(data) <= STORED_BYTES
        source = f"stored {self._place(data)}" if small else f"hash {vectors.checksum(data):016x}"
        self._line("out", name, NAMES[array.dtype], array.shape, source)

    def _line(self, word: str, name: str, type_: str, shape: tuple[int, ...], source: str) -> None:
        self.lines.append(f"{word} {name} {type_} {'x'.join(map(str, shape))} {source}")

    def _place(self, data: bytes) -> int:
        if data not in self.offsets:
            self.offsets[data] = len(self.data)
            self.data += data + bytes(-len(data) % 4)
        return self.offsets[data]

    def files(self) -> dict[str, bytes]:
        data = bytes(self.data)
        head = [f"dynq vectors {vectors.VERSION}", f"data {len(data)} {vectors.checksum(data):016x}"]
        text = "\n".join([*head, *self.lines, ""]).encode("ascii")
        end = f"end {self.cases} {vectors.checksum(text):016x}\n".encode("ascii")
        return {vectors.INDEX: text + end, vectors.DATA: data}


# ---- One operation each: inputs are written as they are made, then what the reference gives.


def blocks_of(x: np.ndarray, granularity: str) -> list[np.ndarray]:
    return list(x) if granularity == "row" else [x]


def status_of(finite: bool | np.bool_) -> str:
    return "ok" if finite else "nonfinite"


def spoiled(values: np.ndarray, bad: np.float32) -> np.ndarray:
    """``values`` with ``bad`` in the middle of a row that is neither the first nor the last."""
    result = values.copy()
    result[len(result) // 2, result.shape[1] // 2] = bad
    return result


def minmax(w: Writer, granularity: str, x: np.ndarray | tuple[str, tuple[int, int]]) -> None:
    finite = np.isfinite(x).all() if isinstance(x, np.ndarray) else True
    w.case("minmax", granularity=granularity, status=status_of(finite))
    values = input_x(w, x)
    ranges = [reference.block_range(block) for block in blocks_of(values, granularity)]
    lo, hi = np.array(ranges, F).reshape(-1, 2).T
    w.out("lo", reference.one_nan(lo))
    w.out("hi", reference.one_nan(hi))


def input_x(w: Writer, x: np.ndarray | tuple[str, tuple[int, int]], name: str = "x") -> np.ndarray:
    """``x`` stored, or generated where it is a kind and a shape."""
    return w.stored(name, x) if isinstance(x, np.ndarray) else w.fill(name, "f32", x[1], x[0])


def offset(type_: str) -> int:
    """What an integer of ``type_`` lies above the uint8 that the reference counts in."""
    return -128 if type_ == "s8" else 0


def as_type(q: np.ndarray, type_: str) -> np.ndarray:
    """uint8 integers as ``type_``: int8 is 128 less."""
    return q if type_ == "u8" else (q.astype(np.int16) - 128).astype(np.int8)


def choose_qparams(w: Writer, scheme: str, type_: str, lo: np.ndarray, hi: np.ndarray) -> None:
    w.case("choose_qparams", scheme=scheme, type=type_)
    w.stored("lo", lo)
    w.stored("hi", hi)
    chosen = [reference.qparams(a, b, scheme) for a, b in zip(lo, hi, strict=True)]
    w.out("scale", np.array([scale for scale, _ in chosen], F))
    w.out("zero_point", np.array([zero + offset(type_) for _, zero in chosen], np.int32))


def quantize_dynamic(
    w: Writer, scheme: str, granularity: str, type_: str, x: np.ndarray | tuple[str, tuple[int, int]]
) -> None:
    finite = np.isfinite(x).all() if isinstance(x, np.ndarray) else True
    w.case("quantize_dynamic", scheme=scheme, granularity=granularity, type=type_, status=status_of(finite))
    values = input_x(w, x)
    if not finite:
        return  # functions that give integers refuse
    done = [reference.quantize_block(block, scheme) for block in blocks_of(values, granularity)]
    q = np.concatenate([block.reshape(-1) for block, _, _ in done] or [np.zeros(0, np.uint8)])
    w.out("q", as_type(q.reshape(values.shape), type_))
    w.out("scale", np.array([scale for _, scale, _ in done], F))
    w.out("zero_point", np.array([zero + offset(type_) for _, _, zero in done], np.int32))


def quantize(w: Writer, scheme: str, granularity: str, type_: str, kind: str, shape: tuple[int, int]) -> None:
    """With scales that do not come from x, so that the clamp works."""
    w.case("quantize", scheme=scheme, granularity=granularity, type=type_)
    x = w.fill("x", "f32", shape, kind)
    count = shape[0] if granularity == "row" else 1
    scale = w.fill("scale", "f32", (count,), "scale")
    zero = w.fill("zero_point", "s32", (count,), type_)
    low, high = {"u8": (0, 255), "s8": (-128, 127)}[type_]
    with np.errstate(all="ignore"):
        q = np.rint(x / scale[:, None]) + zero.astype(F)[:, None]
    low += scheme == "symmetric"
    w.out("q", np.clip(q, low, high).astype(vectors.TYPES[type_]))


def dequantize(w: Writer, granularity: str, type_: str, shape: tuple[int, int], scale_fill: str) -> None:
    w.case("dequantize", granularity=granularity, type=type_)
    q = w.fill("q", type_, shape, type_)
    count = shape[0] if granularity == "row" else 1
    scale = w.stored("scale", np.abs(vectors.fill(scale_fill, w.cases, "f32", count)))
    zero = w.fill("zero_point", "s32", (count,), type_)
    w.out("x", reference.dequantize(q, scale[:, None], zero.astype(np.int64)[:, None]))


class Weight:
    """A weight's inputs, written; int8 integers, scales, and zero-points or None, as the reference takes them.

    ``kind``: a generator of floats, or s8, u8 (integers with scales), s8+zero, u8+zero (and zero-points), or
    s8=N (all of them N).
    """

    def __init__(self, w: Writer, kind: str, n: int, k: int) -> None:
        if kind in FILLS:
            self.q, self.scale = reference.quantize_weight(w.fill("w", "f32", (n, k), kind))
            self.zero = None
            return
        type_, _, constant = kind.partition("+")[0].partition("=")
        integers = w.fill("w", type_, (n, k), f"constant={constant}" if constant else type_)
        self.scale = w.fill("w_scale", "f32", (n,), "scale")
        self.zero = w.fill("w_zero_point", "s32", (n,), type_) if kind.endswith("+zero") else None
        shift = 128 if type_ == "u8" else 0  # packed as int8, both: u8 without zero-points means 128
        self.q = (integers.astype(np.int16) - shift).astype(np.int8)
        self.zero = None if self.zero is None else self.zero - shift

    def centred(self) -> np.ndarray:
        """int64 (N, K): integers minus zero-points."""
        return self.q.astype(np.int64) - (0 if self.zero is None else self.zero.astype(np.int64)[:, None])


def weight(w: Writer, kind: str, n: int, k: int) -> None:
    w.case("weight")
    made = Weight(w, kind, n, k)
    w.out("panels", reference.panels(made.q).reshape(-1))
    w.out("scale", made.scale)
    w.out("column_sum", made.centred().sum(1).astype(np.int32))
    zero = np.zeros(n, np.int64) if made.zero is None else made.zero.astype(np.int64)
    w.out("dequantized", reference.dequantize(made.q, made.scale[:, None], zero[:, None]))


def gemm_s32(
    w: Writer, type_: str, granularity: str, shape: tuple[int, int, int], kind: str, q_fill: str,
    zero_fill: str | None = None,
) -> None:  # fmt: skip
    """``zero_fill``: how the zero-points are generated; None: any of the type."""
    m, n, k = shape
    start = len(w.lines)
    q = w.fill("q", type_, (m, k), q_fill)
    zero = w.fill("zero_point", "s32", (m if granularity == "row" else 1,), zero_fill or type_)
    acc = (q.astype(np.int64) - zero.astype(np.int64)[:, None]) @ Weight(w, kind, n, k).centred().T
    fits = ((acc >= -(2**31)) & (acc < 2**31)).all()
    w.case("gemm_s32", at=start, type=type_, granularity=granularity, status="ok" if fits else "overflow")
    if fits:
        w.out("acc", acc.astype(np.int32))


def linear(
    w: Writer,
    scheme: str,
    granularity: str,
    shape: tuple[int, int, int],
    weight_kind: str,
    x: np.ndarray | str,
    activation: str = "none",
    bias: np.ndarray | str | None = None,
    residual: str | None = None,
    clamp: tuple[float, float] | None = None,
) -> None:
    """``x``, ``bias`` and ``residual``: an array that is stored, or the name of a generator."""
    m, n, k = shape
    finite = isinstance(x, str) or np.isfinite(x).all()
    limits = {} if clamp is None else {"min": f"{bits_of(clamp[0]):08x}", "max": f"{bits_of(clamp[1]):08x}"}
    w.case(
        "linear", scheme=scheme, granularity=granularity, activation=activation, **limits,
        status=status_of(finite or n == 0 or m == 0),
    )  # fmt: skip
    values = input_x(w, (x, (m, k)) if isinstance(x, str) else x)
    made = Weight(w, weight_kind, n, k)
    if bias is not None:
        bias = w.stored("bias", bias) if isinstance(bias, np.ndarray) else w.fill("bias", "f32", (n,), bias)
    added = None if residual is None else w.fill("residual", "f32", (m, n), residual)
    y = reference.linear(values, made.q, made.scale, made.zero, bias, added, scheme, granularity)
    w.out("y", finish(y, activation, clamp))


def matmul(
    w: Writer, scheme: str, granularity: str, batch: tuple[int, int], shape: tuple[int, int, int],
    a: np.ndarray | str, b: np.ndarray | str,
) -> None:  # fmt: skip
    """``batch``: of a and of b; where one is 1 it serves the whole batch."""
    m, n, k = shape
    finite = all(isinstance(side, str) or np.isfinite(side).all() for side in (a, b))
    w.case("matmul", scheme=scheme, granularity=granularity, status=status_of(finite))
    left = w.stored("a", a) if isinstance(a, np.ndarray) else w.fill("a", "f32", (batch[0], m, k), a)
    right = w.stored("b", b) if isinstance(b, np.ndarray) else w.fill("b", "f32", (batch[1], k, n), b)
    count = max(batch)
    pairs = zip(np.broadcast_to(left, (count, m, k)), np.broadcast_to(right, (count, k, n)), strict=True)
    y = [reference.matmul(one, other, scheme, granularity) for one, other in pairs]
    w.out("y", np.stack(y).astype(F))


# ---- Which cases there are.


def bits_of(x: float) -> int:
    return int(F(x).view(np.uint32))


ZERO_SIZES = ((0, 3, 4), (3, 0, 4), (3, 4, 0), (0, 0, 0))  # M, N, K
# Around every width that a kernel has: groups of 4, 8, 16 and 32, whole AMX tiles and cache lines of 64.
K_SIZES = (1, 2, 3, 4, 5, 7, 8, 15, 16, 17, 31, 33, 60, 63, 64, 65, 68, 96, 100, 127, 128, 129, 131, 192, 200, 255, 257)
# 1 to 5 panels of 16 channels, whole and ragged.
N_SIZES = (16, 17, 1, 48, 33, 80, 15, 32, 47, 65, 31, 64, 7, 49)
EDGES = np.array(
    [0x00000000, 0x80000000, 0x00000001, 0x80000001, 0x007FFFFF, 0x00800000, 0x7F7FFFFF, 0xFF7FFFFF, 0x7F800000,
     0xFF800000, 0x7FC00000, 0xFFC12345, 0x7F800001], np.uint32,
).view(F)  # fmt: skip


def around(*points: float) -> np.ndarray:
    """Each of ``points`` and its neighbours, both signs."""
    p = np.array(points, F)
    near = np.concatenate([np.nextafter(p, F(0)), p, np.nextafter(p, F("inf"))])
    return np.concatenate([near, -near])


def ranges() -> tuple[np.ndarray, np.ndarray]:
    big, tiny = np.finfo(F).max, np.uint32(1).view(F)
    pairs = [
        (0, 0), (0, 1), (-1, 0), (-1, 1), (0, 255), (-255, 0), (-0.5, 254.5), (-1.5, 253.5), (-127.5, 127.5), (0, big),
        (-big, 0), (-big, big), (-big, 1), (0, tiny), (-tiny, 0), (-tiny, tiny), (-200 * tiny, 200 * tiny),
        (-1e-40, 3e-40), (-1e30, 1e-30), (-1e-30, 1e30), (-1.7e38, 1.7e38), (-0.1, 0.7), (-3, 1e-3),
    ]  # fmt: skip
    return np.array([lo for lo, _ in pairs], F), np.array([hi for _, hi in pairs], F)


def small_cases(w: Writer) -> None:
    """Every operation with every scheme, granularity, type and kind of values."""
    for granularity, kind in itertools.product(GRANULARITIES, FILLS):
        minmax(w, granularity, (kind, (5, 37)))
    for scheme, type_ in itertools.product(SCHEMES, ("u8", "s8")):
        choose_qparams(w, scheme, type_, *ranges())
        for granularity, kind in itertools.product(GRANULARITIES, FILLS):
            quantize_dynamic(w, scheme, granularity, type_, (kind, (3, 37)))
        for granularity, kind in itertools.product(GRANULARITIES, ("spread", "halves", "huge")):
            quantize(w, scheme, granularity, type_, kind, (3, 37))
        # a scale of 1, and every half of the range: ties
        ties = (np.arange(-255, 256) * F(0.5)).astype(F)[None]
        quantize_dynamic(w, scheme, "row", type_, ties + F(64 if scheme == "asymmetric" else 0))
    for granularity, type_ in itertools.product(GRANULARITIES, ("u8", "s8")):
        for scale in ("scale", "huge", "denormal"):
            dequantize(w, granularity, type_, (3, 37), scale)
    for i, kind in enumerate((*FILLS, "u8", "s8", "u8+zero", "s8+zero")):
        weight(w, kind, 5 + 6 * (i % 4), 7 + 2 * i)


def refused_and_empty_cases(w: Writer) -> None:
    """A NaN or an infinity in a block; sizes of 0."""
    plain = vectors.fill("uniform", 1, "f32", 5 * 9).reshape(5, 9)
    for bad, granularity in itertools.product(BAD, GRANULARITIES):
        x = spoiled(plain, bad)
        minmax(w, granularity, x)
        for scheme in SCHEMES:
            quantize_dynamic(w, scheme, granularity, "u8", x)
            linear(w, scheme, granularity, (5, 19, 9), "uniform", x, "relu", "uniform", clamp=(-0.25, 0.5))
            matmul(w, scheme, granularity, (1, 1), (5, 6, 9), x[None], "uniform")
        matmul(w, "asymmetric", granularity, (1, 1), (9, 9, 5), "uniform", x[None])
    for m, n, k in ZERO_SIZES:
        for scheme, granularity in itertools.product(SCHEMES, GRANULARITIES):
            linear(w, scheme, granularity, (m, n, k), "uniform", "uniform", "sigmoid", "uniform")
            quantize_dynamic(w, scheme, granularity, "u8", ("uniform", (m, k)))
            matmul(w, scheme, granularity, (2, 1), (m, n, k), "uniform", "uniform")
        minmax(w, "row", ("uniform", (m, k)))
        minmax(w, "tensor", ("uniform", (m, k)))
        gemm_s32(w, "u8", "row", (m, n, k), "s8", "u8")
        weight(w, "uniform", n, k)


def epilogue_cases(w: Writer) -> None:
    """Every activation with every scheme, granularity, step of the epilogue and kind of weight."""
    steps = [
        {}, {"bias": "uniform"}, {"residual": "spread"}, {"clamp": (-0.25, 0.75)},
        {"bias": "uniform", "residual": "spread", "clamp": (-0.5, 0.25)},
    ]  # fmt: skip
    weights = itertools.cycle(("uniform", "s8", "u8", "spread", "s8+zero", "u8+zero"))
    for activation, scheme, granularity in itertools.product(ACTIVATIONS, SCHEMES, GRANULARITIES):
        for step in steps:
            linear(w, scheme, granularity, (3, 21, 14), next(weights), "spread", activation, **step)
    for scheme, granularity, kind in itertools.product(SCHEMES, GRANULARITIES, FILLS):
        linear(w, scheme, granularity, (4, 18, 22), next(weights), kind, bias="uniform")
        linear(w, scheme, granularity, (4, 18, 22), kind, "uniform")
    # The activations alone: x and w are 0, the bias is the argument.
    edges = np.concatenate([EDGES, around(0.625, 1, 2, 4, 5, 8, 16, 17, 88.72, 88.73, 89, 103.97, 104, 1e-20, 1e20)])
    for activation in ACTIVATIONS:
        linear(w, "asymmetric", "row", (2, len(edges), 0), "uniform", "uniform", activation, edges)
        # so many, since an error in the last bit of a coefficient shows in few results
        linear(w, "asymmetric", "row", (1, 60000, 0), "s8", "uniform", activation, "spread")
        linear(w, "symmetric", "tensor", (1, 10000, 0), "s8", "uniform", activation, "bits")
        # sums that underflow to 0 and -0: with a bias of -0 that is the argument, and a clamp from 0 keeps it
        x = np.full((1, 1), -1e-42, F)
        for clamp in (None, (0, 6)):
            linear(w, "symmetric", "row", (1, 5, 1), "denormal", x, activation, np.full(5, -0.0, F), clamp=clamp)


def matmul_cases(w: Writer) -> None:
    for scheme, granularity in itertools.product(SCHEMES, GRANULARITIES):
        matmul(w, scheme, granularity, (2, 2), (3, 5, 7), "spread", "uniform")
        matmul(w, scheme, granularity, (1, 3), (2, 3, 9), "uniform", "spread")
        matmul(w, scheme, granularity, (3, 1), (4, 2, 5), "halves", "bits")
        matmul(w, scheme, granularity, (2, 2), (17, 33, 65), "uniform", "uniform")


def tile_cases(w: Writer) -> None:
    """Sizes that reach every path of every tile: ragged rows, panels and groups of k; the ends of int8."""
    ks, ns = itertools.cycle(K_SIZES), itertools.cycle(N_SIZES)
    weights = itertools.cycle(("s8", "u8+zero", "uniform"))
    options = itertools.cycle(itertools.product(SCHEMES, GRANULARITIES))
    types = itertools.cycle(itertools.product(("u8", "s8"), GRANULARITIES))
    for m in range(1, 34):
        for panels in range(1, 4):
            gemm_s32(w, *next(types), (m, 16 * panels, next(ks)), "s8", "s8" if m % 2 else "u8")
        scheme, granularity = next(options)
        linear(w, scheme, granularity, (m, next(ns), next(ks)), next(weights), "uniform", "none", "uniform")
    for k in K_SIZES:  # a step of k lost or done twice changes every sum
        gemm_s32(w, *next(types), (5, 3, k), "s8=-128", "constant=127")
        gemm_s32(w, *next(types), (3, 18, k), "s8=127", "constant=255")
    for m in (40, 64, 65, 97):
        for n in (16, 33, 80):
            linear(w, *next(options), (m, n, next(ks)), next(weights), "uniform", "relu", "uniform", "uniform")
    for m, n in ((1, 2100), (2, 1100), (3, 701), (14, 170), (33, 81)):  # more panels than a buffer of tiles holds
        linear(w, *next(options), (m, n, 5), "s8+zero", "uniform", "tanh", "uniform")


def long_cases(w: Writer) -> None:
    """K over 65 536, where int32 does not hold every sum, and around 32 768, where it does not with zero-points."""
    for kind, k in (("s8", 65537), ("s8+zero", 32769), ("uniform", 65536), ("s8=127", 70001)):
        linear(w, "asymmetric", "row", (2, 3, k), kind, "uniform", bias="uniform")
        gemm_s32(w, "u8", "row", (2, 3, k), kind, "u8")
    # 255 * 127 * 70 001 is over 2^31
    linear(w, "asymmetric", "tensor", (1, 2, 70001), "s8=127", f"constant={bits_of(1)}")
    for k in (66311, 66312):  # the last sum of 255 * 127 that fits int32, and the first that does not
        gemm_s32(w, "u8", "tensor", (1, 2, k), "s8=127", "constant=255", "constant=0")


def whole_cases(w: Writer) -> None:
    """Large enough for three threads to share: by rows, by panels; ranges and quantization in parts."""
    minmax(w, "tensor", ("spread", (65, 3333)))
    minmax(w, "row", ("spread", (65, 3333)))
    quantize_dynamic(w, "asymmetric", "tensor", "u8", ("uniform", (65, 3333)))
    quantize_dynamic(w, "symmetric", "row", "s8", ("uniform", (65, 3333)))
    dequantize(w, "row", "u8", (65, 3333), "scale")
    weight(w, "uniform", 130, 515)
    linear(w, "asymmetric", "row", (201, 48, 700), "uniform", "uniform", "gelu", "uniform", "uniform")
    linear(w, "symmetric", "tensor", (131, 100, 500), "u8+zero", "spread", "silu", "uniform")
    linear(w, "asymmetric", "tensor", (21, 600, 530), "s8+zero", "uniform", "none", "uniform")
    gemm_s32(w, "s8", "row", (23, 570, 511), "s8", "s8")


def generate() -> dict[str, bytes]:
    """Names and contents of the files."""
    writer = Writer()
    for family in families():
        family(writer)
    return writer.files()


def families() -> Iterator:
    yield from (small_cases, refused_and_empty_cases, epilogue_cases, matmul_cases, tile_cases, long_cases, whole_cases)


def main(arguments: list[str]) -> int:
    if arguments not in ([], ["--check"]):
        print(__doc__, file=sys.stderr)
        return 2
    status = 0
    for name, wanted in generate().items():
        path = FOLDER / name
        if not arguments:
            path.write_bytes(wanted)
            print(f"{name}: {len(wanted)} bytes")
        elif not path.exists() or path.read_bytes() != wanted:
            print(f"{name} is not what generate.py writes; run it, and say in the commit why the bits changed")
            status = 1
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
