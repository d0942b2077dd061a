"""Trials of real programs: the gain, the order, the outputs, the failures."""

from __future__ import annotations

import math
import os
import signal
import sys
import textwrap
from pathlib import Path

import pytest

from poolwise.advise import trial, trial_processes
from poolwise.advise.sequential import Interval
from poolwise.advise.trial_processes import Arm, Run
from poolwise.errors import PoolwiseError
from poolwise.program import Instructions, Program

WORK = """
import sys, time
def work(seconds):
    while time.process_time() < seconds:
        sum(range(1000))
"""


def arm(folder: Path, name: str, source: str, *args: str) -> Arm:
    path = folder / f"{name}.py"
    path.write_text(WORK + textwrap.dedent(source))
    return Arm(name, Program(str(path), args), Instructions())


def test_the_gain_of_a_program_that_computes(tmp_path: Path) -> None:
    """CPU time is counted and given by the program's own clock: the ratio is known."""
    old = arm(tmp_path, "old", "work(0.2)\nprint('done')")
    new = arm(tmp_path, "new", "work(0.15)\nprint('done')")
    lines: list[str] = []
    result = trial.run(old, new, progress=lines.append)
    assert result.order == "in turns"
    assert result.verdict == "proven"
    assert result.gain.low < 0.25 < result.gain.high or abs(result.gain.value - 0.25) < 0.03
    assert result.ratio == Interval(1 - result.gain.value, 1 - result.gain.high, result.ratio.high)
    assert result.pairs == len(result.log_ratios) >= trial.FIRST_LOOK_PAIRS
    assert (result.output, result.output_bytes) == ("same", 5)
    assert result.old.cpu_seconds >= 0.2
    assert result.new.peak_bytes > 1 << 20
    assert any(line.startswith("warm-up of old") for line in lines)


def test_no_gain_is_not_proven(tmp_path: Path) -> None:
    same = "work(0.1)"
    result = trial.run(arm(tmp_path, "a", same), arm(tmp_path, "b", same), pairs=3)
    assert (result.pairs, result.looks) == (3, "once")
    assert result.verdict != "proven" or result.gain.value < 0.05


def test_children_are_stopped_and_counted_with_their_parent(tmp_path: Path) -> None:
    source = """
        import subprocess
        if len(sys.argv) == 1:
            subprocess.run([sys.executable, __file__, "child"])
        else:
            work({seconds})
    """
    old = arm(tmp_path, "old", source.format(seconds=0.4))
    new = arm(tmp_path, "new", source.format(seconds=0.2))
    result = trial.run(old, new, pairs=3, one_after_the_other=False)
    assert result.order == "in turns"
    assert result.old.cpu_seconds >= 0.4
    assert 0.3 < result.gain.value < 0.5


def test_a_pause_stops_the_whole_group(tmp_path: Path) -> None:
    source = """
        import os
        child = os.fork()
        if child:
            print(os.getpid(), child, flush=True)
            open(sys.argv[1], "w").close()
        while True:
            pass
    """
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    one = Run(arm(tmp_path, "one", source, str(fifo)), tmp_path, "run", None)
    one.resume()
    try:
        fifo.read_bytes()
        pids = one.stdout.read_text().split()

        def states() -> set[str]:
            return {Path(f"/proc/{p}/stat").read_text().rpartition(")")[2][1] for p in pids}

        one.pause()
        while states() != {"T"}:  # a test that hangs here has found one that goes on
            pass
        one.resume()
        while "T" in states():
            pass
    finally:
        one.end()
    assert one.outcome is not None
    assert one.outcome.signal == signal.SIGINT


@pytest.mark.parametrize(
    "source",
    [
        "time.sleep(0.5)",
        """
        import multiprocessing
        if __name__ == "__main__":
            both = [multiprocessing.Process(target=work, args=(0.2,)) for _ in range(2)]
            for one in both: one.start()
            for one in both: one.join()
        """,
    ],
    ids=["waits", "two processors"],
)
def test_one_after_the_other(source: str, tmp_path: Path) -> None:
    if "multiprocessing" in source and len(os.sched_getaffinity(0)) < 2:
        pytest.skip("needs two processors")
    one = arm(tmp_path, "one", source)
    result = trial.run(one, one, pairs=2)
    if "sleep" in source:
        assert result.order == "one after the other"


def test_forced_one_after_the_other(tmp_path: Path) -> None:
    one = arm(tmp_path, "one", "work(0.1)")
    assert trial.run(one, one, pairs=2, one_after_the_other=True).order == "one after the other"


def test_both_run_on_one_processor_in_turns_and_anywhere_else_otherwise(tmp_path: Path) -> None:
    source = "import os; print(len(os.sched_getaffinity(0)), file=sys.stderr); work(0.1)"
    affinity = os.sched_getaffinity(0)
    check = arm(tmp_path, "check", source + "\nif len(os.sched_getaffinity(0)) == 1: sys.exit(9)")
    if len(affinity) > 1:
        with pytest.raises(trial.ProgramFailed) as caught:
            trial.run(check, check, pairs=2)
        assert caught.value.stderr_tail == "1\n"
        trial.run(check, check, pairs=2, one_after_the_other=True)
    assert os.sched_getaffinity(0) == affinity


def test_outputs_that_differ(tmp_path: Path) -> None:
    old = arm(tmp_path, "old", "print('a'); print('sum 41'); work(0.05)")
    new = arm(tmp_path, "new", "print('a'); print('sum 42'); work(0.05)")
    result = trial.run(old, new, pairs=2)
    assert result.output == "differs"
    assert result.first_difference == "line 2: 'sum 41' became 'sum 42'"
    assert trial.run(old, new, pairs=2, compare=False).output == "not compared"


