"""What sampling costs a program: poolwise beside other memory profilers and a bare run.

    python benchmarks/overhead.py [--quick] [--turns N] [--arms …] [--only …] [--json FILE]

Twenty benchmarks of pyperformance of every kind, and ten that allocate heavily; both lists were
named before anything was measured (in the second logging took the place of pickle_pure_python,
which refuses to run where memray has imported pickle). Each run is a fresh process with a fixed
number of loops, and the arms take turns. CPU time (user and system), peak resident memory and page
faults are those of the whole process, start-up, imports and writing the recording included, and of
its children, set beside the bare run of the same turn. The start-up of an empty program is measured
as well, and the mean given with and without it.

With `--json FILE` every finished turn is kept, and the next call goes on from there. The packages
that the benchmarks use (as pyperformance pins them) are installed once into build/.
"""

from __future__ import annotations

import argparse
import os
import re
import signal
import subprocess
import sys
import sysconfig
import tempfile
import zlib
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

from overhead_table import BARE, START_UP, Results, Run, Turn, Unusable, load, save, tables

from poolwise.advise.calibrate import child_environment, machine
from poolwise.program.launch import Instructions, Program, command_line

HERE = Path(__file__).resolve().parent
BUILD = HERE.parent / "build"
EVERY_KIND = {  # script and arguments
    "asyncio_tcp": ("asyncio_tcp",),  # network
    "chaos": ("chaos",),  # small classes of floats
    "crypto_pyaes": ("crypto_pyaes",),  # integers, byte by byte
    "deltablue": ("deltablue",),  # methods, lists of objects
    "django_template": ("django_template",),  # templates
    "fannkuch": ("fannkuch",),  # a list in place: next to no allocation
    "gc_traversal": ("gc_traversal",),  # the garbage collector
    "go": ("go",),  # a game's search
    "json_dumps": ("json_dumps",),  # serialisation, part Python
    "mdp": ("mdp",),  # dicts and tuples
    "nbody": ("nbody",),  # floats
    "pathlib": ("pathlib",),  # files
    "pickle": ("pickle", "pickle"),  # serialisation, in C
    "pprint": ("pprint",),  # text
    "pyflate": ("pyflate",),  # bytes, bit by bit
    "raytrace": ("raytrace",),  # small objects by the million
    "regex_compile": ("regex_compile",),  # a compiler
    "sqlalchemy_declarative": ("sqlalchemy_declarative",),  # an object-relational mapper
    "sqlite_synth": ("sqlite_synth",),  # a C library that calls Python
    "telco": ("telco",),  # decimals
}
ALLOCATION_HEAVY = {
    "async_tree": ("async_tree", "none"),
    "comprehensions": ("comprehensions",),
    "deepcopy": ("deepcopy",),
    "docutils": ("docutils",),
    "html5lib": ("html5lib",),
    "logging_format": ("logging", "format"),
    "sqlglot_v2_parse": ("sqlglot_v2", "parse"),
    "sympy_expand": ("sympy", "expand"),
    "tomli_loads": ("tomli_loads",),
    "xml_etree_process": ("xml_etree", "process"),
}
BENCHMARKS = EVERY_KIND | ALLOCATION_HEAVY
GROUPS = {"every kind": tuple(EVERY_KIND), "allocation-heavy": tuple(ALLOCATION_HEAVY)}
QUICK = ("nbody", "deepcopy", "tomli_loads")
RUN_SECONDS = 2.0  # of a bare run, about, over its start-up
TURNS = 6
LONGEST_SECONDS = 600.0  # of any run
PEERS = ("memray", "ddtrace", "scalene")  # packages

# An arm is what stands between the interpreter and the script; DIR is a fresh directory.
Prefix = Callable[[list[str], str], list[str]]


def bare(words: list[str], _: str) -> list[str]:
    return [sys.executable, *words]


def poolwise(words: list[str], directory: str) -> list[str]:
    program = Program(words[0], tuple(words[1:]))
    return command_line(program, Instructions(profile={"dir": directory}))


def counting(words: list[str], directory: str) -> list[str]:
    return [sys.executable, str(HERE / "under.py"), "counting", directory, *words]


def tracemalloc(words: list[str], _: str) -> list[str]:
    return [sys.executable, "-X", "tracemalloc=1", *words]


def memray(words: list[str], directory: str, *options: str) -> list[str]:
    recording = os.path.join(directory, "memray.bin")
    return [sys.executable, "-m", "memray", "run", "-q", *options, "-o", recording, *words]


def memray_python(words: list[str], directory: str) -> list[str]:
    return memray(words, directory, "--trace-python-allocators")


