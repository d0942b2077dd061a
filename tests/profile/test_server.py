"""A running program's profiles over HTTP: as Go has them, of what was recorded so far."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import textwrap
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import profile_proto
import pytest
from profile_proto import labels, lines, needs_pprof, parse, real_pprof, sums
from sampled_programs import sampled

from poolwise.errors import UsageError
from poolwise.profile import child, follow, pprof, recording, serve, totals
from poolwise.profile.child import LOG_NAME
from poolwise.profile.server import CannotServe, Server


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """One for many recordings, one after the other."""
    with serve() as running:
        yield running


def get(server: Server, path: str) -> tuple[int, bytes]:
    """(status, body)"""
    try:
        with urllib.request.urlopen(server.url + path, timeout=60) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


def checked(answer: tuple[int, bytes]) -> Any:
    """The profile of an answer, sound. Outside of what is recorded exactly, or that is all there
    is to see."""
    status, body = answer
    assert status == 200, body
    profile = parse(body)
    profile_proto.check(profile)
    return profile


def of_line(profile: Any, marker: str) -> dict[str, int]:
    """The sums over the rows whose innermost frame is on the line of this file marked so."""
    text = Path(__file__).read_text().splitlines()
    (number,) = [n for n, line in enumerate(text, 1) if line.endswith(f"# {marker}")]
    names = [name for name, _ in profile_proto.columns(profile)]
    found = dict.fromkeys(names, 0)
    for sample in profile.sample:
        if lines(profile, sample)[0] == (__file__, number):
            for name, value in zip(names, sample.value, strict=True):
                found[name] += value
    return found


def test_what_was_recorded_so_far(server: Server, tmp_path: Path) -> None:
    with sampled(tmp_path, exact=True):
        held = [bytearray(5000) for _ in range(100)]  # held
        answers = [get(server, "heap")]
        held.clear()
        answers += [get(server, "heap"), get(server, "lifetime")]
    first, second, lifetime = [of_line(checked(answer), "held") for answer in answers]
    assert first["alloc_objects"] >= first["inuse_objects"] >= 200  # object and block
    assert first["inuse_space"] >= 100 * 5000
    assert second["alloc_objects"] == first["alloc_objects"]
    assert second["inuse_space"] < 5000
    assert lifetime["freed_objects"] >= 200
    assert lifetime["heaptime_space"] > 0


def test_types_of_what_is_alive(server: Server, tmp_path: Path) -> None:
    with sampled(tmp_path, exact=True):
        held = [bytes(5000) for _ in range(10)]
        answer = get(server, "heap")
        assert len(held) == 10
    profile = checked(answer)
    rows = [s for s in profile.sample if lines(profile, s)[0][0] == __file__]
    assert {labels(profile, s).get("type") for s in rows if s.value[2] >= 10} >= {"bytes"}


def test_a_block_that_grows_is_in_use_as_it_is_now(server: Server, tmp_path: Path) -> None:
    with sampled(tmp_path, exact=True):
        grown = bytearray(10_000)
        for _ in range(50):
            grown += bytes(10_000)
        answer = get(server, "heap")
    profile = checked(answer)
    held = sum(s.value[3] for s in profile.sample if lines(profile, s)[0][0] == __file__)
    assert held >= len(grown) == 510_000


def test_allocs_is_heap_with_its_allocations_first(server: Server, tmp_path: Path) -> None:
    with sampled(tmp_path):
        answers = [get(server, "heap"), get(server, "allocs")]
    for answer, default in zip(answers, ["inuse_space", "alloc_space"], strict=True):
        profile = checked(answer)
        assert profile_proto.columns(profile) == list(pprof.HEAP.columns)
        assert profile.string_table[profile.default_sample_type] == default


def ask_while(server: Server, path: str, happens: Callable[[], None]) -> tuple[int, bytes]:
    """The answer to a request, while something happens after its first look."""
    answers: list[tuple[int, bytes]] = []
    before = server._http.looks
    asking = threading.Thread(target=lambda: answers.append(get(server, path)))
    asking.start()
    while server._http.looks == before:
        time.sleep(0.001)
    happens()
    asking.join(60)
    return answers[0]


def test_the_time_of_a_profile(server: Server, tmp_path: Path) -> None:
    """When it was taken; a duration only if it is of so many seconds (Parca goes by that)."""
    began_ns = time.time_ns()
    with sampled(tmp_path):
        whole, delta = checked(get(server, "heap")), checked(get(server, "heap?seconds=1"))
    assert began_ns <= whole.time_nanos <= delta.time_nanos - 1e9
    assert whole.duration_nanos == 0
    assert 1e9 <= delta.duration_nanos <= time.time_ns() - began_ns


def test_the_difference_over_some_seconds(server: Server, tmp_path: Path) -> None:
    held = []

    def turn_over() -> None:
        early.clear()
        for _ in range(50):
            held.append(bytearray(6000))  # within

    with sampled(tmp_path, exact=True):
        early = [bytearray(7000) for _ in range(300)]  # before
        answer = ask_while(server, "heap?seconds=1", turn_over)
    delta = checked(answer)
    assert delta.duration_nanos >= 1e9
    within, before = of_line(delta, "within"), of_line(delta, "before")
    assert within["alloc_objects"] >= within["inuse_objects"] >= 100
    assert within["inuse_space"] >= 50 * 6000
    assert before["alloc_objects"] == 0
    assert before["inuse_objects"] <= -600
    assert before["inuse_space"] <= -300 * 7000


def test_two_looks_differ_by_what_came_between(tmp_path: Path) -> None:
    follower = follow.Follower()
    with sampled(tmp_path, mean_bytes=2048):
        follower.catch_up()
        old = follower.totals.rows(totals.heap_columns)
        held = [bytes(3000) for _ in range(2000)]
        follower.catch_up()
        new = follower.totals.rows(totals.heap_columns)
        assert len(held) == 2000
    delta = totals.difference(new, old)
    for column in range(4):
        assert sum(row[column] for row in delta.values()) == pytest.approx(
            sum(row[column] for row in new.values()) - sum(row[column] for row in old.values())
        )
    assert totals.difference(new, new) == {}
    assert totals.difference({}, old) == {k: tuple(-v for v in row) for k, row in old.items()}


FOLLOWED = """
    import os, sys, threading
    from poolwise import _core
    from poolwise.profile import child, follow, recording, totals
    from poolwise.profile.recording import THINNED

    child.start({"dir": sys.argv[1], "mean_bytes": 300, "per_second": 1e9})
    follower = follow.Follower()

    def look():
        _core.sampler_leave_thread()
        follower.catch_up()

    kept = []
    for turn in range(3):
        for i in range(40_000):
            kept.append(bytes(50))
            if i % 3 == 0:
                kept.pop()
        growing = [bytearray(20) for _ in range(200)]
        for grown in growing:
            grown += bytes(900)
        looking = threading.Thread(target=look)
        looking.start()
        looking.join()
    child.stop()
    log = follower._log
    for chunk in recording.chunks(log, os.fstat(log.fileno()).st_size):
        if chunk.kind == recording.BIRTHS:
            follower.totals.add_births(recording.births_of(chunk.payload))
        elif chunk.kind == recording.DEATHS:
            follower.totals.add_deaths(recording.deaths_of(chunk.payload))
    whole = recording.read(sys.argv[1])
    assert whole.thinnings, "the table was never full"
    assert any(d.size > whole.births[n].size for n, d in whole.deaths.items())
    for columns in (totals.heap_columns, totals.lifetime_columns):
        ours, theirs = follower.totals.rows(columns), totals.of(whole).rows(columns)
        for key in ours.keys() | theirs.keys():
            for a, b in zip(ours.get(key, [0] * 9), theirs.get(key, [0] * 9)):
                assert abs(a - b) < 1e-3 + 1e-9 * abs(b), (key, ours.get(key), theirs.get(key))
    print(len(theirs), len(whole.thinnings))
