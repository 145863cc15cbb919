"""The model card: what stands in it, that it can be published, and that its lines run."""

from __future__ import annotations

import importlib
import os
from pathlib import Path
from typing import Any

import pytest
import yaml
from huggingface_hub import ModelCard
from transformers import Trainer, TrainingArguments

from hf_mixup import MixupConfig, MixupTrainer
from hf_mixup.integrations.card_usage import PIPELINES, usage
from hf_mixup.integrations.whole_card import write_card
from hf_mixup.testing.build import build

SCORES = {"validation": {"accuracy": 0.5, "nll": None, "f1": None}, "test": {"accuracy": 0.25, "nll": float("nan")}}


@pytest.fixture
def trainer(tmp_path: Path) -> MixupTrainer:
    args = TrainingArguments(str(tmp_path / "flowers"), use_cpu=True, report_to="none", learning_rate=0.125)
    return MixupTrainer(build("image-classification", "vit"), args, mixup=MixupConfig("cutmix", alpha=0.5))


def card_of(trainer: Trainer) -> ModelCard:
    """The card, whose metadata is read and checked by huggingface_hub."""
    return ModelCard.load(Path(str(trainer.args.output_dir), "README.md"))


def test_a_card_to_publish(trainer: MixupTrainer) -> None:
    first, last = ({"eval_accuracy": each, "eval_runtime": 3.0, "epoch": 1.0} for each in (0.125, 0.75))
    trainer.state.log_history = [
        first,
        {"train_runtime": 1.0},
        last,
        {"eval_far_accuracy": 0.25, "eval_far_runtime": 3.0},
    ]
    trainer.create_model_card(
        "en", license="mit", finetuned_from="google/vit-base", dataset="Flowers", dataset_tags="me/flowers"
    )
    card = card_of(trainer)
    data = card.data.to_dict()
    assert (data["language"], data["license"], data["base_model"]) == ("en", "mit", "google/vit-base")
    assert (data["datasets"], data["pipeline_tag"], data["library_name"]) == (
        ["me/flowers"],
        "image-classification",
        "transformers",
    )
    assert {"hf-mixup", "cutmix", "generated_from_trainer"} <= set(data["tags"])
    score, other = card.data.eval_results
    assert (other.dataset_split, other.metric_value) == ("far", 0.25)
    assert (score.metric_type, score.metric_value, score.dataset_type, score.dataset_name) == (
        *("accuracy", 0.75),
        *("me/flowers", "Flowers"),
    )
    assert "fine-tuned from [google/vit-base](https://huggingface.co/google/vit-base) on Flowers." in card.text
    assert "| learning\\_rate | 0.125 |" in card.text
    assert "| alpha | 0.5 |" in card.text
    assert "https://arxiv.org/abs/1905.04899" in card.text
    assert "- hf-mixup " in card.text
    assert "More information needed" not in card.text


def test_scores_of_every_split(trainer: MixupTrainer) -> None:
    write_card(trainer, None, SCORES, dataset="Flowers", settings="alpha: 1.0")
    card = card_of(trainer)
    assert "| validation | 0.5 | - |\n| test | 0.25 | - |\n" in card.text
    assert {each.dataset_split: each.metric_value for each in card.data.eval_results} == {
        "validation": 0.5,
        "test": 0.25,
    }
    assert "```yaml\nalpha: 1.0\n```" in card.text
    assert "Mixup training" not in card.text
    assert "hf-mixup" not in card.data.tags


def test_no_path_is_shown_and_names_from_outside_are_escaped(trainer: MixupTrainer, tmp_path: Path) -> None:
    trainer.model.config._name_or_path = str(tmp_path)
    hostile = 'a|b <script>\n# "x": [y](z)'
    write_card(trainer, trainer.mixup.config, {hostile: {hostile: 0.5}}, dataset=hostile, license=hostile)
    card = card_of(trainer)
    assert str(tmp_path) not in str(card)
    assert os.sep + "tmp" not in str(card)
    assert "fine-tuned from a local checkpoint on a\\|b \\<script\\> \\# " in card.text
    assert "<script>" not in card.text.replace("\\<script\\>", "")
    assert card.text.count("\n# ") + card.text.startswith("# ") == 1
    assert card.data.license == hostile
    assert card.data.eval_results[0].metric_type == hostile


def test_a_folder_of_images_is_no_dataset_of_the_hub(trainer: MixupTrainer) -> None:
    trainer.create_model_card(dataset_tags=["imagefolder"])
    assert card_of(trainer).data.datasets is None


