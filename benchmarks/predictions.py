"""Are the advisor's predictions true? Predicted and measured gain of real programs, side by side.

    python benchmarks/predictions.py [--runs N] [--only NAME,…] [--json FILE]

For each program of examples/subjects.toml, `poolwise advise` is run and then `poolwise try` with
the remedy, so often as --runs says: each run predicts anew and measures anew, the programs in turn.
Tried is the twin where the expected verdict is the twin's; else the settings, those of them that
the report names, or all where it says `don't`. Inputs are smaller than in the examples, so that ten
runs of all take about an hour. With --json, finished runs are written at once, and those that the
file holds are not made again. Counted is how many runs

  inside    measured a gain inside the predicted interval; where no gain of what is tried was
            predicted, one of at most 2 points
  allowing  the same, but the measurement is uncertain, too: its own 95 % interval reaches it
  sign      did not contradict the sign of the prediction
  narrow    predicted an interval of at most 2 points, or 30 % of its value, to each side
  answer    named the expected verdict first
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import socket
import subprocess
import sys
import tempfile
import threading
import time
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from poolwise.advise.calibrate import machine

ROOT = Path(__file__).resolve().parent.parent
EXAMPLES = ROOT / "examples"
SERVER_SECONDS = 10.0  # of a server under advise
POINTS, SHARE = 0.02, 0.30
PAIRS = 3
SCHEMA = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """A program, the verdict that is expected to lead, and what is tried."""

    name: str
    program: tuple[str, ...]
    expect: str
    against: str | None  # the twin; None: the settings are tried
    load: tuple[str, ...]  # of a server that never ends, with {port} as the program has

    @property
    def tried(self) -> str:
        return self.expect if self.against else "settings"


@dataclass(frozen=True, slots=True)
class Interval:
    """CPU seconds saved per CPU second."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        value, low, high = (f"{100 * x:.1f}" for x in (self.value, self.low, self.high))
        return f"{value} [{low}, {high}]"


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One prediction with one measurement. None: nothing was predicted."""

    predicted: Interval | None
    measured: Interval
    answer: str  # the verdict named first

    @property
    def inside(self) -> bool:
        if self.predicted is None:
            return self.measured.value <= POINTS
        return self.predicted.low <= self.measured.value <= self.predicted.high

    @property
    def allowing(self) -> bool:
        """Inside, or so near that the measurement's own interval reaches it."""
        if self.predicted is None:
            return self.measured.low <= POINTS
        return self.measured.low <= self.predicted.high and self.predicted.low <= self.measured.high

    @property
    def right_sign(self) -> bool:
        """The measurement does not contradict the sign of the prediction."""
        if self.predicted is None or self.predicted.value <= POINTS:
            return self.measured.low <= POINTS
        return self.measured.high > 0

    @property
    def narrow(self) -> bool:
        if self.predicted is None:
            return True
        wide = max(
            self.predicted.high - self.predicted.value, self.predicted.value - self.predicted.low
        )
        return wide <= max(POINTS, SHARE * abs(self.predicted.value))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=10, help="of each program (default 10)")
    parser.add_argument("--pairs", type=int, default=PAIRS, help=f"of each try (default {PAIRS})")
    parser.add_argument("--only", metavar="NAME,…", help="these programs only")
    parser.add_argument("--json", metavar="FILE", type=Path, help="keep the runs in FILE")
    ns = parser.parse_args()
    chosen = subjects()
    if ns.only:
        chosen = [one for one in chosen if one.name in ns.only.split(",")]
    if not chosen:
        sys.exit(f"no program of examples/subjects.toml is called {ns.only}")
    runs: dict[str, list[Run]] = {subject.name: [] for subject in chosen}
    if ns.json and ns.json.exists():
        runs |= read(ns.json, ns.pairs)
    missing = [
        (turn, subject)
        for turn in range(ns.runs)
        for subject in chosen
        if turn >= len(runs[subject.name])
    ]
    took: dict[str, float] = {}
    try:
        for number, (turn, subject) in enumerate(missing):
            say(f"run {turn + 1} of {ns.runs}: {subject.name} … {left(missing[number:], took)}")
            started = time.monotonic()
            try:
                runs[subject.name].append(predict_and_measure(subject, ns.pairs))
            except RuntimeError as error:
                say(f"{subject.name}: this run is missing: {error}")
            took[subject.name] = time.monotonic() - started
            if ns.json:
                write(ns.json, runs, ns.pairs)
    except KeyboardInterrupt:
        say("interrupted: the finished runs are shown")
    show([subject for subject in chosen if runs[subject.name]], runs, ns.pairs)


def left(missing: list[tuple[int, Subject]], took: dict[str, float]) -> str:
    """How long the missing runs will take, as far as that can be told."""
    if not took:
        return ""
    mean = sum(took.values()) / len(took)
    seconds = sum(took.get(subject.name, mean) for _, subject in missing)
    return f"(about {seconds / 60:.0f} minutes left)"


def read(path: Path, pairs: int) -> dict[str, list[Run]]:
    """The runs that are in the file. Exits if they were made in another way."""
    try:
        kept = json.loads(path.read_bytes())
        same = kept["schema"] == SCHEMA and kept["pairs"] == pairs
        same = same and kept["machine"] == machine()
        found = {
            name: [
                Run(
                    predicted=run["predicted"] and Interval(**run["predicted"]),
                    measured=Interval(**run["measured"]),
                    answer=run["answer"],
                )
                for run in several
            ]
            for name, several in kept["subjects"].items()
        }
    except (ValueError, KeyError, TypeError):
        sys.exit(f"{path} is no file of this benchmark; name another one")
    if not same:
        sys.exit(
            f"{path} holds runs of another build, machine or number of pairs; name another file"
        )
    return found


