"""How the probes of a program's run are compared with those of the calibration."""

from __future__ import annotations

import pytest

from poolwise.advise.calibrate import Calibration, Price, _reference
from poolwise.advise.disturbance import MOST, Probes, Watch

ALIKE = [1.1e-3, 0.9e-3] * 20


def watched(seconds: list[float]) -> Probes:
    watch = Watch()
    watch.seconds = seconds
    return watch.probes()


def test_the_factor_is_the_mean_over_the_reference_and_holds_the_error_of_both() -> None:
    sure = watched(ALIKE).factor(Price(0.5e-3, 0.5e-3, 0.5e-3))
    assert sure.value == pytest.approx(2.0)
    assert 1.9 < sure.low < 2.0 < sure.high < 2.1
    unsure = watched(ALIKE).factor(Price(0.5e-3, 0.4e-3, 0.75e-3))
    assert unsure.value == pytest.approx(2.0)
    assert unsure.low == pytest.approx(4 / 3, rel=0.02)  # the reference may be half as dear again
    assert unsure.high == pytest.approx(2.5, rel=0.02)


def test_no_factor_is_believed_beyond_a_limit() -> None:
    factor = watched(ALIKE).factor(Price(1e-6, 1e-6, 1e-6))
    assert factor.value == factor.low == MOST
    assert factor.high > 500  # but nobody may call it sure


def test_prices_of_a_disturbed_run_are_wider(prices: Calibration) -> None:
    adjusted = watched([0.6 * probe for probe in ALIKE]).adjusted(prices)
    before, after = prices.fault(1 << 20), adjusted.fault(1 << 20)
    assert after.value > before.value
    assert after.high / after.value > before.high / before.value
    assert after.low / after.value < before.low / before.value


def test_a_reference_of_many_probes_is_surer_and_bad_moments_do_not_move_it() -> None:
    quiet = [1.0 + 0.001 * (n % 100) for n in range(150)]
    disturbed = [1.5 + 0.01 * n for n in range(50)]
    reference = _reference(quiet + disturbed)
    assert 1.0 <= reference.low <= reference.value <= reference.high < 1.1
    few = _reference([*quiet[::30], *disturbed[::30]])
    assert few.high - few.low > 3 * (reference.high - reference.low)
    assert _reference([1.0]) == Price(1.0, 1.0, 1.0)
