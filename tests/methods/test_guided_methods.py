"""Methods guided by saliency or attention: `saliencymix`, `attentive` and `transmix`, against the same by hand."""

from __future__ import annotations

import cmath
import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from hf_mixup import Mixup, MixupConfig, MixupTrainer
from hf_mixup.functional.masks import enlarge_cells, top_cells
from hf_mixup.functional.saliency import most_salient, spectral_residual
from hf_mixup.methods.transmix import own_attention
from hf_mixup.models.attention import attention_grid, grid_of
from hf_mixup.methods.base import MaskDraw
from tests.conftest import build


def images(rows: int = 5, height: int = 16, width: int = 16, seed: int = 0) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {
        "pixel_values": torch.randn(rows, 3, height, width, generator=generator),
        "labels": torch.randint(4, (rows,), generator=generator),
    }


def mixed_by(method: str, batch: dict[str, Tensor], model: Any = None, **settings: Any) -> Any:
    call = {key: settings.pop(key) for key in ("partner", "lam", "inplace") if key in settings and key != "alpha"}
    mixup = Mixup(MixupConfig(method=method, self_check=False, **settings))
    with mixup(model or build("resnet").train(), batch, **call) as mixed:
        return mixed


def own_pixels(mixed: Any, height: int, width: int) -> Tensor:
    """Which pixels of each row stay its own, from the parameters, one at a time."""
    kept = torch.ones(len(mixed.lam), height, width, dtype=torch.bool)
    for row in range(len(kept)):
        for y in range(height):
            for x in range(width):
                if isinstance(mixed.draw, MaskDraw):
                    kept[row, y, x] = mixed.draw.mask[row, y, x]
                else:
                    top, left, bottom, right = mixed.draw.boxes.expand(len(kept), 4)[row].tolist()
                    kept[row, y, x] = not (top <= y < bottom and left <= x < right)
    return kept


# saliency


def residual_by_hand(image: Tensor) -> list[list[float]]:
    """The square of the spectral residual's image before smoothing, by sums over all pixels in double precision."""
    gray = image.double().mean(0).tolist()
    height, width = len(gray), len(gray[0])
    mean = sum(map(sum, gray)) / (height * width)
    ys, xs = range(height), range(width)

    def transform(values: list[list[complex]], sign: int) -> list[list[complex]]:
        rows = [
            [sum(values[y][x] * cmath.exp(sign * 2j * math.pi * v * x / width) for x in xs) for v in xs] for y in ys
        ]
        return [[sum(rows[y][v] * cmath.exp(sign * 2j * math.pi * u * y / height) for y in ys) for v in xs] for u in ys]

    spectrum = transform([[complex(gray[y][x] - mean) for x in xs] for y in ys], -1)
    total = sum(abs(each) for row in gray for each in row)
    floor = max(4 * 2**-52 * total, 1e-3 * sum(abs(each) for row in spectrum for each in row) / (height * width))
    log = [[math.log(max(abs(each), floor)) for each in row] for row in spectrum]
    log[0][0] = (log[1][0] + log[0][1]) / 2
    left = [[0j] * width for _ in ys]
    for u in ys:
        for v in xs:
            if abs(spectrum[u][v]) > floor and (u or v):
                around = [log[(u + a) % height][(v + b) % width] for a in (-1, 0, 1) for b in (-1, 0, 1)]
                left[u][v] = cmath.exp(log[u][v] - sum(around) / 9 + 1j * cmath.phase(spectrum[u][v]))
    return [[(abs(each) / (height * width)) ** 2 for each in row] for row in transform(left, 1)]


@pytest.mark.parametrize("shape", [(3, 8, 8), (1, 7, 12), (2, 9, 5)])
def test_spectral_residual_by_hand(shape: tuple[int, int, int]) -> None:
    image = torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    squares, (height, width) = residual_by_hand(image), shape[1:]
    deviation = 2.5 / 64 * max(height, width)
    reach = max(1, round(3 * deviation))
    weights = {step: math.exp(-0.5 * (step / deviation) ** 2) for step in range(-reach, reach + 1)}
    total = sum(weights.values())
    expected = torch.zeros(height, width, dtype=torch.float64)
    for y in range(height):
        for x in range(width):
            for a in weights:
                for b in weights:
                    if 0 <= y + a < height and 0 <= x + b < width:
                        expected[y, x] += weights[a] * weights[b] / total**2 * squares[y + a][x + b]
    torch.testing.assert_close(spectral_residual(image[None])[0], expected)