def ddtrace(words: list[str], directory: str) -> list[str]:
    return [sys.executable, str(HERE / "under.py"), "ddtrace", directory, *words]


def scalene(words: list[str], directory: str) -> list[str]:
    result = os.path.join(directory, "scalene.json")
    script, *rest = words
    return [sys.executable, "-m", "scalene", "run", "-o", result, script, "---", *rest]


ARMS: dict[str, Prefix] = {
    "counting hook": counting,
    "poolwise": poolwise,
    "tracemalloc": tracemalloc,
    "memray": memray,
    "memray with objects": memray_python,
    "ddtrace": ddtrace,
    "scalene": scalene,
}


class Failed(Exception):
    """A run did not end well; the message holds its last words."""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--json", metavar="FILE", type=Path, help="keep the figures in FILE, and go on from there"
    )
    parser.add_argument("--quick", action="store_true", help="three short benchmarks, three turns")
    parser.add_argument("--turns", type=int, help=f"runs of each arm (default {TURNS}; quick 3)")
    parser.add_argument(
        "--arms", default=",".join(ARMS), help="which of %(default)s; bare is always run"
    )
    parser.add_argument(
        "--only", metavar="NAMES", help="these benchmarks alone, with commas between them"
    )
    ns = parser.parse_args()
    arms = chosen(parser, "--arms", ns.arms, tuple(ARMS))
    names = QUICK if ns.quick else tuple(BENCHMARKS)
    if ns.only:
        names = chosen(parser, "--only", ns.only, tuple(BENCHMARKS))
    seconds = RUN_SECONDS / 4 if ns.quick else RUN_SECONDS
    conditions = {
        "arms": [BARE, *arms],
        "run_seconds": seconds,
        "machine": machine(),
        "versions": {name: version_of(name) for name in ("pyperformance", "pyperf", *PEERS)},
    }
    try:
        results = load(ns.json, conditions) if ns.json else Results(conditions)
        environment = environment_of_runs()
        measure(results, (START_UP, *names), ns.turns or (3 if ns.quick else TURNS), seconds,
                environment, ns.json)  # fmt: skip
    except Unusable as error:
        sys.exit(f"overhead: {error}")
    except KeyboardInterrupt:
        if not any(results.turns.values()):
            sys.exit("overhead: interrupted before the first turn was over")
        say("interrupted: what was measured so far is shown")
    print(tables(results, GROUPS))


def chosen(
    parser: argparse.ArgumentParser, option: str, text: str, all_names: tuple[str, ...]
) -> tuple[str, ...]:
    """Those that are named, in our own order."""
    wanted = text.split(",")
    for name in wanted:
        if name not in all_names:
            parser.error(f"{option}: there is no {name!r}; name some of {', '.join(all_names)}")
    return tuple(name for name in all_names if name in wanted)


def measure(
    results: Results,
    names: tuple[str, ...],
    turns: int,
    seconds: float,
    environment: dict[str, str],
    path: Path | None,
) -> None:
    """All turns that are missing yet; each is kept when it is over."""
    arms = list(results.conditions["arms"])
    for turn in range(turns):
        for name in names:
            failed = results.failed.get(name, {})
            done = results.turns.setdefault(name, [])
            if len(done) > turn or BARE in failed:
                continue
            say(f"turn {turn + 1} of {turns}: {name} …")
            if name not in results.loops:
                try:
                    results.loops[name] = loops(name, seconds, environment)
                except Failed as error:
                    failed[BARE] = str(error)
            order = arms[turn % len(arms) :] + arms[: turn % len(arms)]
            done.append(one_turn(name, results.loops.get(name, 1), order, failed, environment))
            if failed:
                results.failed[name] = failed
            if path is not None:
                save(path, results, GROUPS)


def one_turn(
    name: str, count: int, arms: list[str], failed: dict[str, str], environment: dict[str, str]
) -> Turn:
    """One run of each arm; an arm that cannot is named in `failed`, and not tried again."""
    turn: Turn = {}
    for arm in arms:
        if arm in failed or BARE in failed:
            continue
        try:
            turn[arm] = run(ARMS.get(arm, bare), script(name, count), environment)
        except Failed as error:
            failed[arm] = str(error)
    return turn


def environment_of_runs() -> dict[str, str]:
    BUILD.mkdir(exist_ok=True)
    environment = child_environment()
    environment["PYTHONPATH"] = os.pathsep.join([str(packages()), str(counting_hook())])
    return environment


