"""Find packed, compressed or encrypted data among the files of this Python installation.

Every file is read in blocks. A block is looked at three ways: its power spectrum (noise is flat,
text and machine code are not), the entropy of its byte pairs, and its checksums. Text is also
searched for repeated lines. The report lists the files that look most like noise.

    python spectra_reuse.py --megabytes 120

The same job as spectra.py, changed as its verdicts say: the arrays of a block are made once and
written again (`readinto`, `out=`). It prints the same report, byte for byte.
"""

from __future__ import annotations

import argparse
import hashlib
import sysconfig
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

BLOCK = 256 * 1024
FRAME = 1024
WINDOW = np.hanning(FRAME)
TEXT = {".py", ".pyi", ".txt", ".rst", ".c", ".h", ".toml", ".cfg", ".html", ".json"}
SKIPPED = {"__pycache__", "site-packages", "dist-packages"}


@dataclass(frozen=True, slots=True, kw_only=True)
class FileReport:
    """What is known of one file."""

    name: str
    size: int
    crc: int
    flatness: float
    entropy_bits: float
    lines: int
    distinct_lines: int

    @property
    def noise(self) -> float:
        """0 to 1: how much the file looks like noise, by spectrum and by entropy."""
        return self.flatness * self.entropy_bits / 8


def flatness_of(power: NDArray[np.float64]) -> float:
    """Geometric over arithmetic mean of a power spectrum: 1.0 is white noise."""
    power = power[1:] + 1e-9
    return float(np.exp(np.log(power).mean()) / power.mean())


def entropy_of(pairs: NDArray[np.int64]) -> float:
    """Entropy of a byte given the one before it, in bits: 8.0 is noise."""
    first = pairs.reshape(256, 256).sum(axis=1)
    joint = pairs[pairs > 0] / max(1, pairs.sum())
    single = first[first > 0] / max(1, first.sum())
    return float((single * np.log2(single)).sum() - (joint * np.log2(joint)).sum())


def installed_files(limit_bytes: int) -> Iterator[Path]:
    """The installation's own files in a fixed order, again from the first until the limit."""
    root = Path(sysconfig.get_path("stdlib"))
    files = [
        path
        for path in sorted(root.rglob("*"))
        if path.is_file() and SKIPPED.isdisjoint(path.relative_to(root).parts)
    ]
    seen = 0
    while files:
        for path in files:
            if seen >= limit_bytes:
                return
            seen += path.stat().st_size
            yield path


class Workspace:
    """Room for one block and for everything computed from it, made once and written again."""

    def __init__(self) -> None:
        self.block = np.empty(BLOCK, dtype=np.uint8)
        self.samples = np.empty(BLOCK)
        self.frames = np.empty((BLOCK // FRAME, FRAME))
        self.spectrum = np.empty((BLOCK // FRAME, FRAME // 2 + 1), dtype=np.complex128)
        self.power = np.empty((BLOCK // FRAME, FRAME // 2 + 1))
        self.imaginary = np.empty_like(self.power)
        self.codes = np.empty(BLOCK, dtype=np.int64)
        self.pairs = np.empty(BLOCK, dtype=np.int64)

    def blocks_of(self, path: Path) -> Iterator[NDArray[np.uint8]]:
        """Each block of the file; it is valid until the next one is asked for."""
        with path.open("rb", buffering=0) as file:
            while size := file.readinto(self.block.data):
                yield self.block[:size]

    def power_spectrum(self, block: NDArray[np.uint8]) -> NDArray[np.float64]:
        samples = self.samples[: block.size]
        samples[:] = block
        np.subtract(samples, samples.mean(), out=samples)
        count = samples.size // FRAME
        frames, spectrum = self.frames[:count], self.spectrum[:count]
        power, imaginary = self.power[:count], self.imaginary[:count]
        np.multiply(samples[: count * FRAME].reshape(-1, FRAME), WINDOW, out=frames)
        np.fft.rfft(frames, out=spectrum)
        np.square(spectrum.real, out=power)
        np.square(spectrum.imag, out=imaginary)
        np.add(power, imaginary, out=power)
        total: NDArray[np.float64] = power.sum(axis=0)
        return total

    def byte_pairs(self, block: NDArray[np.uint8]) -> NDArray[np.int64]:
        codes, pairs = self.codes[: block.size], self.pairs[: block.size - 1]
        codes[:] = block
        np.multiply(codes[:-1], 256, out=pairs)
        np.add(pairs, codes[1:], out=pairs)
        return np.bincount(pairs, minlength=65536)


def analyse(path: Path, digest: hashlib._Hash, workspace: Workspace) -> FileReport:
    power = np.zeros(FRAME // 2 + 1)
    pairs = np.zeros(65536, dtype=np.int64)
    size = crc = line_count = distinct_lines = 0
    for block in workspace.blocks_of(path):
        size += len(block)
        crc = zlib.crc32(block.data, crc)
        digest.update(block.data)
        power += workspace.power_spectrum(block)
        pairs += workspace.byte_pairs(block)
        if path.suffix in TEXT:
            lines = [line.strip() for line in block.tobytes().splitlines()]
            line_count += len(lines)
            distinct_lines += len(set(lines))
    return FileReport(
        name=path.name,
        size=size,
        crc=crc,
        flatness=flatness_of(power),
        entropy_bits=entropy_of(pairs) if size > 1 else 0.0,
        lines=line_count,
        distinct_lines=distinct_lines,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--megabytes", type=float, default=120.0, help="how much to read")
    parser.add_argument("--top", type=int, default=12, help="how many files to list")
    options = parser.parse_args()

    workspace = Workspace()
    digest = hashlib.sha1()
    reports: dict[Path, FileReport] = {}
    for path in installed_files(int(options.megabytes * 1e6)):
        reports[path] = analyse(path, digest, workspace)

    large = [report for report in reports.values() if report.size >= 8 * FRAME]
    large.sort(key=lambda report: (-report.noise, report.name))
    print(f"{'file':44} {'bytes':>10} {'noise':>6} {'flat':>6} {'bits':>5} {'crc32':>8}")
    for report in large[: options.top]:
        print(
            f"{report.name[:44]:44} {report.size:10} {report.noise:6.4f} {report.flatness:6.4f} "
            f"{report.entropy_bits:5.2f} {report.crc:08x}"
        )
    lines = sum(report.lines for report in reports.values())
    distinct = sum(report.distinct_lines for report in reports.values())
    print(f"{len(reports)} files, {lines} lines, {lines - distinct} repeated within their block")
    print(f"sha1 of everything read: {digest.hexdigest()}")


if __name__ == "__main__":
    main()
