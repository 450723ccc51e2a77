"""The quantizer multiplies where the rule divides: both round to the same integer for every float."""

import numpy as np
import pytest

import dynq

F = np.float32


def rows_with_scale(values: np.ndarray, largest: np.ndarray) -> np.ndarray:
    """Rows of values and, first, the largest one: it sets the symmetric scale max / 127."""
    return np.concatenate([largest[:, None], values], 1)


def check(x: np.ndarray) -> None:
    q, scale, _ = dynq.quantize(x, "symmetric", dtype="int8")
    with np.errstate(all="ignore"):
        expected = np.clip(np.rint(x / scale[:, None]), -127, 127)
    wrong = np.argwhere(q != expected)
    assert not len(wrong), (x[tuple(wrong[0])], scale[wrong[0][0]], q[tuple(wrong[0])], expected[tuple(wrong[0])])


@pytest.mark.parametrize("seed", range(4))
def test_floats_around_every_half_round_as_the_quotient_does(isa: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    mantissa = rng.uniform(1, 2, 150)
    largest = (mantissa * 2.0 ** rng.integers(-20, 20, 150)).astype(F)
    scale = largest / F(127)
    halves = np.arange(127) + 0.5
    middle = (halves[None, :] * scale[:, None].astype(np.float64)).astype(F)
    near = [middle]
    up = down = middle
    for _ in range(6):
        up, down = np.nextafter(up, F(np.inf)), np.nextafter(down, F(0))
        near += [up, down]
    values = np.concatenate(near, 1)
    values = np.minimum(values, largest[:, None])
    check(rows_with_scale(values, largest))
    check(rows_with_scale(-values, largest))


@pytest.mark.parametrize("largest", [1.0, 127.0, 3.0000002, 1e-6, 7.77e20, 1.9999999])
def test_a_sweep_over_all_floats_rounds_as_the_quotient_does(largest: float) -> None:
    top = np.float32(largest).view(np.uint32)
    low = (np.float32(largest) / F(600)).view(np.uint32)  # below that everything is 0
    bits = np.arange(int(low), int(top), 29, dtype=np.uint32)
    values = bits.view(F)
    check(np.concatenate([[F(largest)], values])[None])


@pytest.mark.parametrize("exponent", [-149, -140, -127, -126, -110, -101, -100, -99, 99, 100, 101, 119, 120, 121])
def test_scales_at_the_ends_of_the_range_round_as_the_quotient_does(isa: str, exponent: int) -> None:
    rng = np.random.default_rng(exponent + 200)
    with np.errstate(over="ignore"):
        largest = np.minimum((rng.uniform(1, 2, 50) * 127 * 2.0**exponent), np.finfo(F).max).astype(F)
        values = (rng.uniform(-1, 1, (50, 400)) * largest[:, None]).astype(F)
        halves = ((np.arange(127) + 0.5)[None] * (largest / F(127)).astype(np.float64)[:, None]).astype(F)
    check(rows_with_scale(np.minimum(np.concatenate([values, halves], 1), largest[:, None]), largest))