def packages() -> Path:
    """The directory with the benchmarks' packages, made once for this Python and these pins."""
    scripts = {words[0] for words in BENCHMARKS.values()}
    files = sorted(
        path for one in scripts if (path := benchmark_folder(one) / "requirements.txt").exists()
    )
    pins = zlib.crc32("".join(path.read_text() for path in files).encode())
    folder = BUILD / "overhead-packages-{}.{}-{:08x}".format(*sys.version_info[:2], pins)
    if not folder.is_dir():
        say("installing the packages that the benchmarks use, once …")
        with tempfile.TemporaryDirectory(dir=BUILD) as partial:
            wanted = [word for path in files for word in ("-r", str(path))]
            made = os.path.join(partial, "made")
            subprocess.run(
                [sys.executable, "-m", "pip", "install", "-q", "--target", made, *wanted],
                check=True,
            )
            os.rename(made, folder)
    return folder


def counting_hook() -> Path:
    """The directory with counting.c, built once for this Python. Empty without a compiler."""
    source = HERE / "counting.c"
    name = f"overhead-counting-{sys.implementation.cache_tag}-{zlib.crc32(source.read_bytes()):08x}"
    folder = BUILD / name
    if not folder.is_dir():
        with tempfile.TemporaryDirectory(dir=BUILD) as partial:
            made = os.path.join(partial, "made")
            os.mkdir(made)
            suffix = sysconfig.get_config_var("EXT_SUFFIX")
            include = sysconfig.get_path("include")
            command = ["cc", "-O2", "-shared", "-fPIC", "-I", include, str(source)]
            try:
                subprocess.run([*command, "-o", f"{made}/counting{suffix}"], check=True)
            except (OSError, subprocess.CalledProcessError) as error:
                say(f"the counting hook could not be built: {error}")
                return folder
            os.rename(made, folder)
    return folder


def benchmark_folder(script: str) -> Path:
    spec = find_spec("pyperformance")
    if spec is None or spec.origin is None:
        sys.exit("pyperformance is not here: install the dependency group 'bench'")
    return Path(spec.origin).parent / "data-files" / "benchmarks" / f"bm_{script}"


def script(name: str, loops: int) -> list[str]:
    """The benchmark as the process that pyperf would start to do the work itself."""
    if name == START_UP:
        empty = BUILD / "overhead-empty.py"
        empty.touch()
        return [str(empty)]
    folder, *arguments = BENCHMARKS[name]
    # --worker: no further processes; one value of a fixed number of loops, nothing to warm up.
    worker = ["--worker", "-l", str(loops), "-n", "1", "-w", "0"]
    return [str(benchmark_folder(folder) / "run_benchmark.py"), *worker, *arguments]


def loops(name: str, seconds: float, environment: dict[str, str]) -> int:
    """So many that a bare run takes about so long over its start-up."""
    if name == START_UP:
        return 1
    one, count = run(bare, script(name, 1), environment).cpu_seconds, 1
    while one < seconds:
        count *= 4
        more = run(bare, script(name, count), environment).cpu_seconds - one
        if more > seconds / 8:
            return max(1, round(seconds / more * (count - 1)))
    return 1


# The kernel counts the memory of the process that starts another one as the other's peak: so a
# small one stands between us and what is measured.
STARTER = """
import os, sys
null = (os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)
pid = os.posix_spawn(sys.argv[1], sys.argv[1:], os.environ, file_actions=[null])
_, status, usage = os.wait4(pid, 0)
code = os.waitstatus_to_exitcode(status)
print(code, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024, usage.ru_minflt)
"""


def run(prefix: Prefix, words: list[str], environment: dict[str, str]) -> Run:
    """One process with its children. Raises Failed with its last words."""
    with tempfile.TemporaryDirectory() as directory:
        starter = [sys.executable, "-I", "-S", "-c", STARTER, *prefix(words, directory)]
        process = subprocess.Popen(
            starter, cwd=directory, env=environment, start_new_session=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        try:
            answer, said = process.communicate(timeout=LONGEST_SECONDS)
        except subprocess.TimeoutExpired:
            raise Failed(f"it had not ended after {LONGEST_SECONDS:g} s") from None
        finally:
            if process.returncode is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.communicate()
    code, cpu_seconds, peak_bytes, page_faults = answer.split()
    if code != "0":
        raise Failed(last_words(said) or f"exit code {code}")
    return Run(float(cpu_seconds), int(peak_bytes), int(page_faults))


def last_words(said: str) -> str:
    """The last exception that is named, or else the last line: a profiler may have one, too."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    named = [line for line in lines if re.match(r"[\w.]+(Error|Exception)\b", line)]
    return (named or lines or [""])[-1]


def version_of(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def say(sentence: str) -> None:
    print(f"overhead: {sentence}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