def test_output_that_differs_from_run_to_run(tmp_path: Path) -> None:
    one = arm(tmp_path, "one", "import os; print(os.getpid()); work(0.05)")
    result = trial.run(one, one, pairs=2)
    assert (result.output, result.first_difference) == ("unsteady", None)


@pytest.mark.parametrize(
    ("source", "ended"),
    [
        ("1 / 0", "exit code 1"),
        ("sys.exit(3)", "exit code 3"),
        ("import os; os.kill(os.getpid(), 11)", "signal SIGSEGV"),
    ],
)
def test_a_program_that_fails(source: str, ended: str, tmp_path: Path) -> None:
    bad, good = arm(tmp_path, "bad", source), arm(tmp_path, "good", "pass")
    for old, new in ((bad, good), (good, bad)):
        with pytest.raises(trial.ProgramFailed, match=f"bad.*: ended with {ended}") as caught:
            trial.run(old, new, pairs=2)
        assert ("ZeroDivisionError" in caught.value.stderr_tail) == (source == "1 / 0")


def test_each_run_reads_the_same_input(tmp_path: Path) -> None:
    stdin = tmp_path / "input"
    stdin.write_text("words\n" * 1000)
    one = arm(tmp_path, "one", "print(len(sys.stdin.read())); work(0.05)")
    result = trial.run(one, one, pairs=2, stdin=stdin)
    assert (result.output, result.output_bytes) == ("same", len("6000\n"))


SERVER = """
import http.server
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        work(time.process_time() + 0.05)
        self.send_response(200); self.end_headers(); self.wfile.write(b"ok")
    def log_message(self, *_): pass
server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
with open(sys.argv[1], "w") as file: file.write(str(server.server_port))
server.serve_forever()
"""

LOAD = """
import os, sys, urllib.request
while not (os.path.exists(sys.argv[1]) and (port := open(sys.argv[1]).read())): pass
for _ in range(3): urllib.request.urlopen(f"http://127.0.0.1:{port}/").read()
os.remove(sys.argv[1])
"""


def test_a_server_under_load(tmp_path: Path) -> None:
    port = tmp_path / "port"
    server = arm(tmp_path, "server", SERVER, str(port))
    (tmp_path / "load.py").write_text(LOAD)
    load = f"{sys.executable} {tmp_path / 'load.py'} {port}"
    result = trial.run(server, server, pairs=2, load=load)
    assert result.order == "one after the other"
    assert result.old.cpu_seconds > 0.15


PORT_SERVER = """
import http.server
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        work(time.process_time() + 0.05 * float(sys.argv[2]))
        self.send_response(200); self.end_headers(); self.wfile.write(b"ok")
    def log_message(self, *_): pass
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""

PORT_LOAD = """
import os, sys, time, urllib.request
print(sys.argv[1], *sorted(os.sched_getaffinity(0)), file=open(sys.argv[2], "a"))
done = 0
while done < 6:
    try: urllib.request.urlopen(f"http://127.0.0.1:{sys.argv[1]}/").read(); done += 1
    except OSError: time.sleep(0.02)
"""


def test_servers_with_a_port_of_their_own_take_turns_and_so_do_their_loads(tmp_path: Path) -> None:
    old = arm(tmp_path, "old", PORT_SERVER, "{port}", "1.0")
    new = arm(tmp_path, "new", PORT_SERVER, "{port}", "0.5")
    (tmp_path / "load.py").write_text(PORT_LOAD)
    seen = tmp_path / "seen"
    load = f"{sys.executable} {tmp_path / 'load.py'} {{port}} {seen}"
    result = trial.run(old, new, pairs=3, load=load)
    assert result.order == "in turns"
    assert result.gain.value == pytest.approx(0.4, abs=0.15)  # starting up is alike
    places = [line.split() for line in seen.read_text().splitlines()]
    assert len(places) == 2 * (1 + 3)
    ports = [place[0] for place in places]
    assert all(a != b for a, b in zip(ports[2::2], ports[3::2], strict=True))
    processors = os.sched_getaffinity(0)
    if len(processors) > 1:  # the servers have the last one
        assert all(str(max(processors)) not in place[1:] for place in places[2:])


def test_a_server_that_does_not_end_when_it_is_asked_is_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trial_processes, "GRACE_SECONDS", 0.2)
    server = arm(
        tmp_path,
        "server",
        "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)\nwhile True: time.sleep(1)",
    )
    result = trial.run(server, server, pairs=2, load="sleep 0.3")
    assert result.pairs == 2


def test_a_load_that_fails(tmp_path: Path) -> None:
    server = arm(tmp_path, "server", "import signal; signal.pause()")
    with pytest.raises(PoolwiseError, match=r"--load .*: failed with exit code 7 \(no answer\)"):
        trial.run(server, server, pairs=2, load="echo no answer >&2; exit 7")


@pytest.mark.parametrize(
    ("low", "high", "answer"),
    [
        (0.001, 0.002, "proven"),
        (0.1, 0.2, "proven"),
        (-0.2, -0.1, "disproven"),
        (-0.01, 0.01, "disproven"),
        (-0.02, 0.005, "undecided"),
        (-math.inf, math.inf, "undecided"),
    ],
)
def test_verdict(low: float, high: float, answer: str) -> None:
    assert trial.verdict(Interval((low + high) / 2 if high < 1 else 0, low, high)) == answer
