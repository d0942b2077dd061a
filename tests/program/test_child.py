"""A program under `poolwise run` is the program under Python: output, exit, what it can see."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import textwrap
import zipfile
from pathlib import Path

import pytest

from poolwise.program import Instructions, Program
from poolwise.program.launch import command_line

Ended = tuple[int, str, str]


def run(command: list[str], folder: Path, stdin: str = "") -> Ended:
    done = subprocess.run(
        command, cwd=folder, input=stdin, capture_output=True, text=True, timeout=120
    )
    return done.returncode, re.sub(" at 0x[0-9a-f]+", "", done.stdout), done.stderr


def bare_and_ours(
    folder: Path, *words: str, as_module: bool = False, stdin: str = ""
) -> tuple[Ended, Ended]:
    """The same words under Python and under our child."""
    program = Program(words[0], tuple(words[1:]), as_module)
    bare = run([sys.executable, *program.command()], folder, stdin)
    return bare, run(command_line(program, Instructions()), folder, stdin)


def write(folder: Path, source: str, name: str = "app.py") -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(textwrap.dedent(source))
    return path


PROGRAMS = {
    "names": """
        import sys
        print(__name__, __file__, __spec__, __package__, __cached__, type(__loader__).__name__)
        print(sys.argv, sys.path[0], sorted(globals()))
        print(sys.modules["__main__"].__dict__ is globals(), __builtins__)
    """,
    "modules": """
        import sys
        print(sorted(sys.modules))
    """,
    "exception": """
        def f():
            raise ValueError("no")
        f()
    """,
    "chained": """
        try:
            1 / 0
        except ZeroDivisionError:
            {}["key"]
    """,
    "syntax": "def f(:\n    pass\n",
    "exit code": "import sys; sys.exit(7)",
    "exit text": "import sys; sys.exit('bye')",
    "exit none": "raise SystemExit",
    "hard exit": "import os; print('lost'); os._exit(9)",
    "keyboard interrupt": "raise KeyboardInterrupt",
    "killed": "import os, signal; os.kill(os.getpid(), signal.SIGTERM)",
    "own hook": """
        import sys, traceback
        def hook(kind, value, tb):
            print(kind, value, traceback.format_tb(tb), value.__traceback__ is tb)
        sys.excepthook = hook
        raise ValueError("no")
    """,
    "hook at exit": """
        import atexit, sys
        atexit.register(lambda: print(sys.excepthook is sys.__excepthook__, sys.last_value))
        raise ValueError("no")
    """,
    "atexit and thread": """
        import atexit, threading
        def wait_for_main():
            threading.main_thread().join()
            print("thread")
        atexit.register(print, "atexit")
        threading.Thread(target=wait_for_main).start()
        print("main ends")
    """,
    "thread raises": """
        import threading
        thread = threading.Thread(target=lambda: 1 / 0, name="t")
        thread.start(); thread.join()
    """,
    "stdin": "import sys; print(sys.stdin.read().upper()); print(open(0).fileno())",
    "pickle": """
        import pickle
        class A:
            x = 1
        print(pickle.loads(pickle.dumps(A())).x, A.__module__)
    """,
    "processes": """
        import multiprocessing
        class Point:
            def __init__(self, x): self.x = x
        def twice(point): return Point(2 * point.x)
        if __name__ == "__main__":
            for method in ("fork", "spawn", "forkserver"):
                with multiprocessing.get_context(method).Pool(2) as pool:
                    print(method, [p.x for p in pool.map(twice, map(Point, range(4)))])
    """,
    "exec": """
        import os, sys
        if len(sys.argv) == 1:
            sys.stdout.flush()
            os.execv(sys.executable, [sys.executable, *sys.argv, "again"])
        print(sys.argv)
    """,
    "fork": """
        import os, sys
        if os.fork() == 0:
            print("child", flush=True); sys.exit(5)
        print(os.waitstatus_to_exitcode(os.wait()[1]))
    """,
    "tracemalloc": """
        import tracemalloc
        tracemalloc.start(); x = [1] * 1000; tracemalloc.stop(); print("fine")
    """,
    "inspect": """
        import inspect, warnings
        def f(): return 1
        print(inspect.getsource(f))
        warnings.warn("careful")
    """,
    "annotations": "x: int = 1\nprint(__annotations__)",
    "encoding": "# -*- coding: latin-1 -*-\nprint('ok')",
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_as_under_python(name: str, tmp_path: Path) -> None:
    write(tmp_path, PROGRAMS[name])
    bare, ours = bare_and_ours(tmp_path, "app.py", stdin="some input\n")
    assert ours == bare


@pytest.mark.parametrize("name", ["app.py", "./app.py", "sub/../app.py", "link.py"])
def test_paths(name: str, tmp_path: Path) -> None:
    write(tmp_path, PROGRAMS["names"], "real/app.py")
    (tmp_path / "sub").mkdir()
    (tmp_path / "app.py").symlink_to("real/app.py")
    (tmp_path / "link.py").symlink_to("real/app.py")
    bare, ours = bare_and_ours(tmp_path, name)
    assert ours == bare


def test_program_s_options_and_double_dash(tmp_path: Path) -> None:
    write(tmp_path, PROGRAMS["names"])
    bare, ours = bare_and_ours(tmp_path, "app.py", "--with", "x", "--", "-m", "--", "ünï\udcff")
    assert ours == bare


@pytest.mark.parametrize("words", ["pkg", "pkg.sub", "pkg boom", "pkg.missing", "nope"])
def test_modules(words: str, tmp_path: Path) -> None:
    source = textwrap.dedent(PROGRAMS["names"]) + "from . import sub\nlen(sys.argv) > 1 and 1 / 0\n"
    write(tmp_path, "", "pkg/__init__.py")
    write(tmp_path, source, "pkg/__main__.py")
    write(tmp_path, "import sys; print(__name__, __package__, __spec__.name)", "pkg/sub.py")
    bare, ours = bare_and_ours(tmp_path, *words.split(), as_module=True)
    assert ours == bare


@pytest.mark.parametrize("kind", ["directory", "zip"])
def test_directories_and_zip_files(kind: str, tmp_path: Path) -> None:
    source = textwrap.dedent(PROGRAMS["names"]) + "import helper\n1 / 0\n"
    if kind == "zip":
        with zipfile.ZipFile(tmp_path / "app", "w") as archive:
            archive.writestr("__main__.py", source)
            archive.writestr("helper.py", "print('helps')")
    else:
        write(tmp_path, source, "app/__main__.py")
        write(tmp_path, "print('helps')", "app/helper.py")
    bare, ours = bare_and_ours(tmp_path, "app")
    assert ours == bare


def test_compiled_file(tmp_path: Path) -> None:
    import py_compile

    source = write(tmp_path, "print(__name__, __file__)")
    py_compile.compile(str(source), cfile=str(tmp_path / "app.pyc"))
    bare, ours = bare_and_ours(tmp_path, "app.pyc")
    assert ours == bare


def test_nothing_is_imported_before_the_program_even_for_settings(tmp_path: Path) -> None:
    write(tmp_path, "import sys; print(sorted(sys.modules))")
    program = Program("app.py")
    bare = run([sys.executable, "app.py"], tmp_path)
    settings = Instructions(settings=("malloc", "gc"))
    _, modules, errors = run(command_line(program, settings), tmp_path)
    assert errors == ""
    assert set(eval(modules)) - set(eval(bare[1])) <= {"gc"}


def test_interrupt_from_outside_ends_it_as_under_python(tmp_path: Path) -> None:
    # In short sleeps: an interrupt just before a long one would wait for its end.
    write(tmp_path, "import time\nwhile not print('ready', flush=True): time.sleep(0.05)")
    ends = []
    for command in (
        [sys.executable, "app.py"],
        command_line(Program("app.py"), Instructions()),
    ):
        process = subprocess.Popen(
            command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
        ends.append((process.returncode, re.sub(" +[~^]+\n", "", errors)))
    assert ends[0] == ends[1]
    assert ends[1][0] == -signal.SIGINT


def overlaid(folder: Path, program: str, overlay: dict[str, str]) -> Ended:
    paths = {str(folder / old): str(folder / new) for old, new in overlay.items()}
    return run(command_line(Program(program), Instructions(overlay=paths)), folder)


def test_overlay_replaces_the_script_under_its_own_name(tmp_path: Path) -> None:
    write(tmp_path, "print('old')")
    write(tmp_path, "print('new', __file__)\n1 / 0\n", "patched")
    code, output, errors = overlaid(tmp_path, "app.py", {"app.py": "patched"})
    assert (code, output) == (1, f"new {tmp_path / 'app.py'}\n")
    assert f'File "{tmp_path / "app.py"}", line 2' in errors


def test_overlay_replaces_a_module_past_its_cache_and_leaves_the_cache_alone(
    tmp_path: Path,
) -> None:
    write(tmp_path, "import helper; print(helper.word, helper.__file__)")
    write(tmp_path, "word = 'old'", "helper.py")
    write(tmp_path, "word = 'new'", "patched")
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    cached = [sys.executable, "-c", "import helper"]
    subprocess.run(cached, cwd=tmp_path, env=environment, check=True)
    caches = {path: path.read_bytes() for path in tmp_path.rglob("*.pyc")}
    assert caches
    assert overlaid(tmp_path, "app.py", {"helper.py": "patched"})[1].startswith("new ")
    assert overlaid(tmp_path, "app.py", {"helper.py": "helper.py"})[1].startswith("old ")
    assert {path: path.read_bytes() for path in tmp_path.rglob("*.pyc")} == caches
