"""Tables and clips: their data, a network for tables, and runs with mixing."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from datasets import ClassLabel, Dataset, DatasetDict, Features, Image, List, Value
from torch.nn import functional as F
from transformers import AutoModel, PreTrainedModel

from hf_mixup import Mixup, MixupTrainer, cli
from hf_mixup.data import load_emoji
from hf_mixup.experiments.tasks import TaskArguments
from hf_mixup.experiments.tasks.data import load_splits
from hf_mixup.experiments.tasks.image import load_image_processor
from hf_mixup.experiments.tasks.prepare import prepare
from hf_mixup.experiments.tasks.tables import load_table
from hf_mixup.experiments.tasks.video import MOTIONS, VideoRows, _placed, emoji_video
from hf_mixup.tabular import TabularConfig, TabularMLP, TabularProcessor

MAE = {
    **{"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2},
    **{"patch_size": 8, "tubelet_size": 2},
}
TINY: dict[str, dict[str, Any]] = {
    "tabular-classification": {"model_type": "tabular-mlp", "config_overrides": {"hidden_size": 8}},
    "tabular-regression": {"model_type": "tabular-mlp", "config_overrides": {"hidden_size": 8}},
    "video-classification": {"model_type": "videomae", "config_overrides": MAE, "image_size": 16},
}


def small(task: str, **settings: Any) -> TaskArguments:
    sizes = {"max_train_samples": 24, "max_eval_samples": 12}
    return TaskArguments(**{"task": task, **TINY[task], **sizes, **settings})


def run(tmp_path: Path, task: str, *arguments: str, command: str = "train", **settings: Any) -> int:
    path, sizes = tmp_path / "c.yaml", {"max_train_samples": 24, "max_eval_samples": 12}
    training = {"max_steps": 2, "per_device_train_batch_size": 8, "use_cpu": True, "report_to": "none"}
    settings = {"task": task, **TINY[task], **sizes, **training, "output_dir": str(tmp_path / "out"), **settings}
    path.write_text(json.dumps(settings))
    return cli.main([command, str(path), *arguments])


def network(**settings: Any) -> TabularMLP:
    torch.manual_seed(0)
    return TabularMLP(TabularConfig(numerical_size=3, categorical_sizes=[4, 3], hidden_size=8, **settings)).eval()


def table(rows: int = 6) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    categories = torch.stack([torch.randint(0, size, (rows,), generator=generator) for size in (4, 3)], dim=1)
    return {"numerical_values": torch.randn(rows, 3, generator=generator), "categorical_values": categories}


# The network


def test_the_network_by_hand() -> None:
    model, batch = network(num_labels=2), table()
    weights = {name: value.double() for name, value in model.state_dict().items()}
    parts = [batch["numerical_values"].double()]
    parts += [weights[f"embeddings.{k}.weight"][batch["categorical_values"][:, k]] for k in range(2)]

    def norm(states: torch.Tensor, name: str) -> torch.Tensor:
        centred = states - states.mean(-1, keepdim=True)
        scaled = centred / (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt()
        return scaled * weights[f"{name}.weight"] + weights[f"{name}.bias"]

    def linear(states: torch.Tensor, name: str) -> torch.Tensor:
        return states @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]

    states = linear(torch.cat(parts, -1), "project")
    for block in range(3):
        hidden = linear(norm(states, f"blocks.{block}.norm"), f"blocks.{block}.up").clamp(min=0)
        states = states + linear(hidden, f"blocks.{block}.down")
    expected = linear(norm(states, "norm").clamp(min=0), "classifier")
    torch.testing.assert_close(model(**batch).logits.double(), expected, rtol=1e-4, atol=1e-5)


def test_the_network_is_a_model_of_transformers(tmp_path: Path) -> None:
    model, batch = network(num_labels=3), table()
    assert isinstance(model, PreTrainedModel)
    model.save_pretrained(tmp_path)
    again = AutoModel.from_pretrained(tmp_path).eval()
    assert torch.equal(again(**batch).logits, model(**batch).logits)
    labels = torch.tensor([0, 1, 2, 0, 1, 2])
    assert model(**batch, labels=labels).loss == F.cross_entropy(model(**batch).logits, labels)
    halves = model(**batch, labels=labels, num_items_in_batch=12).loss
    torch.testing.assert_close(2 * halves, model(**batch, labels=labels).loss)
    number = network(num_labels=1)
    torch.testing.assert_close(
        number(**batch, labels=labels.float()).loss, F.mse_loss(number(**batch).logits[:, 0], labels.float())
    )
    with pytest.raises(ValueError, match="numerical_values has 2 columns, and the model was made for 3"):
        model(numerical_values=torch.zeros(1, 2), categorical_values=batch["categorical_values"][:1])
    with pytest.raises(ValueError, match="a table needs a column"):
        TabularConfig(numerical_size=0)


@pytest.mark.parametrize("method", ["manifold", "features"])
def test_both_ends_are_exact_with_categories(method: str) -> None:
    model, batch, labels = network(num_labels=3), table(), torch.tensor([0, 1, 2, 0, 1, 2])
    partner, plain = torch.tensor([1, 2, 3, 4, 5, 0]), network(num_labels=3)(**table()).logits
    for lam, expected in ((1.0, plain), (0.0, plain[partner])):
        with Mixup(method)(model, {**batch, "labels": labels}, partner=partner, lam=lam) as mixed:
            torch.testing.assert_close(model(**mixed.inputs).logits, expected)
    with pytest.raises(TypeError, match="categorical_values"):  # identities are no amounts
        Mixup("mixup")(model, {**batch, "labels": labels}).__enter__()


def test_every_method_for_hidden_states_trains_a_table(arguments: Any) -> None:
    batch = table(8)
    rows = [{**{key: value[row] for key, value in batch.items()}, "labels": row % 3} for row in range(8)]
    for method in ("manifold", "features"):
        assert MixupTrainer(network(num_labels=3), arguments(max_steps=2), mixup=method, train_dataset=rows).train()


# Columns


def test_columns_are_scaled_and_numbered_as_learnt(tmp_path: Path) -> None:
    columns = {
        "size": [1.0, 2.0, None, 6.0],
        "same": [5, 5, 5, 5],
        "kind": ["b", "a", None, "b"],
        "on": [True, False] * 2,
    }
    fitted = TabularProcessor.fit(columns, ["size", "same"], ["kind", "on"], target=[10, 20, 30, 40])
    fitted.save_pretrained(tmp_path)
    for processor in (fitted, TabularProcessor.from_pretrained(tmp_path)):
        made = processor(columns)
        deviation = np.std([1, 2, 6])
        expected = [[(v - 3) / deviation if v else 0.0, 0.0] for v in (1, 2, None, 6)]
        np.testing.assert_allclose(made["numerical_values"], expected, rtol=1e-6)
        assert made["categorical_values"].tolist() == [[2, 2], [1, 1], [0, 2], [2, 1]]
        assert processor.categorical_sizes == [3, 3]
        new = processor({"size": [3], "same": [7], "kind": ["c"], "on": [None]})
        assert new["numerical_values"].tolist() == [[0.0, 2.0]]
        assert new["categorical_values"].tolist() == [[0, 0]]
        np.testing.assert_allclose(processor.scaled_target([25, 25 + np.std([10, 20, 30, 40])]), [0, 1], atol=1e-6)
    with pytest.raises(ValueError, match="the table has no column 'size': did you mean 'sizes'"):
        fitted({"sizes": [1.0]})
    with pytest.raises(ValueError, match="column 'kind' holds a value that is not a number"):
        TabularProcessor.fit(columns, ["kind"])
    with pytest.raises(ValueError, match="'none' holds no number: leave it out"):
        TabularProcessor.fit({"none": [None, None]}, ["none"])


def test_a_table_of_a_users_own(tmp_path: Path) -> None:
    lines = ["name,weight,species"] + [f"n{i % 2},{i + (i % 3) * 10},s{i % 3}" for i in range(30)]
    (tmp_path / "own.csv").write_text("\n".join(lines))
    own = {"dataset": str(tmp_path / "own.csv"), "label_column": "species"}
    prepared = prepare(small("tabular-classification", **own))
    row = prepared.train[0]
    assert (len(row["numerical_values"]), len(row["categorical_values"])) == (1, 1)
    assert prepared.splits.label_names == ["s0", "s1", "s2"]
    only = prepare(small("tabular-classification", **own, numerical_columns=["weight"], categorical_columns=[]))
    assert set(only.train[0]) == {"numerical_values", "labels"}
    for settings, message in (
        ({"numerical_columns": ["wieght"]}, "no column 'wieght': did you mean 'weight'"),
        ({"categorical_columns": ["species"]}, "column 'species' is the label"),
    ):
        with pytest.raises(ValueError, match=message):
            prepare(small("tabular-classification", **{**own, **settings}))
    with pytest.raises(ValueError, match="model_type='bert' takes no tables"):
        prepare(small("tabular-classification", **{**own, "model_type": "bert"})).build_model()
    with pytest.raises(ValueError, match="has no setting 'hidden_sise': did you mean 'hidden_size'"):
        prepare(small("tabular-classification", **own, config_overrides={"hidden_sise": 8})).build_model()


@pytest.mark.parametrize(("name", "rows"), [("wine", 178), ("breast_cancer", 569), ("digits", 1797), ("diabetes", 442)])
def test_tables_of_scikit_learn(name: str, rows: int) -> None:
    data = load_table(name)
    assert sum(map(len, data.values())) == rows
    assert data["test"][:] == load_table(name)["test"][:]
    if name == "diabetes":
        return
    shares = [np.bincount(split["label"]) / len(split) for split in data.values()]
    np.testing.assert_allclose(shares[0], shares[1], atol=0.02)


# Clips


def test_clips_move_as_their_class_says() -> None:
    """The middle of what is drawn, its size, and, of a bar, its direction."""
    image = np.full((32, 32, 3), 255, np.uint8)
    image[14:18, 6:26] = 0
    from PIL import Image

    bar = Image.fromarray(image)

    def drawn(x: float, y: float, turn: float, zoom: float) -> tuple[np.ndarray, float, float]:
        ink = 255.0 - np.asarray(_placed(bar, x, y, turn, zoom)).mean(-1)
        rows, columns = np.mgrid[:32, :32]
        middle = np.array([(ink * columns).sum(), (ink * rows).sum()]) / ink.sum()
        across, down = columns - middle[0], middle[1] - rows
        angle = 0.5 * np.arctan2(2 * (ink * across * down).sum(), (ink * (across**2 - down**2)).sum())
        return middle, float(np.rad2deg(angle)), ink.sum()

    middle, angle, ink = drawn(0, 0, 0, 1)
    np.testing.assert_allclose(middle, [15.5, 15.5], atol=0.1)
    assert angle == pytest.approx(0, abs=1)
    np.testing.assert_allclose(drawn(4, -3, 0, 1)[0] - middle, [4, -3], atol=0.2)
    assert drawn(0, 0, 30, 1)[1] == pytest.approx(30, abs=2)  # counterclockwise
    assert drawn(0, 0, 0, 0.7)[2] / ink == pytest.approx(0.49, abs=0.05)


def test_clips_of_the_splits() -> None:
    data, images = emoji_video(), load_emoji("image")
    for split, rows in data.items():
        counts = Counter(rows["label"])
        assert set(counts) == set(range(len(MOTIONS)))
        assert max(counts.values()) - min(counts.values()) <= 1
        assert set(rows["emoji"]) <= set(images[split]["emoji"])


def test_frames_are_spread_evenly(tmp_path: Path) -> None:
    from PIL import Image as PILImage

    greys = [[0, 10, 20, 30, 40, 50, 60], [90], [5, 6]]
    clips = [[PILImage.new("RGB", (8, 8), (grey,) * 3) for grey in clip] for clip in greys]
    features = Features({"video": List(Image()), "label": ClassLabel(names=["a", "b"])})
    rows = Dataset.from_dict({"video": clips, "label": [0, 1, 0]}, features=features)
    DatasetDict({"train": rows, "test": rows}).save_to_disk(str(tmp_path / "clips"))
    task = small("video-classification", dataset=str(tmp_path / "clips"), frames=4, validation_share=0.4)
    splits = load_splits(task)
    made = VideoRows(splits.tests["test"], load_image_processor(task), task)
    shown = [((row["pixel_values"][:, 0, 0, 0] + 1) * 127.5).round().int().tolist() for row in made]
    assert shown == [[0, 20, 40, 60], [90] * 4, [5, 5, 6, 6]]
    texts = Dataset.from_dict({"video": ["a.mp4"], "label": [0]}, Features(video=Value("string"), label=Value("int64")))
    texts.save_to_disk(str(tmp_path / "texts"))
    with pytest.raises(ValueError, match="expected lists of images: decode the videos first"):
        load_splits(small("video-classification", dataset=str(tmp_path / "texts")))


# Runs


@pytest.mark.parametrize("task", TINY)
def test_train_and_evaluate(task: str, tmp_path: Path) -> None:
    spoilt = {} if task == "tabular-regression" else {"label_noise": 0.2}
    method = "cmixup" if task == "tabular-regression" else "mixup"
    assert run(tmp_path, task, method=method, **spoilt) == 0
    scores = json.loads((tmp_path / "out" / "all_results.json").read_text())
    assert {"eval_loss", "test_mse" if task == "tabular-regression" else "test_nll"} <= set(scores)
    assert (tmp_path / "out" / "preprocessor_config.json").is_file()
    assert ("test_shifted_nll" in scores) == (task == "video-classification")
    again = TaskArguments(task=task, model=str(tmp_path / "out"), max_train_samples=8, max_eval_samples=4)
    prepared = prepare(again)
    assert prepared.build_model()(**prepared.collator([prepared.train[0], prepared.train[1]])).loss > 0


def test_compare_tables(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(tmp_path, "tabular-regression", "--methods", "none,cmixup,manifold", command="compare") == 0
    assert "test spearman" in (tmp_path / "out" / "table.md").read_text()
    assert run(tmp_path, "tabular-regression", "--methods", "smoothing", command="compare") == 2
    assert "tabular-regression has no single classes to smooth" in capsys.readouterr().err


def test_few_rows_a_class_of_a_table() -> None:
    assert len(prepare(small("tabular-classification", few_shot=3, max_train_samples=None)).train) == 9


def test_preview_of_videos(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    output = tmp_path / "mixed.png"
    assert run(tmp_path, "video-classification", "--output", str(output), command="preview") == 0
    assert output.stat().st_size > 10_000


@pytest.mark.parametrize(
    ("task", "method"),
    [("tabular-regression", "mixup"), ("tabular-classification", "tabular"), ("tabular-classification", "manifold")],
)
def test_preview_of_tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, task: str, method: str) -> None:
    """The mix is what the method makes of the two rows, in the units of the table."""
    pytest.importorskip("matplotlib")
    from hf_mixup.plots import row_pairs

    found: list[Any] = []

    def drawn(rows: list[Any], output: Path, title: str) -> Path:
        found.extend([title, rows])
        return row_pairs(rows, output, title=title)

    monkeypatch.setattr("hf_mixup.experiments.tasks.drawings.row_pairs", drawn)
    table = load_table("diabetes" if task == "tabular-regression" else "wine")["train"].to_pandas()
    if method != "mixup":
        table["size"] = np.where(np.arange(len(table)) % 2, "small", "large")
    table.to_csv(tmp_path / "rows.csv", index=False)
    flags = ("--output", str(tmp_path / "mixed.png"), "--method", method)
    assert run(tmp_path, task, *flags, command="preview", dataset=str(tmp_path / "rows.csv")) == 0
    title, rows = found
    assert title.endswith(": blended inside the model") == (method == "manifold")
    cells = [(row.lam, *cell) for row in rows for cell in row.cells]
    for lam, name, own, other, mixed in cells:
        if method == "manifold":
            assert mixed == ""
        elif name == "size":
            assert mixed in (own, other)
        else:
            assert float(mixed) == pytest.approx(lam * float(own) + (1 - lam) * float(other), rel=2e-3, abs=2e-4)
    if method != "mixup":
        assert {own for _, name, own, *_ in cells if name == "size"} <= {"small", "large"}
    known = {f"{value:.4g}" for value in table["label"]}
    assert {row.label for row in rows} <= known
    first = rows[0].cells[0]  # a number of the table
    assert float(first[1]) in [float(f"{value:.4g}") for value in table[first[0]]]


def test_columns_of_a_table_are_not_cut_as_if_they_were_a_audio() -> None:
    model = TabularMLP(TabularConfig(numerical_size=6, num_labels=3))
    batch = {"numerical_values": torch.rand(4, 6), "labels": torch.tensor([0, 1, 2, 0])}
    with pytest.raises(ValueError, match=r"numerical_values float32 \[4, 6\].*method='tabular'"):
        Mixup("cutmix")(model, batch)