def write(path: Path, runs: dict[str, list[Run]], pairs: int) -> None:
    written = {
        "schema": SCHEMA,
        "date": time.strftime("%Y-%m-%d"),
        "machine": machine(),
        "pairs": pairs,
        "subjects": {
            name: [
                {
                    **asdict(run),
                    "inside": run.inside,
                    "allowing": run.allowing,
                    "right_sign": run.right_sign,
                    "narrow": run.narrow,
                }
                for run in several
            ]
            for name, several in runs.items()
        },
    }
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(written, indent=1) + "\n")
    partial.replace(path)  # the old runs or all of them, whatever happens


def subjects() -> list[Subject]:
    with (EXAMPLES / "subjects.toml").open("rb") as file:
        tables = tomllib.load(file)["subject"]
    return [
        Subject(
            name=table["name"],
            program=(table["program"], *table.get("forever", table["short"])),
            expect=table["expect"],
            against=table["against"] if table.get("against_verdict") == table["expect"] else None,
            load=tuple(table.get("load", ())),
        )
        for table in tables
    ]


def predict_and_measure(subject: Subject, pairs: int) -> Run:
    port = str(free_port())
    program = [word.replace("{port}", port) for word in subject.program]
    load = [sys.executable, *subject.load]
    with tempfile.TemporaryDirectory() as directory:
        report, trial = Path(directory, "report.json"), Path(directory, "trial.json")
        if subject.load:
            with loading([word.replace("{port}", port) for word in load], port):
                limit = ["--for", str(SERVER_SECONDS)]
                poolwise("advise", *limit, "--json", str(report), *program)
        else:
            poolwise("advise", "--json", str(report), *program)
        found = json.loads(report.read_bytes())
        remedy = ["--against", subject.against] if subject.against else ["--with", named(found)]
        if subject.load:  # each run of the trial gets a port of its own
            remedy += ["--load", shlex.join(load)]
        arguments = ["--pairs", str(pairs), "--json", str(trial), *subject.program]
        poolwise("try", *remedy, *arguments)
        gain = json.loads(trial.read_bytes())["gain"]
    return Run(
        predicted=prediction(found, subject),
        measured=Interval(gain["value"], gain["low"], gain["high"]),
        answer=next((v["verdict"] for v in found["verdicts"]), "don't"),
    )


def named(report: dict[str, Any]) -> str:
    """The settings that the report names, as `--with` takes them; all if it names none."""
    for verdict in report["verdicts"]:
        words = verdict["code"].split()
        if verdict["verdict"] == "settings" and "--with" in words:
            return str(words[words.index("--with") + 1])
    return "settings"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def loading(command: list[str], port: str) -> Iterator[None]:
    """Run `command` as soon as something answers on `port`; wait for its end."""

    def run() -> None:
        deadline = time.monotonic() + SERVER_SECONDS
        while time.monotonic() < deadline:
            try:
                socket.create_connection(("127.0.0.1", int(port)), timeout=1).close()
                break
            except OSError:
                time.sleep(0.05)
        subprocess.run(command, cwd=EXAMPLES, stdout=subprocess.DEVNULL, check=False)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        thread.join()


def prediction(report: dict[str, Any], subject: Subject) -> Interval | None:
    """What the report promises for what is tried: several verdicts add up.

    For the settings that is the line on the whole program, also where its verdict is `don't`.
    """
    gains = [
        v["gain"]
        for v in report["verdicts"]
        if (v["site"] is None if subject.tried == "settings" else v["verdict"] == subject.tried)
    ]
    if not gains:
        return None
    return Interval(*(sum(gain[end] for gain in gains) for end in ("value", "low", "high")))


def poolwise(*words: str) -> None:
    command = [sys.executable, "-m", "poolwise", *words]
    ended = subprocess.run(
        command, cwd=EXAMPLES, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE, text=True, env={**os.environ, "COLUMNS": "200"}, check=False,
    )  # fmt: skip
    if ended.returncode != 0:
        raise RuntimeError(f"{shlex.join(command)} failed:\n{ended.stderr[-2000:]}")


def show(chosen: list[Subject], runs: dict[str, list[Run]], pairs: int) -> None:
    """As a Markdown table, for docs/benchmarks.md: the middle run, and how many were right."""
    titles = (
        "program | expected | tried | predicted, % | measured, % "
        "| inside | allowing | sign | narrow | answer"
    )
    print(f"| {titles} |\n|" + "---|" * 10)
    inside = allowing = total = 0
    for subject in chosen:
        several = sorted(runs[subject.name], key=lambda run: run.measured.value)
        middle = several[len(several) // 2]
        counts = [
            f"{sum(values)} of {len(several)}"
            for values in (
                [run.inside for run in several],
                [run.allowing for run in several],
                [run.right_sign for run in several],
                [run.narrow for run in several],
                [run.answer == subject.expect for run in several],
            )
        ]
        inside += sum(run.inside for run in several)
        allowing += sum(run.allowing for run in several)
        total += len(several)
        predicted = "none" if middle.predicted is None else str(middle.predicted)
        cells = [subject.name, subject.expect, subject.tried, predicted, str(middle.measured)]
        print("|", " | ".join(cells + counts), "|")
    print(
        f"\ninside in {inside} of {total} runs, in {allowing} allowing for the measurement's own "
        f"interval; {pairs} pairs a trial; the middle run is shown."
    )
    print("; ".join(f"{name} {' '.join(value.split())}" for name, value in machine().items()))


def say(sentence: str) -> None:
    print(f"predictions: {sentence}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