@pytest.mark.parametrize("size", [(64, 64), (224, 160), (33, 97)])
def test_an_object_on_a_plain_ground_stands_out(size: tuple[int, int]) -> None:
    generator = torch.Generator().manual_seed(0)
    height, width = size
    for drawn in range(10):
        side = max(4, min(size) // 10)
        y, x = (int(torch.randint(side, end - 2 * side, (), generator=generator)) for end in size)
        image = (0.05 if drawn % 2 else 0) * torch.randn(1, 3, height, width, generator=generator)
        image[..., y : y + side, x : x + side] += 1
        found = most_salient(spectral_residual(image))[0]
        assert y - side <= found[0] <= y + 2 * side
        assert x - side <= found[1] <= x + 2 * side
    image = torch.randn(1, 3, height, width, generator=generator).double()
    one, other = spectral_residual(torch.cat([image, 3 * image + 5]))
    torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-9)


def test_saliency_takes_what_images_may_be() -> None:
    for shade in (0.0, 0.3, -7.1):
        for size in ((9, 9), (224, 224), (50, 64)):
            assert bool((spectral_residual(torch.full((2, 3, *size), shade)) == 0).all())
    assert spectral_residual(torch.randn(1, 1, 1, 1)).shape == (1, 1, 1)
    x = torch.randn(3, 3, 70, 41)
    rows = torch.cat([spectral_residual(row[None]) for row in x])
    torch.testing.assert_close(spectral_residual(x.contiguous(memory_format=torch.channels_last)), rows)
    assert spectral_residual(x.bfloat16()).dtype == torch.float32
    with pytest.raises(ValueError, match=r"needs floats \[B, C, H, W\], got torch.uint8"):
        spectral_residual(torch.zeros(1, 3, 4, 4, dtype=torch.uint8))


# saliencymix


