"""What benchmarks/predictions.py counts as right."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "predictions.py"


@pytest.fixture(scope="module")
def predictions() -> ModuleType:
    spec = importlib.util.spec_from_file_location("predictions", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["predictions"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("predicted", "measured", "inside", "right_sign", "narrow"),
    [
        ((0.20, 0.15, 0.26), (0.16, 0.10, 0.20), True, True, True),
        ((0.20, 0.15, 0.27), (0.14, 0.10, 0.20), False, True, False),
        ((0.20, 0.15, 0.26), (-0.10, -0.2, -0.05), False, False, True),
        ((0.01, -0.01, 0.03), (0.00, -0.01, 0.01), True, True, True),
        ((0.01, -0.01, 0.03), (0.10, 0.05, 0.15), False, False, True),
        (None, (0.015, 0.01, 0.02), True, True, True),
        (None, (0.05, 0.03, 0.07), False, False, True),
    ],
)
def test_a_run_is_judged(
    predictions: ModuleType,
    predicted: tuple[float, float, float] | None,
    measured: tuple[float, float, float],
    inside: bool,
    right_sign: bool,
    narrow: bool,
) -> None:
    run = predictions.Run(
        predicted=predicted and predictions.Interval(*predicted),
        measured=predictions.Interval(*measured),
        answer="settings",
    )
    assert (run.inside, run.right_sign, run.narrow) == (inside, right_sign, narrow)


def test_several_verdicts_of_what_is_tried_add_up(predictions: ModuleType) -> None:
    subject = predictions.Subject(
        name="x", program=("x.py",), expect="pool", against="y.py", load=()
    )
    assert subject.tried == "pool"
    gain = {"value": 0.1, "low": 0.05, "high": 0.2}
    verdicts = [{"verdict": name, "gain": gain} for name in ("settings", "pool", "don't", "pool")]
    report = {"verdicts": verdicts}
    found = predictions.prediction(report, subject)
    assert (found.value, found.low, found.high) == pytest.approx((0.2, 0.1, 0.4))
    assert predictions.prediction({"verdicts": verdicts[:1]}, subject) is None


def test_every_subject_names_programs_that_are_there(predictions: ModuleType) -> None:
    subjects = predictions.subjects()
    assert len(subjects) >= 6
    for subject in subjects:
        assert (predictions.EXAMPLES / subject.program[0]).is_file()
        assert subject.against is None or (predictions.EXAMPLES / subject.against).is_file()
    assert any("{port}" in word for subject in subjects for word in subject.load)


def test_a_measurement_is_uncertain_too(predictions: ModuleType) -> None:
    def run(predicted: tuple[float, float, float] | None, *measured: float) -> tuple[bool, bool]:
        interval = predictions.Interval
        run = predictions.Run(
            predicted=predicted and interval(*predicted),
            measured=interval(*measured),
            answer="settings",
        )
        return run.inside, run.allowing

    assert run((0.20, 0.15, 0.26), 0.16, 0.10, 0.20) == (True, True)
    assert run((0.20, 0.15, 0.26), 0.14, 0.10, 0.18) == (False, True)
    assert run((0.20, 0.15, 0.26), 0.28, 0.25, 0.31) == (False, True)
    assert run((0.20, 0.15, 0.26), 0.10, 0.06, 0.14) == (False, False)
    assert run(None, 0.03, 0.01, 0.05) == (False, True)
    assert run(None, 0.05, 0.03, 0.07) == (False, False)


def test_tried_is_what_the_report_names(predictions: ModuleType) -> None:
    dont = {"verdict": "don't", "code": ""}
    gc = {"verdict": "settings", "code": "poolwise run --with settings:gc app.py --with other"}
    assert predictions.named({"verdicts": [dont, gc]}) == "settings:gc"
    assert predictions.named({"verdicts": [dont]}) == "settings"


def test_finished_runs_are_kept_and_not_made_again(
    predictions: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, made = tmp_path / "runs.json", []
    interval = predictions.Interval(0.2, 0.1, 0.3)

    def one(subject: object, pairs: int) -> object:
        made.append(subject.name)  # type: ignore[attr-defined]
        if len(made) == 3:
            raise KeyboardInterrupt
        predicted = interval if len(made) == 1 else None
        return predictions.Run(predicted=predicted, measured=interval, answer="settings")

    monkeypatch.setattr(predictions, "predict_and_measure", one)
    command = ["predictions.py", "--runs", "2", "--only", "spectra,field", "--json", str(file)]
    monkeypatch.setattr(sys, "argv", command)
    predictions.main()
    assert made == ["spectra", "field", "spectra"]  # in turn; the third was interrupted
    kept = predictions.read(file, predictions.PAIRS)
    assert [run.predicted for run in kept["spectra"] + kept["field"]] == [interval, None]
    predictions.main()
    assert made[3:] == ["spectra", "field"]
    kept = predictions.read(file, predictions.PAIRS)
    assert {name: len(runs) for name, runs in kept.items()} == {"spectra": 2, "field": 2}
    with pytest.raises(SystemExit, match="another build, machine or number of pairs"):
        predictions.read(file, predictions.PAIRS + 1)
    file.write_text("{}")
    with pytest.raises(SystemExit, match="no file of this benchmark"):
        predictions.read(file, predictions.PAIRS)
