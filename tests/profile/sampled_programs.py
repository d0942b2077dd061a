"""Programs run under the sampler, and what their recordings say of a marked line."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from poolwise.profile import child, recording, sites
from poolwise.program import Instructions, Program
from poolwise.program.launch import CHILD

# What a bytearray's content has besides; from 3.15 on it is a bytes object.
BYTEARRAY_EXTRA = 33 if sys.version_info >= (3, 15) else 1


@dataclass
class Run:
    """A program that ran under the sampler."""

    file: Path
    directory: Path
    returncode: int
    stdout: str
    stderr: str

    @property
    def recording(self) -> recording.Recording:
        return recording.read(self.directory)

    def sites(self, marker: str, kind: str = "memory") -> list[sites.Site]:
        """The sites of a kind on the line that ends in `# marker`."""
        lines = self.file.read_text(encoding="utf-8").splitlines()
        (number,) = [n for n, line in enumerate(lines, 1) if line.endswith(f"# {marker}")]
        return [
            site
            for site in sites.find(self.recording)
            if (site.file, site.position.line, site.kind) == (str(self.file), number, kind)
        ]

    def site(self, marker: str, kind: str = "memory", *, least: int = 0) -> sites.Site:
        """What was allocated on a line, blocks of `least` bytes and more, as one site."""
        found = self.sites(marker, kind)
        assert found, f"no {kind} at {marker}"
        samples = [s for site in found for s in site.samples if s.size >= least]
        return replace(max(found, key=lambda site: site.bytes), samples=samples)


Record = Callable[..., Run]


def run_program(
    file: Path, directory: Path | None, flags: tuple[str, ...] = (), **options: object
) -> subprocess.CompletedProcess[str]:
    """Run a file bare (no directory), or under the sampler."""
    env = {**os.environ, **options.pop("env", {})}  # type: ignore[dict-item]
    words = [sys.executable, *flags, str(file)]
    if directory is not None:
        directory.mkdir(exist_ok=True)
        env["RECORDING"] = str(directory)
        profile = {"dir": str(directory), **options}
        words = [
            *words[:-1],
            CHILD,
            Instructions(profile=profile).encode(),
            *Program(str(file)).command(),
        ]
    return subprocess.run(words, capture_output=True, text=True, timeout=120, env=env)


def write_program(folder: Path, source: str, name: str = "app.py") -> Path:
    file = folder / name
    file.write_text(textwrap.dedent(source), encoding="utf-8")
    return file


@pytest.fixture
def record(tmp_path: Path) -> Record:
    """Run a program under the sampler; its exit code must be `code`. Exact unless told."""

    def run(source: str, *flags: str, code: int = 0, **options: object) -> Run:
        file = write_program(tmp_path, source)
        directory = tmp_path / "recording"
        options.setdefault("exact", "mean_bytes" not in options)
        done = run_program(file, directory, flags, **options)
        assert done.returncode == code, f"exit {done.returncode}\n{done.stdout}{done.stderr}"
        return Run(file, directory, done.returncode, done.stdout, done.stderr)

    return run


@pytest.fixture
def same_as_bare(tmp_path: Path) -> Record:
    """Run a program bare and under the sampler: the same ending, word for word."""

    def run(source: str, *flags: str, code: int = 0, **options: object) -> Run:
        file = write_program(tmp_path, source)
        directory = tmp_path / "recording"
        env = options.pop("env", {})
        bare = run_program(file, None, flags, env=env)
        options.setdefault("mean_bytes", 4096)
        ours = run_program(file, directory, flags, env=env, **options)
        address = re.compile(r"0x[0-9a-f]+|pid=\d+")
        assert [
            (done.returncode, done.stdout, address.sub("?", done.stderr)) for done in (ours, bare)
        ] == [(bare.returncode, bare.stdout, address.sub("?", bare.stderr))] * 2
        assert bare.returncode == code, bare.stderr
        return Run(file, directory, ours.returncode, ours.stdout, ours.stderr)

    return run


@contextmanager
def sampled(directory: Path, **options: object) -> Iterator[None]:
    """Sample this process inside the block."""
    directory.mkdir(exist_ok=True)
    child.start({"dir": str(directory), **options})
    try:
        yield
    finally:
        child.stop()
