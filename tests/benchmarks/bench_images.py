"""Time each image method, draw and apply, on CPU against every peer on PyPI that has a method of the name.

    python tests/benchmarks/bench_images.py [--rows 32] [--size 224] [--rounds 15]

Peers: timm, torchvision, kornia and the package `mixup` (in the `dev` extra). Every round runs every contender once on
the same batch, so that a disturbance hits all of them alike; the table shows the median, over whatever lam each draws,
its ratio to ours, and the fastest round. All give the mixed images and dense targets; methods that look at a model
are timed without its passes.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable
from typing import Any

import kornia.augmentation
import mixup as package
import timm.data.mixup
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torchvision.transforms import v2

from hf_mixup import MixupConfig
from hf_mixup.functional.saliency import spectral_residual
from hf_mixup.methods import puzzlemix
from hf_mixup.methods.base import Request
from hf_mixup.models.labels import dense_targets

CLASSES = 100
Run = Callable[[], object]


def ours(method: str, x: Tensor, labels: Tensor, **settings: Any) -> Run:
    """Draw, apply and make the targets, as a training step does."""
    mixing = MixupConfig(method=method, **settings).mixing
    generator, batch = torch.Generator().manual_seed(0), {"pixel_values": x}
    model = torch.nn.Identity()

    def run() -> object:
        drawn = mixing.draw(Request(model, batch, labels, 1.0, generator))
        mixed = mixing.apply(model, batch, drawn, False)
        others, lam = mixing.other_labels(labels, drawn), mixing.label_lam(labels, drawn)
        return mixed, dense_targets(labels, others, lam, CLASSES, "single_label_classification", 0.0)

    return run


def contenders(x: Tensor, labels: Tensor) -> dict[str, dict[str, Run]]:
    """For each method ours, then the peers'."""
    hot = torch.nn.functional.one_hot(labels, CLASSES).float()
    kornia_data: dict[str, Any] = {"p": 1.0, "data_keys": ["input", "class"]}
    kornia_cutmix = kornia.augmentation.RandomCutMixV2(**kornia_data, use_correct_lambda=True)
    of_timm = {"mixup": (1.0, 0.0), "cutmix": (0.0, 1.0)}

    def timm_run(method: str) -> Run:
        peer = timm.data.mixup.Mixup(*of_timm[method], num_classes=CLASSES, label_smoothing=0.0)
        return lambda: peer(x.clone(), labels)  # it works in place; ours leaves the batch as it is

    def same(peer: Any, *more: Any) -> Run:
        return lambda: peer(x, *more)

    torchvision_peers = {"mixup": v2.MixUp(num_classes=CLASSES), "cutmix": v2.CutMix(num_classes=CLASSES)}
    return {
        "mixup": {
            "ours": ours("mixup", x, labels),
            "timm": timm_run("mixup"),
            "torchvision": same(torchvision_peers["mixup"], labels),
            "kornia": same(kornia.augmentation.RandomMixUpV2(**kornia_data), labels),
            "mixup": same(package.VanillaMixUp(1.0), hot),
        },
        "cutmix": {
            "ours": ours("cutmix", x, labels),
            "ours, a box a row": ours("cutmix", x, labels, lam_per="sample"),
            "timm": timm_run("cutmix"),
            "torchvision": same(torchvision_peers["cutmix"], labels),
            "kornia, a box a row": same(kornia_cutmix, labels),
            "mixup": same(package.CutMix(1.0), hot),
        },
        "resizemix": {
            "ours": ours("resizemix", x, labels),
            "ours, a box a row": ours("resizemix", x, labels, lam_per="sample"),
            "mixup, without antialiasing": same(package.ResizeMix(1.0), hot),
        },
        "fmix": {
            "ours": ours("fmix", x, labels),
            "ours, a mask a row": ours("fmix", x, labels, lam_per="sample"),
            "mixup": same(package.FMix(1.0), hot),
        },
        "saliencymix": {
            "ours": ours("saliencymix", x, labels),
            "mixup, by contrast": same(package.SaliencyMix(1.0), hot),
        },
        "puzzlemix": {
            "ours": ours("puzzlemix", x, labels),
            "mixup, by contrast, without moves": same(package.PuzzleMix(1.0, block_size=x.shape[-1] // 16), hot),
        },
        "gridmix": {
            "ours": ours("gridmix", x, labels),
            "ours, a mask a row": ours("gridmix", x, labels, lam_per="sample"),
        },
    }


def measure(runs: dict[str, Run], rounds: int) -> dict[str, list[float]]:
    """Return the milliseconds of each round but the first, which warms up."""
    times: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds + 1):
        for name, run in runs.items():
            start = time.perf_counter()
            run()
            times[name].append(1e3 * (time.perf_counter() - start))
    return {name: each[1:] for name, each in times.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=32)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--rounds", type=int, default=15)
    arguments = parser.parse_args()
    x = torch.rand(arguments.rows, 3, arguments.size, arguments.size)
    labels = torch.randint(CLASSES, (arguments.rows,))
    # What puzzlemix does with a saliency is timed, not the passes of the model that it comes from.
    puzzlemix.gradient_saliency = lambda request, key: spectral_residual(request.batch[key])  # type: ignore[assignment]
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else float("nan")
    table = Table(title=f"float32 {list(x.shape)}, {torch.get_num_threads()} threads, load {load:.1f}")
    for heading in ("method", "", "median ms", "times ours", "min ms"):
        table.add_column(heading, justify="right" if heading.endswith(("ms", "ours")) else "left")
    for method, runs in contenders(x, labels).items():
        times = measure(runs, arguments.rounds)
        own = statistics.median(times["ours"])
        for name, each in times.items():
            shown, median = method if name == "ours" else "", statistics.median(each)
            table.add_row(shown, name, f"{median:.1f}", f"{median / own:.2f}", f"{min(each):.1f}")
        table.add_section()
    Console(width=100).print(table)


if __name__ == "__main__":
    main()