def test_a_card_of_another_class_is_kept(tmp_path: Path) -> None:
    class Own(MixupTrainer):
        def create_model_card(self, *args: Any, **kwargs: Any) -> None:
            Path(self.args.output_dir, "README.md").write_text("---\nlicense: mit\n---\n\n# Mine\n")

    args = TrainingArguments(str(tmp_path), use_cpu=True, report_to="none")
    trainer = Own(build("image-classification", "vit"), args, mixup="cutmix")
    trainer.create_model_card()
    card = card_of(trainer)
    assert card.text.lstrip().startswith("# Mine\n\n## Mixup training")
    assert "cutmix" in card.data.tags


# How to use it


def test_pipelines_are_those_of_transformers() -> None:
    from transformers.pipelines import SUPPORTED_TASKS

    assert PIPELINES.keys() <= SUPPORTED_TASKS.keys()


def test_without_a_pipeline_the_classes_load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = build("next-sentence-prediction", "bert")
    model.save_pretrained(tmp_path / "mine")
    monkeypatch.chdir(tmp_path)
    found: dict[str, Any] = {}
    exec(usage(model, None, "mine", None), found)
    assert type(found["model"]) is type(model)
    assert usage(object(), None, "mine", None) == ""


def test_settings_of_a_card_repeat_the_run(tmp_path: Path) -> None:
    from hf_mixup.experiments.tasks import TaskArguments
    from hf_mixup.experiments.tasks.card import write_card as write

    args = TrainingArguments(str(tmp_path / "out"), use_cpu=True, report_to="none", max_steps=3, seed=5)
    data = tmp_path / "rows.csv"
    data.write_text("text,label\n")
    task = TaskArguments(task="text-classification", dataset=str(data), label_column="kind")
    write(Trainer(build("sequence-classification", "bert"), args), task, MixupConfig("embedding", alpha=0.25), SCORES)
    card = ModelCard.load(tmp_path / "out" / "README.md")
    settings = yaml.safe_load(card.text.split("```yaml\n")[1].split("```")[0])
    assert settings == {
        **{"task": "text-classification", "dataset": "rows.csv", "label_column": "kind"},
        **{"method": "embedding", "alpha": 0.25, "max_steps": 3, "seed": 5},
    }
    assert str(tmp_path) not in str(card)
    assert card.data.pipeline_tag == "text-classification"


def http_of_the_hub() -> Any:
    """The package that huggingface_hub sends requests with: httpx, or its successor."""
    from huggingface_hub.errors import HTTPError

    return importlib.import_module(HTTPError.__module__.partition(".")[0])


def test_language_and_license_come_from_the_settings(tmp_path: Path) -> None:
    from hf_mixup.experiments.tasks import TaskArguments
    from hf_mixup.experiments.tasks.card import write_card as write

    args = TrainingArguments(str(tmp_path / "out"), use_cpu=True, report_to="none")
    task = TaskArguments(task="text-classification", language="en", license="apache-2.0")
    write(Trainer(build("sequence-classification", "bert"), args), task, MixupConfig("embedding"), SCORES)
    data = ModelCard.load(tmp_path / "out" / "README.md").data
    assert (data.language, data.license) == (["en"], "apache-2.0")


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--language", "English"), "language='English': expected a code of ISO 639 such as en, or multilingual"),
        (("--license", "Apache 2.0"), "license='Apache 2.0': expected an id such as apache-2.0, see https://hugging"),
        (("--license", "apche-2.0"), "the Hub takes no card with license='apche-2.0': \"license\" must be one of"),
    ],
)
def test_what_the_hub_does_not_take_is_refused_before_training(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    flags: tuple[str, str],
    message: str,
) -> None:
    """The Hub is played; a license that is not there is answered as it does."""
    from hf_mixup import cli

    http = http_of_the_hub()

    class Hub:
        def post(self, address: str, **request: Any) -> Any:
            assert "license: apche-2.0" in request["json"]["content"]
            told = '"license" must be one of [apache-2.0, mit, other]'
            return http.Response(400, text=told, request=http.Request("POST", address))

    monkeypatch.setattr("huggingface_hub.repocard.get_session", Hub)
    for command in ("train", "compare"):
        output = str(tmp_path / command)
        data = ("--task", "tabular-classification", "--dataset", "wine", "--use_cpu", "--report_to", "none")
        assert cli.main([command, *data, "--output_dir", output, *flags]) == 2
        shown = capsys.readouterr().err
        assert message in shown
        assert "https://huggingface.co/docs/hub/repositories-licenses" in shown or flags[0] == "--language"
        assert not Path(output, "model.safetensors").exists()


def test_without_the_hub_only_the_form_is_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    from hf_mixup.experiments.tasks import TaskArguments
    from hf_mixup.experiments.tasks.card import check_card

    http = http_of_the_hub()

    class Nobody:
        def post(self, address: str, **request: Any) -> Any:
            raise http.ConnectError("no network")

    monkeypatch.setattr("huggingface_hub.repocard.get_session", Nobody)
    check_card(TaskArguments(language=["de", "zh-Hant"], license="newest-1.0"))
