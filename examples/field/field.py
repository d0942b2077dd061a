"""Count the plants on the frames of a camera that flies over a field, and estimate their cover.

The frames are generated (rows of green plants on brown soil, uneven light, sensor noise), so that
every machine sees the same field. Each frame is segmented by the excess green index, cleaned by a
binary opening, labelled, and measured plant by plant. The report gives each strip of the field.

    python field.py --frames 75
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

HEIGHT, WIDTH = 720, 1280
STRIP_FRAMES = 15
SOIL = np.array([118, 92, 70], dtype=np.uint8)
LEAF = np.array([70, 140, 52], dtype=np.uint8)

Frame = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Plant:
    """One plant: its centre and its area in pixels."""

    row: float
    column: float
    area: int


def frames_of(count: int, seed: int) -> Iterator[Frame]:
    """Frames along one flight: plants differ in place and size, the noise is the sensor's."""
    rng = np.random.default_rng(seed)
    noise = rng.integers(0, 24, (HEIGHT * 2, WIDTH, 3), dtype=np.uint8)
    light = np.linspace(0, 40, WIDTH).astype(np.uint8)[None, :, None]
    ys, xs = np.ogrid[:HEIGHT, :WIDTH]
    for _ in range(count):
        start = int(rng.integers(HEIGHT))
        frame = noise[start : start + HEIGHT] + light
        leaves = np.zeros((HEIGHT, WIDTH), dtype=bool)
        for row in range(60, HEIGHT, 120):
            for column in range(80, WIDTH, 160):
                y, x = row + int(rng.integers(-15, 15)), column + int(rng.integers(-30, 30))
                radius = int(rng.integers(8, 32))
                box = (
                    slice(max(0, y - radius), y + radius + 1),
                    slice(max(0, x - radius), x + radius + 1),
                )
                inside = (ys[box[0]] - y) ** 2 + (xs[:, box[1]] - x) ** 2 <= radius**2
                leaves[box] |= inside
        frame += np.where(leaves[:, :, None], LEAF, SOIL)
        yield frame


def excess_green(frame: Frame) -> NDArray[np.float32]:
    """The index 2g - r - b of chromatic coordinates: high on leaves in any light."""
    red = frame[:, :, 0].astype(np.float32)
    green = frame[:, :, 1].astype(np.float32)
    blue = frame[:, :, 2].astype(np.float32)
    total = red + green + blue + 1
    return 2 * green / total - red / total - blue / total


def segment(frame: Frame) -> NDArray[np.bool_]:
    index = excess_green(frame)
    smooth = ndimage.uniform_filter(index, size=3)
    threshold = smooth.mean() + smooth.std()
    mask: NDArray[np.bool_] = ndimage.binary_opening(smooth > threshold)
    return mask


def plants_on(frame: Frame) -> list[Plant]:
    labels, count = ndimage.label(segment(frame))
    areas = np.bincount(labels.ravel(), minlength=count + 1)
    plants = []
    for label, (rows, columns) in enumerate(ndimage.find_objects(labels), start=1):
        area = int(areas[label])
        if area >= 60:
            row, column = (rows.start + rows.stop) / 2, (columns.start + columns.stop) / 2
            plants.append(Plant(row, column, area))
    return plants


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--frames", type=int, default=75)
    parser.add_argument("--seed", type=int, default=20)
    options = parser.parse_args()

    strips: dict[int, list[Plant]] = {}
    for number, frame in enumerate(frames_of(options.frames, options.seed)):
        strips.setdefault(number // STRIP_FRAMES, []).extend(plants_on(frame))

    print(f"{'strip':>5} {'plants':>6} {'mean area':>9} {'cover':>6}  commonest sizes")
    for strip, plants in strips.items():
        areas = [plant.area for plant in plants]
        cover = sum(areas) / (STRIP_FRAMES * HEIGHT * WIDTH)
        sizes = Counter(area // 250 * 250 for area in areas).most_common(3)
        print(
            f"{strip:5} {len(plants):6} {sum(areas) / max(1, len(areas)):9.1f} {cover:6.2%}  "
            + ", ".join(f"{size}+: {count}" for size, count in sorted(sizes))
        )


if __name__ == "__main__":
    main()