"""


def test_followed_and_read_at_once_are_the_same(tmp_path: Path) -> None:
    """Through looks in between, thinning, and blocks that grow."""
    code = textwrap.dedent(FOLLOWED)
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr


def test_a_recording_that_was_looked_at_is_read_as_any_other(
    server: Server, tmp_path: Path
) -> None:
    with sampled(tmp_path, exact=True):
        held = [bytearray(5000) for _ in range(100)]
        get(server, "heap")
        held.clear()
        get(server, "heap")
    found = recording.read(tmp_path)
    assert found.summary is not None
    assert found.summary.finished
    assert len(found.births) == found.summary.samples
    assert found.deaths.keys() == set(range(len(found.births)))


def test_serving_is_not_in_the_profile(server: Server, tmp_path: Path) -> None:
    with sampled(tmp_path, exact=True):
        answers = [get(server, "allocs") for _ in range(3)]
    profile = checked(answers[-1])
    files = {profile.string_table[function.filename] for function in profile.function}
    ours = {"follow.py", "totals.py", "pprof.py", "socketserver.py", "server.py"}
    assert not ours & {os.path.basename(file) for file in files}
    # And it makes nothing more to read: the client's own requests are all there is.
    births = len(recording.read(tmp_path).births)
    assert births < 20_000


@needs_pprof
def test_the_real_pprof_asks_for_itself(server: Server, tmp_path: Path) -> None:
    with sampled(tmp_path / "recording", exact=True):
        held = [bytearray(50_000) for _ in range(20)]
        shown = {
            path: real_pprof(tmp_path, "-top", "-lines", f"{server.url}{path}")
            for path in ("heap", "allocs", "lifetime", "heap?seconds=1")
        }
        assert len(held) == 20
    assert "Type: inuse_space" in shown["heap"]
    assert "Type: alloc_space" in shown["allocs"]
    assert "Type: heaptime_space" in shown["lifetime"]
    assert "Type: inuse_space" in shown["heap?seconds=1"]
    for path in ("heap", "allocs", "lifetime"):
        assert "test_the_real_pprof_asks_for_itself" in shown[path]


def test_without_a_recording_a_sentence(server: Server, tmp_path: Path) -> None:
    for path in ("heap", "allocs", "lifetime", "heap?seconds=1"):
        status, body = get(server, path)
        assert status == 409
        assert body.startswith(b"no recording is under way in this process: ")
        assert body.count(b"\n") == 1
    with sampled(tmp_path):
        assert get(server, "heap")[0] == 200
    assert get(server, "heap")[0] == 409


def test_another_recording_starts_from_nothing(server: Server, tmp_path: Path) -> None:
    answers = []
    held = []
    for directory in ("first", "second", "second"):  # the last one writes it anew
        with sampled(tmp_path / directory, exact=True):
            if not held:
                held = [bytearray(5000) for _ in range(100)]  # in the first
            answers.append(get(server, "heap"))
    first, second, third = map(checked, answers)
    assert of_line(first, "in the first")["alloc_objects"] >= 200
    for later in (second, third):
        assert of_line(later, "in the first")["alloc_objects"] == 0
        assert sums(later)["alloc_objects"] > 0


def test_another_recording_within_the_seconds(server: Server, tmp_path: Path) -> None:
    def start_anew() -> None:
        child.stop()
        (tmp_path / "second").mkdir()
        child.start({"dir": str(tmp_path / "second")})

    with sampled(tmp_path / "first"):
        status, sentence = ask_while(server, "heap?seconds=1", start_anew)
    assert status == 409
    assert b"another recording was started" in sentence


@pytest.mark.parametrize("value", ["0", "-1", "1.5", "x", "", "3601", "9" * 5000, "²"])
def test_seconds_that_are_none(server: Server, value: str) -> None:
    status, body = get(server, f"heap?seconds={urllib.request.quote(value)}")
    assert status == 400
    assert body.startswith(b"seconds=")
    assert len(body) < 200


def test_other_pages(server: Server) -> None:
    status, page = get(server, "")
    assert status == 200
    for name in ("heap", "allocs", "lifetime"):
        assert f'href="{name}"'.encode() in page
    with urllib.request.urlopen(server.url.rstrip("/")) as answer:
        assert answer.url == server.url
    status, sentence = get(server, "goroutine")
    assert status == 404
    assert b"/debug/pprof/heap" in sentence


def test_closed_while_a_request_waits(tmp_path: Path) -> None:
    server = serve()
    with sampled(tmp_path):
        status, sentence = ask_while(server, "heap?seconds=3600", server.close)
    assert status == 409
    assert b"the server was closed" in sentence
    server.close()  # again: nothing
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(("127.0.0.1", server.port))


def test_a_port_in_use(server: Server) -> None:
    with pytest.raises(CannotServe) as raised:
        serve(server.port)
    assert str(raised.value) == (
        f"cannot serve on 127.0.0.1 port {server.port} (Address already in use): "
        "name another port, or 0 for any that is free"
    )


@pytest.mark.parametrize("port", [-1, 65536, 10**20])
def test_what_is_no_port(port: int) -> None:
    with pytest.raises(UsageError, match=f"port={port}: a port is between 0 and 65535"):
        serve(port)


def test_an_address_of_nobody_s() -> None:
    with pytest.raises(CannotServe, match=r"cannot serve on 192\.0\.2\.1 port 0"):
        serve(host="192.0.2.1")


def test_loopback_unless_told(server: Server) -> None:
    assert server._http.server_address[0] == "127.0.0.1"


def test_a_forked_child_leaves_the_port_to_its_parent(run_python: Any) -> None:
    """And its own `close` does not wait for a thread that is not there."""
    run_python(
        """
        import os, socket
        from poolwise.profile import serve
        server = serve()
        child_id = os.fork()
        if child_id == 0:
            server.close()
            os._exit(0 if server._http.socket.fileno() == -1 else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child_id, 0)[1]) == 0
        socket.create_connection(("127.0.0.1", server.port)).close()
        """
    )


def test_a_recording_that_cannot_be_written_on(server: Server, tmp_path: Path) -> None:
    """Its descriptor was closed by somebody: the recording is cut short, and says so once."""
    code = """
        import os, sys, urllib.request, urllib.error
        from poolwise.profile import child
        from poolwise.profile import serve
        child.start({"dir": sys.argv[1], "exact": True})
        os.closerange(200, 400)
        with serve() as server:
            try:
                urllib.request.urlopen(server.url + "heap")
            except urllib.error.HTTPError as error:
                print(error.code, error.read().decode())
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("503 ") or done.stdout.startswith("409 ")
    assert "recording" in done.stdout
    assert done.stdout.strip().count("\n") == 0


def test_a_log_that_vanished(server: Server, tmp_path: Path) -> None:
    with sampled(tmp_path):
        (tmp_path / LOG_NAME).unlink()
        status, body = get(server, "heap")
    assert status == 503
    assert b"cannot be read" in body
    assert child.flush() is None
