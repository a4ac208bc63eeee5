"""Peak bytes of a static memory plan: MobileNet v1 and v2 from shapes alone, and how far from the smallest arena plans are.

``mobilenet_v1`` and ``mobilenet_v2``: inference on one 224×224 image in float32, batch normalisation and activations
folded into the convolutions, as in the TensorFlow Lite models that Pisarchyk & Lee (2020, "Efficient memory management
for deep neural net inference", table 2) planned: naive 19.248 and 26.313 MiB, planned 4.594 and 5.742 MiB, which is the
lower bound. The values that layers make count, not the weights or the image.

``small programs``: random lifetimes small enough to find the smallest arena by trying all orders.

Nothing here is timed except the planner itself. The last line is JSON.
"""

import statistics
import time
from typing import Any

import common
import numpy as np

from hammer.graph import memory

MIB = 2**20
PUBLISHED = {"mobilenet_v1": (19.248, 4.594), "mobilenet_v2": (26.313, 5.742)}
CLASSES = 1001


class Program:
    """A straight-line program of layers on images, written down as the sizes and lifetimes of its intermediate values."""

    def __init__(self) -> None:
        self.sizes: list[int] = []
        self.made: list[int] = []
        self.read: list[int] = []
        self.step = 0

    def layer(self, inputs: list[int], side: int, channels: int) -> int:
        """A layer that reads values (by number) and makes one of (side, side, channels); returns its number."""
        for i in inputs:
            self.read[i] = self.step
        self.sizes.append(4 * side * side * channels)
        self.made.append(self.step)
        self.read.append(self.step)
        self.step += 1
        return len(self.sizes) - 1

    def buffers(self) -> list[memory.Buffer]:
        return [memory.Buffer(*b) for b in zip(self.sizes, self.made, self.read, strict=True)]


def head(p: Program, x: int, channels: int) -> None:
    """Mean over the image, a linear layer, and the softmax that is the output."""
    x = p.layer([x], 1, channels)
    x = p.layer([x], 1, CLASSES)
    p.layer([x], 1, CLASSES)


def mobilenet_v1() -> Program:
    """Howard et al. 2017, table 1: pairs of a depthwise and a pointwise convolution."""
    p = Program()
    side = 112
    x = p.layer([], side, 32)
    channels = 32
    for out, stride in [
        (64, 1),
        (128, 2),
        (128, 1),
        (256, 2),
        (256, 1),
        (512, 2),
        *[(512, 1)] * 5,
        (1024, 2),
        (1024, 1),
    ]:
        side //= stride
        x = p.layer([x], side, channels)
        x = p.layer([x], side, out)
        channels = out
    head(p, x, channels)
    return p


def mobilenet_v2() -> Program:
    """Sandler et al. 2018, table 2: inverted residual blocks (expansion, channels, repeats, stride)."""
    p = Program()
    side, channels = 112, 32
    x = p.layer([], side, channels)
    for expand, out, repeats, first in [
        (1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1),
    ]:  # fmt: skip
        for k in range(repeats):
            stride = first if k == 0 else 1
            y = p.layer([x], side, expand * channels) if expand > 1 else x
            side //= stride
            y = p.layer([y], side, expand * channels)
            y = p.layer([y], side, out)
            if stride == 1 and channels == out:
                y = p.layer([x, y], side, out)
            x, channels = y, out
    x = p.layer([x], side, 1280)
    head(p, x, 1280)
    return p


def planned(p: Program) -> dict[str, Any]:
    buffers = p.buffers()
    start = time.perf_counter()
    found = memory.plan(buffers)
    seconds = time.perf_counter() - start
    return {
        "naive": found.naive / MIB,
        "planned": found.peak / MIB,
        "lower_bound": found.bound / MIB,
        "values": len(buffers),
        "planner_ms": 1e3 * seconds,
    }


def gaps(trials: int, count: int, seed: int = 0) -> dict[str, Any]:
    """Plans of random small programs beside the smallest arena: how often equal, and the mean and worst excess."""
    rng = np.random.default_rng(seed)
    excess = []
    for _ in range(trials):
        first = rng.integers(0, 10, count)
        last = first + rng.integers(0, 6, count)
        buffers = [memory.Buffer(*map(int, b)) for b in zip(rng.integers(1, 65, count), first, last, strict=True)]
        excess.append(memory.plan(buffers).peak / memory.optimum(buffers) - 1)
    return {
        "programs": trials,
        "buffers_each": count,
        "optimal_share": sum(e == 0 for e in excess) / trials,
        "mean_excess": statistics.fmean(excess),
        "worst_excess": max(excess),
    }


def main(argv: list[str] | None = None) -> None:
    options = common.parser(__doc__).parse_args(argv)
    networks = {"mobilenet_v1": planned(mobilenet_v1()), "mobilenet_v2": planned(mobilenet_v2())}
    for name, (naive, peak) in PUBLISHED.items():
        found = networks[name]
        if round(found["naive"], 3) != naive or round(found["planned"], 3) != peak:
            raise AssertionError(
                f"{name}: naive {found['naive']:.3f} and planned {found['planned']:.3f} MiB, published {naive} and {peak}"
            )
    small = [gaps(50 if options.quick else 1000, n) for n in ((6, 8) if options.quick else (6, 8, 9))]
    rows = [
        [name, f"{f['naive']:.3f}", f"{f['planned']:.3f}", f"{f['lower_bound']:.3f}", *(f"{v:.3f}" for v in PUBLISHED[name]), f["planner_ms"]]
        for name, f in networks.items()
    ]  # fmt: skip
    lines = [
        "Peak bytes of intermediate values, in MiB, from shapes alone.",
        "",
        *common.table(
            ["network", "naive", "planned", "lower bound", "published naive", "published planned", "planner, ms"], rows
        ),
        "",
        "Plans of random programs beside the smallest arena, found by trying all orders:",
        "",
        *common.table(
            ["buffers", "programs", "optimal, %", "mean excess, %", "worst excess, %"],
            [
                [
                    s["buffers_each"],
                    s["programs"],
                    100 * s["optimal_share"],
                    100 * s["mean_excess"],
                    100 * s["worst_excess"],
                ]
                for s in small
            ],
        ),
    ]
    print("\n".join(lines))
    common.finish(options, "memory_plan", lines, {**networks, "small_programs": small})


if __name__ == "__main__":
    main()
