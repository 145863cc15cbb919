"""Time `blend` and `cut` on CPU against timm, torchvision, kornia and the PyPI package `mixup`.

    python tests/benchmarks/bench_blend.py [--rows 64 256] [--dtypes float32 bfloat16 float16] [--rounds 7]

Every round runs every contender once on the same batch, so that a disturbance hits all of them alike; the table
shows the median and the fastest round, and their ratios to "the roof": one in-place pass over the batch.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable

import kornia.augmentation
import mixup as mixup_package
import timm.data.mixup
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torchvision.transforms import v2

from hf_mixup.functional import blend, cut, cut_boxes, pair, sample_lam

CLASSES = 1000
ROOF = "one pass: x.mul_(c)"
PEERS = ("timm", "torchvision", "kornia", "mixup")


def our_contenders(x: Tensor) -> dict[str, Callable[[], object]]:
    """In place unless named otherwise; draws are made outside the timing, as they cost microseconds."""
    rows, (height, width) = len(x), x.shape[-2:]
    generator = torch.Generator().manual_seed(0)
    lam, lam_rows = sample_lam(0.4, None, generator), sample_lam(0.4, rows, generator)
    cycle, pairs = pair(rows, generator), pair(rows, generator, "match")
    odd, odd_partner = x[:-1], pair(rows - 1, generator)
    general = torch.randint(rows, (rows,), generator=generator)
    box = cut_boxes((height, width), 0.5, generator)
    boxes = cut_boxes((height, width), torch.full((rows,), 0.5), generator)
    return {
        "blend, one lam, one long cycle": lambda: blend(x, cycle, lam, inplace=True),
        "blend, one lam, pairs": lambda: blend(x, pairs, lam, inplace=True),
        "blend, lam per row, cycle": lambda: blend(x, cycle, lam_rows, inplace=True),
        "blend, lam per row, pairs": lambda: blend(x, pairs, lam_rows, inplace=True),
        "blend, odd batch": lambda: blend(odd, odd_partner, lam, inplace=True),
        "blend, not a permutation": lambda: blend(x, general, lam, inplace=True),
        "blend, out of place": lambda: blend(x, cycle, lam),
        "cut, one box": lambda: cut(x, cycle, box, inplace=True),
        "cut, box per row": lambda: cut(x, cycle, boxes, inplace=True),
    }


def peers(x: Tensor) -> dict[str, Callable[[], object]]:
    labels = torch.randint(CLASSES, (len(x),))
    one_hot = torch.nn.functional.one_hot(labels, CLASSES).to(x.dtype)
    timm_mixup = timm.data.mixup.Mixup(0.4, num_classes=CLASSES)
    timm_elem = timm.data.mixup.Mixup(0.4, mode="elem", num_classes=CLASSES)
    timm_cutmix = timm.data.mixup.Mixup(0.0, 1.0, num_classes=CLASSES)
    torchvision_mixup, torchvision_cutmix = v2.MixUp(alpha=0.4, num_classes=CLASSES), v2.CutMix(num_classes=CLASSES)
    kornia_mixup = kornia.augmentation.RandomMixUpV2(p=1.0, data_keys=["input", "class"])
    package_mixup, package_cutmix = mixup_package.VanillaMixUp(0.4), mixup_package.CutMix(1.0)
    return {
        "timm Mixup, batch": lambda: timm_mixup(x, labels),
        "timm Mixup, elem": lambda: timm_elem(x, labels),
        "timm CutMix": lambda: timm_cutmix(x, labels),
        "torchvision MixUp": lambda: torchvision_mixup(x, labels),
        "torchvision CutMix": lambda: torchvision_cutmix(x, labels),
        "kornia RandomMixUpV2": lambda: kornia_mixup(x, labels),
        "mixup VanillaMixUp": lambda: package_mixup(x, one_hot),
        "mixup CutMix": lambda: package_cutmix(x, one_hot),
    }


def measure(contenders: dict[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(rounds + 1):
        for name, run in contenders.items():
            start = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - start)
    return {name: times[1:] for name, times in seconds.items()}  # the first round warms up


def table_of(title: str, seconds: dict[str, list[float]]) -> Table:
    table = Table(title=title, title_justify="left")
    table.add_column("")
    for heading in ("median ms", "min ms", "median / roof", "min / roof"):
        table.add_column(heading, justify="right")
    roof = seconds[ROOF]
    for name, times in seconds.items():
        median, fastest = statistics.median(times), min(times)
        ratios = median / statistics.median(roof), fastest / min(roof)
        table.add_row(name, f"{1e3 * median:.2f}", f"{1e3 * fastest:.2f}", *(f"{ratio:.2f}" for ratio in ratios))
        if name in (ROOF, "cut, box per row"):
            table.add_section()
    return table


WHY = (
    "Why the blend is above the roof: in place, one lerp a row reads the row, which the step before left in the cache, "
    "and its partner from memory, and pairs copy every second row besides. Out of place, equality with timm and "
    "torchvision to the last bit asks for two operations. In 16 bits the conversions cost most."
)


def verdict(seconds: dict[str, list[float]], rows: int) -> str:
    """Say how the medians stand to the aims: 1.5 roofs at 256 rows, 2.5 at 64; 5 times the peers, cut 10 times timm."""
    median = {name: statistics.median(times) for name, times in seconds.items()}
    slowest = max(median[name] for name in median if name.startswith("blend,") and "out of place" not in name)
    fastest_peer = min(median[name] for name in median if name.split()[0] in PEERS and "Cut" not in name)
    aim = 1.5 if rows >= 256 else 2.5
    cut_factor = median["timm CutMix"] / median["cut, one box"]
    return (
        f"slowest blend in place: {slowest / median[ROOF]:.1f} roofs (aim {aim}), "
        f"{fastest_peer / slowest:.1f} times faster than the fastest peer's mixup (aim 5)\n"
        f"cut, one box: {cut_factor:.1f} times faster than timm's CutMix (aim 10)\n"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, nargs="+", default=[64, 256])
    parser.add_argument("--shape", type=int, nargs=3, default=[3, 224, 224], metavar=("C", "H", "W"))
    parser.add_argument("--dtypes", nargs="+", default=["float32", "bfloat16", "float16"])
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args()
    console = Console(width=110)
    for dtype in arguments.dtypes:
        for rows in arguments.rows:
            x = torch.randn(rows, *arguments.shape).to(getattr(torch, dtype))
            factor = torch.ones(())
            contenders = {ROOF: lambda x=x, factor=factor: x.mul_(factor), **our_contenders(x), **peers(x)}
            seconds = measure(contenders, arguments.rounds)
            load = os.getloadavg()[0] if hasattr(os, "getloadavg") else float("nan")
            title = f"{dtype} {list(x.shape)}, {torch.get_num_threads()} threads, load {load:.1f}"
            console.print(table_of(title, seconds))
            console.print(verdict(seconds, rows))
    console.print(WHY)


if __name__ == "__main__":
    main()
