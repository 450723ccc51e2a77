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


def one_in_each_vector(suspects: np.ndarray, offset: int) -> np.ndarray:
    """Rows of 0, which never needs the division, with a suspect at every 16th place.

    A vector (16 floats at most) divides as a whole where one of its lanes asks for it: a suspect beside another
    would not show that it was overlooked itself.
    """
    x = np.zeros((*suspects.shape, 16), F)
    x[..., offset] = suspects
    return x.reshape(len(suspects), -1)


@pytest.mark.parametrize("scheme", ["symmetric", "asymmetric"])
@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("seed", range(3))
def test_a_float_near_a_half_is_recognized_alone(isa: str, seed: int, sign: int, scheme: str) -> None:
    rng = np.random.default_rng(seed + 50)
    steps = 127 if scheme == "symmetric" else 255
    largest = (rng.uniform(1, 2, 40) * 2.0 ** rng.integers(-20, 20, 40)).astype(F)
    largest[0] = F(steps)  # a scale of 1: exact ties
    scale = largest / F(steps)
    suspects = ((np.arange(steps) + 0.5)[None, :] * scale[:, None].astype(np.float64)).astype(F)
    near = suspects.view(np.int32)[..., None] + np.array([-40, -9, -3, -2, -1, 0, 1, 2, 3, 9, 40], np.int32)
    values = np.minimum(near.reshape(len(suspects), -1).view(F), largest[:, None])
    x = np.zeros((len(values), 16 * (values.shape[1] + 1)), F)
    x[:, 0] = largest
    x[:, 16:] = one_in_each_vector(values, seed * 5)
    x *= F(sign)
    q, got, zero_point = dynq.quantize(x, scheme, dtype="int8")
    assert np.array_equal(got, scale)
    low = -127 if scheme == "symmetric" else -128
    expected = np.clip(np.rint(x / scale[:, None]) + zero_point[:, None].astype(F), low, 127)
    wrong = np.argwhere(q != expected)
    assert not len(wrong), (x[tuple(wrong[0])], scale[wrong[0][0]], q[tuple(wrong[0])], expected[tuple(wrong[0])])


@pytest.mark.parametrize("largest", [1.0, 255.0, 3.0000002, 7.77e20])
def test_an_asymmetric_sweep_rounds_as_the_quotient_does(isa: str, largest: float) -> None:
    top, low = (F(v).view(np.uint32) for v in (largest, F(largest) / F(1200)))
    values = np.arange(int(low), int(top), 101, dtype=np.uint32).view(F)
    for x in (np.append(values, F(largest)), np.append(-values, F(largest)), np.append(-values, -F(largest))):
        q, scale, zero_point = dynq.quantize(x)
        assert np.array_equal(q, np.clip(np.rint(x / scale) + F(zero_point), 0, 255))


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
