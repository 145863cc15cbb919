"""What mixing costs on a CUDA GPU: a step of models of common size in bf16, compiled and not, and the fused blend.

    python tests/benchmarks/bench_gpu.py [--rounds 30] [--json cost_gpu.json]
    python tests/benchmarks/bench_gpu.py --tiny     # the same code at tiny sizes, on a CPU as well: no figures to quote

The models are built from their configurations, nothing is downloaded. Steps are measured as bench_step.py does. The
blend is held against two roofs: one in-place pass over the batch, and a sum of two tensors into a third, which reads
and writes just what a blend out of place has to. One line a case, to be pasted; after five minutes no model is begun,
so that all ends within eight.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from statistics import median

import torch
from bench_blend import ROOF, measure
from steps import Batch, Row, compare, save, wait
from torch import nn
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    CLIPConfig,
    CLIPModel,
    ViTConfig,
    ViTForImageClassification,
)

from hf_mixup import Mixup
from hf_mixup.functional import blend, pair, sample_lam
from hf_mixup.utils.environment import hardware, versions

SHRUNK = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
TINY_ROWS = 4
NO_MORE_AFTER = 300  # seconds
LAUNCHES = 20  # between two waits for the device, which cost as much as a small blend


def vit(tiny: bool) -> tuple[nn.Module, Batch]:
    """Return ViT-B/16 and 64 images of 224 x 224."""
    rows, size = (TINY_ROWS, 32) if tiny else (64, 224)
    model = ViTForImageClassification(ViTConfig(**(SHRUNK if tiny else {}), image_size=size, num_labels=1000))
    return model, {"pixel_values": torch.randn(rows, 3, size, size), "labels": torch.randint(1000, (rows,))}


def bert(tiny: bool) -> tuple[nn.Module, Batch]:
    """Return BERT-base and 32 texts of 128 tokens."""
    rows, length = (TINY_ROWS, 16) if tiny else (32, 128)
    ids = torch.randint(1000, 30000, (rows, length))
    labels = torch.randint(3, (rows,))
    model = BertForSequenceClassification(BertConfig(**(SHRUNK if tiny else {}), num_labels=3))
    return model, {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": labels}


def clip(tiny: bool) -> tuple[nn.Module, Batch]:
    """Return CLIP ViT-B/32 and 128 pairs of an image of 224 x 224 and 77 tokens."""
    rows, size = (TINY_ROWS, 64) if tiny else (128, 224)
    sizes = SHRUNK if tiny else {}
    config = CLIPConfig(text_config={**sizes, "eos_token_id": 49407}, vision_config={**sizes, "image_size": size})
    ids = torch.randint(1000, 49000, (rows, 77))
    ids[:, -1] = 49407
    pixels = torch.randn(rows, 3, size, size)
    return CLIPModel(config), {
        "pixel_values": pixels,
        "input_ids": ids,
        "attention_mask": torch.ones_like(ids),
        "return_loss": True,
    }


MODELS: dict[str, tuple[Callable[[bool], tuple[nn.Module, Batch]], list[str]]] = {
    "ViT-B/16 224, 64 images": (vit, ["mixup", "cutmix", "manifold"]),
    "BERT-base, 32 x 128 tokens": (bert, ["embedding", "manifold"]),
    "CLIP ViT-B/32, 128 pairs": (clip, ["cross_modal"]),
}


def blends(x: torch.Tensor) -> dict[str, Callable[[], object]]:
    """Return the roofs and the blends of a batch."""
    generator = torch.Generator().manual_seed(0)
    partner = pair(len(x), generator).to(x.device)
    lam, lam_rows = (sample_lam(0.4, rows, generator).to(x.device) for rows in (None, len(x)))
    factor, other, out = torch.ones((), device=x.device), torch.randn_like(x), torch.empty_like(x)
    once = {
        ROOF: lambda: x.mul_(factor),
        "read two, write one: add(x, y, out=z)": lambda: torch.add(x, other, out=out),
        "blend, one lam": lambda: blend(x, partner, lam),
        "blend, lam per row": lambda: blend(x, partner, lam_rows),
        "blend, in place": lambda: blend(x, partner, lam, inplace=True),
    }
    return {name: repeated(run) for name, run in once.items()}


def repeated(run: Callable[[], object]) -> Callable[[], None]:
    def runs() -> None:
        for _ in range(LAUNCHES):
            run()
        wait()

    return runs


def blend_lines(rows: int, size: int, dtype: torch.dtype, rounds: int) -> list[str]:
    """Return a line for each roof and blend of a batch, with the ratio of its median to the first roof's."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    x = torch.randn(rows, 3, size, size, device=device).to(dtype)
    medians = {name: median(found) / LAUNCHES for name, found in measure(blends(x), rounds).items()}
    batch = f"{str(dtype)[6:]} {list(x.shape)}, {x.numel() * x.itemsize / 1e6:.0f} MB"
    return [
        f"{batch} | {name} | {1e3 * each:.3f} ms | {each / medians[ROOF]:.2f} of one pass"
        for name, each in medians.items()
    ]


def lines(rows: list[Row]) -> list[str]:
    """Return a line for each method on a model."""
    return [
        f"{row['model']} | {row['method']} | {row['step_ms']:.1f} ms | {row['added_ms']:+.2f} ms | "
        f"{row['ratio']:.2f} of plain ({row['ratio_low']:.2f} to {row['ratio_high']:.2f}) | "
        f"{row['peak_mb']:.0f} MB, {row['memory_ratio']:.2f} of plain"
        for row in rows
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--tiny", action="store_true", help="tiny sizes, and no code is generated: to try this script")
    parser.add_argument("--json", metavar="PATH", help="write the figures of the steps here, too")
    arguments = parser.parse_args()
    tiny, rounds = arguments.tiny, arguments.rounds
    if not tiny and not torch.cuda.is_available():
        print("bench_gpu.py: no CUDA GPU here, nothing was measured (--tiny runs the same code, small, on the CPU)")
        return
    torch.manual_seed(0)
    print(", ".join(f"{name} {value}" for name, value in {**versions(), "hardware": hardware()}.items()))
    for dtype in (torch.float32, torch.bfloat16):
        print(*blend_lines(*((TINY_ROWS, 32) if tiny else (256, 224)), dtype, rounds), sep="\n", flush=True)
    rows: list[Row] = []
    begun = time.monotonic()
    for compiler in (None, "eager" if tiny else "inductor"):
        for label, (build, methods) in MODELS.items():
            name = f"{label}, bf16{', compiled' if compiler else ''}{' (tiny)' if tiny else ''}"
            if time.monotonic() - begun > NO_MORE_AFTER:
                print(f"{name} | left out, for time")
                continue
            found = compare(
                name, *build(tiny), {each: Mixup(each) for each in methods}, rounds, bf16=True, compiler=compiler
            )
            print(*lines(found), sep="\n", flush=True)
            rows += found
            torch.compiler.reset()
    if arguments.json:
        save(rows, arguments.json)


if __name__ == "__main__":
    main()
