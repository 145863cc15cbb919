"""Where a model looks: the grid of attention, of transformers and of convolutional nets."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from hf_mixup.models.attention import attention_grid, grid_of
from tests.conftest import build
from tests.methods.images import images, same_traces, traces


@pytest.mark.parametrize("name", ["vit", "resnet"])
def test_looking_leaves_no_trace(name: str) -> None:
    model, batch = build(name).train(), images(4)
    model.get_submodule(next(path for path, module in model.named_modules() if "layer" in path)).eval()
    before = traces(model)
    looked = attention_grid(model, {"pixel_values": batch["pixel_values"]}, batch["pixel_values"])
    assert same_traces(before, traces(model))
    assert not looked.requires_grad
    with pytest.raises(ValueError, match="channel dimension"):
        attention_grid(model, {"pixel_values": torch.zeros(2, 5, 16, 16)}, torch.zeros(2, 5, 16, 16))
    assert same_traces(before, traces(model))


@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
def test_class_attention_is_the_softmax_by_hand(implementation: str) -> None:
    model, batch = build("vit", attn_implementation=implementation).eval(), images(3, 16, 16)
    model.vit.set_attn_implementation(implementation)
    states: list[Tensor] = []
    layer = [module for name, module in model.named_modules() if type(module).__name__ == "ViTLayer"][-1]
    handle = layer.register_forward_pre_hook(lambda module, args: states.append(args[0]))
    model(batch["pixel_values"])
    handle.remove()
    projected = {name.rsplit(".", 1)[-1]: module for name, module in layer.named_modules() if hasattr(module, "weight")}
    normed = layer.layernorm_before(states[0]).double()
    q, k = (
        next(projected[each] for each in names if each in projected)
        for names in (("query", "q_proj"), ("key", "k_proj"))
    )
    expected = torch.zeros(3, 2, 2)
    for row in range(3):
        for head in range(2):
            part = slice(8 * head, 8 * head + 8)
            keys = normed[row] @ k.weight[part].double().T + k.bias[part].double()
            query = normed[row, 0] @ q.weight[part].double().T + q.bias[part].double()
            expected[row] += (keys @ query / math.sqrt(8)).softmax(0)[1:].reshape(2, 2).float() / 2
    found = attention_grid(model, {"pixel_values": batch["pixel_values"]}, batch["pixel_values"])
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)


def test_energy_of_a_convolutional_net_by_hand() -> None:
    model, batch = build("resnet").eval(), images(3, 40, 24)
    last = model.resnet(batch["pixel_values"]).last_hidden_state.detach()
    found = attention_grid(model, {"pixel_values": batch["pixel_values"]}, batch["pixel_values"])
    assert found.shape == last[:, 0].shape
    assert found[0].numel() > 1
    for row in range(3):
        for y in range(found.shape[1]):
            for x in range(found.shape[2]):
                assert float(found[row, y, x]) == pytest.approx(float((last[row, :, y, x].double() ** 2).mean()))


@pytest.mark.parametrize(
    ("kind", "size", "grid", "sums_to_one"),
    [
        ("dinov2_with_registers", 64, (8, 8), False),  # tokens of class and registers come first
        ("siglip", 64, (8, 8), True),  # no class token: what all pay
        ("swin", 64, (8, 8), None),  # attention in windows says nothing of the whole image
        ("hiera", 64, (2, 2), None),  # channels last
        ("levit", 224, (4, 4), None),  # tokens without patches of their size
        ("convnext", 64, (2, 2), None),
    ],
)
def test_architectures_are_not_named(kind: str, size: int, grid: tuple[int, int], sums_to_one: bool | None) -> None:
    from hf_mixup.testing.build import build as build_tiny

    model = build_tiny("image-classification", kind)
    pixels = torch.randn(3, 3, size, size)
    found = attention_grid(model, {"pixel_values": pixels}, pixels)
    assert found.shape == (3, *grid)
    assert bool((found >= 0).all())
    total = found.sum((-2, -1))
    if sums_to_one is not None:
        assert bool((total < 1 + 1e-5).all())
        assert sums_to_one == bool((total > 1 - 1e-5).all())


def test_a_model_that_shows_no_grid_is_refused() -> None:
    model = build("resnet")
    pixels = torch.randn(2, 3, 4, 4)
    with pytest.raises(ValueError, match=r"ResNetForImageClassification returns neither.*'saliencymix'"):
        attention_grid(model, {"pixel_values": pixels}, pixels)


def test_grid_of_patches() -> None:
    wide = torch.zeros(1, 3, 32, 64)
    assert grid_of(33, wide, (8, 8)) == (4, 8)
    assert grid_of(32 + 17, wide, (8, 8)) is None
    assert grid_of(33, wide, None) == (4, 8)
    assert grid_of(35, wide, None) is None
    assert grid_of(32, wide, None, 0) == (4, 8)
    assert grid_of(5, torch.zeros(1, 3, 37, 39), (16, 16)) == (2, 2)