@pytest.mark.parametrize("lam_per", ["batch", "pair", "sample"])
@pytest.mark.parametrize("size", [(16, 16), (17, 23)])
def test_saliencymix_pastes_around_the_partners_most_salient_pixel(lam_per: str, size: tuple[int, int]) -> None:
    height, width = size
    batch = images(5, height, width)
    mixed = mixed_by("saliencymix", batch, lam_per=lam_per, draw_seed=3)
    x, out, kept = batch["pixel_values"], mixed.inputs["pixel_values"], own_pixels(mixed, height, width)
    where = most_salient(spectral_residual(x))
    drawn = Mixup(MixupConfig(method="mixup", lam_per=lam_per, draw_seed=3))
    with drawn(build("resnet"), batch) as plain:
        lam, partner = plain.lam, plain.partner
    assert torch.equal(mixed.partner, partner)
    for row, other in enumerate(partner.tolist()):
        (y, x_), share = where[other].tolist(), math.sqrt(1 - float(lam[row]))
        top, left, bottom, right = mixed.draw.boxes[row].tolist()
        sides = int(height * share), int(width * share)
        assert (top, bottom) == (max(0, y - sides[0] // 2), min(height, y + (sides[0] + 1) // 2))
        assert (left, right) == (max(0, x_ - sides[1] // 2), min(width, x_ + (sides[1] + 1) // 2))
        expected = torch.where(kept[row], x[row], x[other])
        assert torch.equal(out[row], expected)
        assert float(mixed.lam[row]) == pytest.approx(float(kept[row].double().mean()), abs=1e-7)


def test_saliencymix_leaves_alone_what_it_should() -> None:
    batch = images(6)
    before = batch["pixel_values"].clone()
    mixed = mixed_by("saliencymix", batch, lam=torch.tensor([1.0, 0.5, 1.0, 0.0, 1.0, 0.7]))
    assert torch.equal(mixed.inputs["pixel_values"][::2], before[::2])
    assert mixed.lam[::2].tolist() == [1, 1, 1]
    assert torch.equal(batch["pixel_values"], before)
    assert bool((mixed.lam[[1, 3, 5]] < 1).all())
    untouched = mixed_by("saliencymix", batch, lam=1.0)
    assert untouched.inputs["pixel_values"] is batch["pixel_values"]
    kept = mixed_by("saliencymix", batch, lam=0.3, correct_lam=False)
    assert kept.lam.tolist() == pytest.approx([0.3] * 6)
    single = mixed_by("saliencymix", images(1), lam=0.3)
    assert torch.equal(single.inputs["pixel_values"], images(1)["pixel_values"])
    written = mixed_by("saliencymix", batch, lam=torch.full((6,), 0.5), inplace=True)
    assert written.inputs["pixel_values"] is batch["pixel_values"]
    assert not torch.equal(batch["pixel_values"], before)


def test_half_the_rows_by_the_coin() -> None:
    batch = images(200, 8, 8)
    mixed = mixed_by("saliencymix", batch, prob=0.5, prob_per="sample", lam_per="sample", alpha=8.0)
    same = (mixed.inputs["pixel_values"] == batch["pixel_values"]).flatten(1).all(1)
    assert torch.equal(same, mixed.lam == 1)
    assert 70 < int(same.sum()) < 130


def test_top_cells_by_hand() -> None:
    generator = torch.Generator().manual_seed(0)
    scores = torch.randint(4, (6, 3, 5), generator=generator).double()
    count = torch.tensor([0, 1, 4, 7, 14, 15])
    found = top_cells(scores, count)
    for row, wanted in enumerate(count.tolist()):
        ranked = sorted(range(15), key=lambda cell: (-float(scores[row].flatten()[cell]), cell))
        assert sorted(ranked[:wanted]) == found[row].flatten().nonzero().flatten().tolist()
    pixels = enlarge_cells(found, 7, 11)
    for y in range(7):
        for x in range(11):
            assert torch.equal(pixels[:, y, x], found[:, y * 3 // 7, x * 5 // 11])


# attention


def traces(model: Any) -> list[Any]:
    """What a forward pass could leave behind."""
    modes = [module.training for module in model.modules()]
    state = [value.clone() for value in model.state_dict().values()]
    grads = [parameter.grad is None for parameter in model.parameters()]
    return [modes, state, grads, torch.get_rng_state(), model.config._attn_implementation]


def same_traces(one: list[Any], other: list[Any]) -> bool:
    states = all(torch.equal(a, b) for a, b in zip(one[1], other[1], strict=True))
    return states and one[0] == other[0] and one[2] == other[2] and torch.equal(one[3], other[3]) and one[4] == other[4]


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


# attentive


@pytest.mark.parametrize("name", ["vit", "resnet"])
@pytest.mark.parametrize("lam_per", ["batch", "sample"])
def test_attentive_pastes_the_most_attended_cells(name: str, lam_per: str) -> None:
    height, width = (16, 16) if name == "vit" else (39, 26)
    model, batch = build(name).train(), images(5, height, width)
    x = batch["pixel_values"]
    grid = attention_grid(model, {"pixel_values": x}, x)
    rows, columns = grid.shape[1:]
    mixed = mixed_by("attentive", batch, model, lam_per=lam_per, draw_seed=3)
    with Mixup(MixupConfig(method="mixup", lam_per=lam_per, draw_seed=3))(model, batch) as plain:
        lam, partner = plain.lam.double(), plain.partner
    assert torch.equal(mixed.partner, partner)
    kept = own_pixels(mixed, height, width)
    for row, other in enumerate(partner.tolist()):
        count = round((1 - float(lam[row])) * rows * columns)
        best = grid[other].flatten().sort(descending=True).indices[:count].tolist()
        for y in range(height):
            for z in range(width):
                cell = (y * rows // height) * columns + z * columns // width
                assert bool(kept[row, y, z]) == (cell not in best)
        assert torch.equal(mixed.inputs["pixel_values"][row], torch.where(kept[row], x[row], x[other]))
        assert float(mixed.lam[row]) == pytest.approx(float(kept[row].double().mean()), abs=1e-7)
    assert float(mixed.lam.min()) > 0 or lam_per == "sample"


def test_attentive_leaves_alone_what_it_should() -> None:
    model, batch = build("vit").train(), images(4)
    before = batch["pixel_values"].clone()
    seen: list[Any] = []
    handle = model.register_forward_pre_hook(lambda module, args: seen.append(module.training))
    untouched = mixed_by("attentive", batch, model, lam=1.0)
    assert untouched.inputs["pixel_values"] is batch["pixel_values"]
    assert not seen
    mixed = mixed_by("attentive", batch, model, lam=torch.tensor([1.0, 0.5, 1.0, 0.0]))
    assert seen == [False]  # one pass, in evaluation mode
    handle.remove()
    assert mixed.lam.tolist() == [1, 0.5, 1, 0]
    assert torch.equal(mixed.inputs["pixel_values"][::2], before[::2])
    assert torch.equal(mixed.inputs["pixel_values"][3], before[mixed.partner[3]])
    assert torch.equal(batch["pixel_values"], before)
    assert all(p.grad is None for p in model.parameters())
    single = mixed_by("attentive", images(1), model, lam=0.3)
    assert torch.equal(single.inputs["pixel_values"], images(1)["pixel_values"])
    narrow = {**images(3), "pixel_values": images(3)["pixel_values"].contiguous(memory_format=torch.channels_last)}
    out = mixed_by("attentive", narrow, model, lam=0.5).inputs["pixel_values"]
    assert out.is_contiguous(memory_format=torch.channels_last)
    halved = {**batch, "pixel_values": before.bfloat16()}
    assert mixed_by("attentive", halved, model.bfloat16(), lam=0.5).inputs["pixel_values"].dtype == torch.bfloat16
    written = mixed_by("attentive", batch, model.float(), lam=0.5, inplace=True)
    assert written.inputs["pixel_values"] is batch["pixel_values"]
    assert not torch.equal(batch["pixel_values"], before)


def test_the_papers_share() -> None:
    model, batch = build("resnet").eval(), images(2, 56, 56)
    mixed = mixed_by("attentive", batch, model, lam=0.8776)
    cells = attention_grid(model, {"pixel_values": batch["pixel_values"]}, batch["pixel_values"])[0].numel()
    assert cells == 49
    assert mixed.lam.tolist() == pytest.approx([1 - 6 / 49] * 2)


# transmix


def looking(seed: int = 0) -> Any:
    """A transformer that returns its attention."""
    model = build("vit", seed)
    model.set_attn_implementation("eager")
    return model.train()


@pytest.mark.parametrize(
    "settings", [{}, {"lam_per": "sample"}, {"prob": 0.5, "prob_per": "sample"}, {"box_sides": [0.2, 0.9]}]
)
def test_transmix_weighs_labels_by_hand(settings: dict[str, Any]) -> None:
    model, batch = looking(), images(6)
    mixup = Mixup(MixupConfig(method="transmix", draw_seed=5, self_check=False, **settings))
    with Mixup(MixupConfig(method="cutmix", draw_seed=5, self_check=False, **settings))(model, batch) as cut:
        pixels, area = cut.inputs["pixel_values"], cut.lam
    with mixup(model, batch) as mixed:
        assert torch.equal(mixed.inputs["pixel_values"], pixels)
        assert torch.equal(mixed.lam, area)
        outputs = model(**mixed.inputs)
        loss = mixed.loss(outputs)
    attentions = model(pixels, output_attentions=True).attentions[-1].detach()
    kept = own_pixels(mixed, 16, 16)
    logits, labels, parts = model(pixels).logits, batch["labels"], []
    for row, other in enumerate(mixed.partner.tolist()):
        own = total = 0.0
        for y in range(2):
            for x in range(2):
                paid = float(attentions[row, :, 0, 1 + 2 * y + x].double().mean())
                own, total = own + paid * bool(kept[row, 8 * y + 4, 8 * x + 4]), total + paid
        weight = (float(area[row]) + own / total) / 2
        assert float(mixed.label_lam[row]) == pytest.approx(weight, abs=1e-6)
        scores = -logits[row].log_softmax(-1)
        parts.append(weight * scores[labels[row]] + (1 - weight) * scores[labels[other]])
    expected = torch.stack(parts).mean()
    torch.testing.assert_close(loss, expected)
    found = torch.autograd.grad(loss, list(model.parameters()))
    for one, other in zip(found, torch.autograd.grad(expected, list(model.parameters())), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(mixed.targets.sum(-1), torch.ones(6))
    dense = -(mixed.targets * outputs.logits.log_softmax(-1)).sum(-1).mean()
    torch.testing.assert_close(dense, loss)


def test_own_attention_by_hand_and_as_the_authors_count_on_whole_patches() -> None:
    generator = torch.Generator().manual_seed(0)
    paid = torch.rand(7, 3, 4, generator=generator)
    corners = torch.stack([torch.randint(0, 31, (7,), generator=generator) for _ in range(4)], -1)
    boxes = torch.cat([corners[:, :2].minimum(corners[:, 2:]), corners[:, :2].maximum(corners[:, 2:])], -1)
    found = own_attention(paid, boxes, 30, 36)
    for row, (top, left, bottom, right) in enumerate(boxes.tolist()):
        own = sum(
            float(paid[row, y, x])
            for y in range(3)
            for x in range(4)
            if not (top <= 10 * y + 5 < bottom and left <= 9 * x + 4.5 < right)
        )
        assert float(found[row]) == pytest.approx(own / float(paid[row].sum()), abs=1e-6)
    box = torch.tensor([10, 9, 30, 27])
    pixels = torch.zeros(1, 1, 30, 36)
    pixels[..., 10:30, 9:27] = 1
    pasted = F.interpolate(pixels, (3, 4), mode="nearest")[0]
    share = 1 - (pasted * paid).sum((1, 2)) / paid.sum((1, 2))
    torch.testing.assert_close(own_attention(paid, box, 30, 36), share)


def test_transmix_says_what_it_needs() -> None:
    batch = images(4)
    fused = build("vit").train()
    fused.set_attn_implementation("sdpa")
    for model in (fused, build("resnet").train()):
        with (
            Mixup(MixupConfig(method="transmix", self_check=False))(model, batch, lam=0.5) as mixed,
            pytest.raises(RuntimeError, match=r"returned no attention.*attn_implementation='eager'.*'cutmix'"),
        ):
            model(**mixed.inputs)
    model = looking()
    with Mixup(MixupConfig(method="transmix", self_check=False))(model, batch, lam=0.5) as mixed:
        logits = build("vit")(batch["pixel_values"])
        with pytest.raises(RuntimeError, match="did not pass the place where method 'transmix'"):
            mixed.loss(logits)


def test_transmix_leaves_plain_batches_alone() -> None:
    model, batch = looking(), images(4)
    mixup = Mixup(MixupConfig(method="transmix", self_check=False))
    with mixup(model, batch, lam=1.0) as plain:
        assert "output_attentions" not in plain.inputs
        loss = plain.loss(model(**plain.inputs))
    torch.testing.assert_close(loss, model(**batch).loss)
    for step in range(3):  # one batch after another, and the model by itself in between
        with mixup(model, images(4 + step, seed=step), lam=0.4) as mixed:
            mixed.loss(model(**mixed.inputs)).backward()
        assert model(batch["pixel_values"]).attentions is None


def test_transmix_in_a_compiled_model() -> None:
    model, batch = looking(), images(4)
    mixup = Mixup(MixupConfig(method="transmix", self_check=False, draw_seed=1))
    mixup.prepare(model)
    compiled = torch.compile(model, backend="eager")
    losses = []
    for run in (model, compiled):
        again = Mixup(MixupConfig(method="transmix", self_check=False, draw_seed=1))
        with again(run, batch) as mixed:
            losses.append(mixed.loss(run(**mixed.inputs)))
    torch.testing.assert_close(losses[0], losses[1])


@pytest.mark.parametrize("method", ["saliencymix", "attentive", "transmix"])
def test_training_with_a_guided_method(method: str, arguments: Any) -> None:
    rows = [{"pixel_values": x, "labels": int(y)} for x, y in zip(*images(8).values(), strict=True)]
    trainer = MixupTrainer(
        model=looking(), args=arguments(max_steps=3), train_dataset=rows, mixup={"method": method, "alpha": 2.0}
    )
    assert math.isfinite(trainer.train().training_loss)
