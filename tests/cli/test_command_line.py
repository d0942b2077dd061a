"""poolwise's own words and the program's, split where they part; errors in one sentence."""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

import pytest

from poolwise.cli import _program, main


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(allow_abbrev=False)
    made.add_argument("--json")
    made.add_argument("--against")
    made.add_argument("--check", action="store_true")
    _program.add_arguments(made)
    return made


@pytest.mark.parametrize(
    ("line", "own", "program"),
    [
        ("--json o app.py --json z -x", "--json o", "app.py --json z -x"),
        ("--json=o app.py -- -m --", "--json=o", "app.py -- -m --"),
        ("--check app.py", "--check", "app.py"),
        ("-m http.server --bind 1 -m", "-m", "http.server --bind 1 -m"),
        ("--check -m http.server -- x", "--check -m", "http.server -- x"),
        ("--json o -- -odd.py -x", "--json o", "-odd.py -x"),
        ("app.py --against new.py --pairs 3", "--against new.py", "app.py --pairs 3"),
        ("app.py --against=new.py x", "--against=new.py", "app.py x"),
        ("--against new.py app.py --against x", "--against new.py", "app.py --against x"),
        ("app.py x --against new.py", "", "app.py x --against new.py"),
        ("app.py --json z", "", "app.py --json z"),
        ("--unknown app.py", "--unknown", "app.py"),
        ("--json", "--json", ""),
        ("", "", ""),
        ("-", "", "-"),
    ],
)
def test_split(line: str, own: str, program: str) -> None:
    assert _program.split(line.split(), parser(), ("--against",)) == (own.split(), program.split())


def poolwise(*words: str, folder: Path) -> tuple[int, str, str]:
    done = subprocess.run(
        [sys.executable, "-m", "poolwise", *words],
        cwd=folder,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
    )
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("run --with settings missing.py", "poolwise: missing.py: there is no such file"),
        ("run --with pooled app.py", "poolwise: --with pooled: there is no remedy 'pooled'"),
        ("try --with settings -m no.such", "poolwise: -m no.such: no module of that name"),
        ("try app.py --against no.patch", "poolwise: no.patch: cannot be read"),
        ("try app.py --against no.py", "poolwise: no.py: there is no such file"),
        ("try --with settings --json no/x app.py", "poolwise: --json no/x: cannot be written"),
        ("try --with settings --predicted no app.py", "poolwise: --predicted no: cannot be read"),
        (
            "try --with settings --predicted app.py app.py",
            "poolwise: --predicted app.py: is no report of poolwise advise",
        ),
        ("try --with settings --pairs 1 app.py", "'1' is no number of pairs; give 2 or more"),
        ("run --with settings", "no program is named"),
        ("run app.py", "the following arguments are required: --with"),
        ("walk app.py", "there is no command 'walk'; use one of"),
    ],
)
def test_what_cannot_be_used(line: str, sentence: str, tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text("print('ran')")
    code, output, errors = poolwise(*line.split(), folder=tmp_path)
    assert (code, output) == (2, "")
    assert sentence in errors.strip().splitlines()[-1]
    assert "Traceback" not in errors


@pytest.mark.parametrize("command", ["run", "try"])
def test_help_has_two_examples(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([command, "--help"])
    assert ended.value.code == 0
    text = capsys.readouterr().out
    assert text.count(f"\n  poolwise {command} ") == 2


def test_run_is_the_program(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(
        "import gc, os, sys\n"
        "mine = os.getpid() == int(sys.stdin.readline())\n"
        "print(sys.argv, gc.get_threshold()[0], mine, flush=True)\n"
        "os.kill(os.getpid(), 15)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-m", "poolwise", "run", "--with", "settings", "app.py", "--", "-m"],
        cwd=tmp_path,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        bufsize=1,
    )
    assert process.stdin is not None
    process.stdin.write(f"{process.pid}\n")
    output, _ = process.communicate(timeout=60)
    assert output == "['app.py', '--', '-m'] 50000 True\n"
    assert process.returncode == -15
