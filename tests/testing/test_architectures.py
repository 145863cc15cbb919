"""Tiny models of all architectures, and what can be mixed in them: a sample here, all of them under `slow`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from transformers import BertConfig, BertForSequenceClassification, GPT2Config, Qwen3NextConfig

from hf_mixup.cli import main
from hf_mixup.experiments.check import load, try_model
from hf_mixup.testing.batches import make_batch, real_tokens
from hf_mixup.testing.build import CannotBuild, build, shrink
from hf_mixup.testing.exchange import check_plain, plain_scores, score_error, try_exchange
from hf_mixup.testing.families import SCORED, architectures, classes
from hf_mixup.testing.survey.survey import Row, survey
from hf_mixup.testing.survey.table import COMMITTED, release_of, render, survey_all
from hf_mixup.utils.constants import IGNORE_INDEX

ALL = [(family, kind) for family in SCORED for kind in architectures(family)]
SPECIAL = [  # each pools, counts positions or is built in a way of its own
    ("sequence-classification", "gpt2"),  # the last token that is no padding
    ("sequence-classification", "bart"),  # where the text ends
    ("sequence-classification", "roberta"),  # positions counted from the ids
    ("sequence-classification", "xlnet"),  # rows on the second axis
    ("sequence-classification", "albert"),  # one block, run over and over
    ("sequence-classification", "funnel"),  # shorter from block to block
    ("token-classification", "canine"),  # letters
    ("causal-lm", "qwen3_next"),  # recurrent and attending blocks
    ("causal-lm", "git"),  # without labels it fills a cache, twice where layers are checkpointed
    ("causal-lm", "gemma3n_text"),  # a second table, read in each block
    ("seq2seq", "fsmt"),  # two vocabularies
]
SPREAD = 20
WIDE = (
    "sequence-classification",
    "token-classification",
    "question-answering",
    "multiple-choice",
    "causal-lm",
    "seq2seq",
    "image-classification",
    "video-classification",
    "audio-classification",
)


def evenly_spread() -> list[tuple[Any, str]]:
    """Return architectures at even distances in each family, as many as its share of all, one at least."""
    chosen = []
    for family in SCORED:
        kinds = architectures(family)
        count = max(1, round(SPREAD * len(kinds) / len(ALL)))
        chosen += [(family, kinds[((2 * place + 1) * len(kinds) - 1) // (2 * count)]) for place in range(count)]
    return chosen


SAMPLE = list(dict.fromkeys([*SPECIAL, *evenly_spread()]))
SAME_RELEASE = COMMITTED.exists() and release_of(COMMITTED.read_text(encoding="utf-8")) == transformers.__version__


def cells_of(text: str, family: str, kind: str) -> dict[str, str]:
    """Return the filled cells of an architecture in a table, by column."""
    lines = text.partition(f"## {family}\n")[2].partition("\n## ")[0].strip().splitlines()
    split = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    found = next(line for line in split if line[0] == kind)
    return {column: cell for column, cell in zip(split[0], found) if cell}


@pytest.mark.parametrize(("family", "kind"), SAMPLE, ids=str)
def test_sampled_architecture_mixes_rightly_or_refuses(family: Any, kind: str) -> None:
    row = survey(family, kind)
    assert not row.wrong
    if SAME_RELEASE:
        assert cells_of(render([row]), family, kind) == cells_of(COMMITTED.read_text(encoding="utf-8"), family, kind)


@pytest.mark.slow
def test_all_architectures_mix_rightly_or_refuses_as_the_table_says() -> None:
    rows = survey_all()
    assert not {(row.family, row.model_type): row.wrong for row in rows if row.wrong}
    for family in WIDE:
        mine = [row for row in rows if row.family == family and row.reason is None]
        for column, least in (("inputs", 0.98), ("embedding", 0.98), ("manifold", 0.95)):
            cells = [row.cells[column] for row in mine if column in row.cells]
            # Of a few architectures, one may be refused.
            assert sum(cell.startswith("yes") for cell in cells) >= min(least * len(cells), len(cells) - 1)
    if SAME_RELEASE:
        assert render(rows) == COMMITTED.read_text(encoding="utf-8")


def test_sample_has_thirty_of_all_families() -> None:
    assert len(SAMPLE) >= 30
    assert {family for family, _ in SAMPLE} == set(SCORED)


def test_families_are_the_mappings_of_transformers() -> None:
    assert classes("causal-lm")["gpt2"] == "GPT2LMHeadModel"
    assert all(architectures(family) for family in SCORED)
    with pytest.raises(ValueError, match="family='poetry' is none of sequence-classification"):
        classes("poetry")  # type: ignore[arg-type]


def test_shrinking_keeps_what_a_configuration_derives() -> None:
    config = shrink(Qwen3NextConfig())
    assert (config.vocab_size, config.hidden_size) == (100, 32)
    assert len(config.layer_types) == config.num_hidden_layers
    assert set(config.layer_types) == set(Qwen3NextConfig().layer_types)
    assert shrink(GPT2Config()).hidden_size % shrink(GPT2Config()).num_attention_heads == 0


def test_building_twice_gives_the_same_weights_and_rows_that_score_apart() -> None:
    one, other = (build("sequence-classification", "bert") for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters()))
    assert not one.training
    assert check_plain(one, make_batch("sequence-classification", one)) > 0


def test_what_cannot_be_built_is_named() -> None:
    with pytest.raises(CannotBuild, match="audio"):
        build("causal-lm", "musicgen")
    with pytest.raises(ValueError, match="'vit' is no architecture of causal-lm"):
        build("causal-lm", "vit")
    assert survey("causal-lm", "musicgen").reason is not None


@pytest.mark.parametrize("lengths", ["equal", "right", "left"])
def test_batches_pad_on_the_side_they_are_told(lengths: Any) -> None:
    model = build("token-classification", "bert")
    batch = make_batch("token-classification", model, samples=5, length=10, lengths=lengths)
    mask, pad = batch["attention_mask"], model.config.pad_token_id
    assert torch.equal(batch["input_ids"] == pad, mask == 0)
    assert (batch["labels"][mask == 0] == IGNORE_INDEX).all()
    assert ((batch["labels"] != IGNORE_INDEX).sum(-1) > 0).all()
    ends = {"equal": (1, 1), "right": (1, 0), "left": (0, 1)}[lengths]
    assert (int(mask[1, 0]), int(mask[1, -1])) == ends
    assert torch.equal(mask.bool(), real_tokens(5, 10, lengths))


def test_spans_lie_within_their_rows() -> None:
    batch = make_batch("question-answering", build("question-answering", "bert"), samples=6, lengths="left")
    rows = torch.arange(6)
    for key in ("start_positions", "end_positions"):
        assert batch["attention_mask"][rows, batch[key]].all()


def test_exchange_finds_a_model_that_mixes_wrongly(monkeypatch: pytest.MonkeyPatch) -> None:
    """A head that also reads a row's own ids is no longer what lam says, and must not pass."""
    model = build("sequence-classification", "bert")
    batch = make_batch("sequence-classification", model)
    assert try_exchange(model, batch, {"method": "embedding", "self_check": False}) == "exact"
    inner = model.forward

    def leaks(input_ids: torch.Tensor, **kwargs: Any) -> Any:
        outputs = inner(input_ids=input_ids, **kwargs)
        outputs["logits"] = outputs["logits"] + input_ids[:, :4] * 0.1
        return outputs

    monkeypatch.setattr(model, "forward", leaks)
    found = try_exchange(model, batch, {"method": "embedding", "self_check": False})
    assert found.startswith("WRONG: {'lam=0'")


def test_miss_is_a_share_of_the_difference_between_rows() -> None:
    plain = torch.tensor([[0.0, 0.0], [0.0, 4.0]])
    assert score_error(plain.flip(0), plain, plain) == 1
    assert score_error(plain + 1, plain, plain) == 0.25
    assert score_error(plain[:1], plain, plain) == float("inf")


def test_table_holds_cells_reasons_and_reach() -> None:
    rows = [
        Row("causal-lm", "a", "AForCausalLM", None, {"embedding": "yes", "manifold": "refused: lam=1: ValueError: so"}),
        Row("causal-lm", "b", "BForCausalLM", None, {"embedding": "no: lam=0 misses by 31%", "manifold": "yes"}),
        Row("causal-lm", "c", "CForCausalLM", "needs a library"),
    ]
    text = render(rows)
    assert "| causal-lm | 3 | 2 |  | 1 of 2 | 1 of 2 |" in text
    assert "| a | AForCausalLM | yes | refused | manifold: so |" in text
    assert "| b | BForCausalLM | no | yes | embedding: lam=0 misses |" in text  # the share differs by machine
    assert "| c | CForCausalLM |  |  | needs a library |" in text
    assert rows[1].wrong == {"embedding": "no: lam=0 misses by 31%"}
    assert not rows[0].wrong
    assert release_of(text) == transformers.__version__


# The command


def test_check_tries_a_model_type(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "bert"]) == 0
    shown = capsys.readouterr().out
    assert "BertForSequenceClassification, sequence-classification" in shown
    table, _, told = shown.partition("exact: ")
    assert table.count("exact") == 4
    assert "training would stop" in told


def test_check_tells_a_refusal_by_its_status(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "bert", "--method", "cutmix"]) == 2
    assert "refused" in capsys.readouterr().out


def test_check_loads_a_checkpoint(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    BertForSequenceClassification(shrink(BertConfig(), num_labels=3)).save_pretrained(tmp_path)
    assert main(["check", str(tmp_path), "--method", "embedding"]) == 0
    assert "BertForSequenceClassification, sequence-classification" in capsys.readouterr().out
    family, model = load(str(tmp_path), "token-classification")
    assert (family, type(model).__name__) == ("token-classification", "BertForTokenClassification")
    assert {found.verdict for found in try_model(family, model)} == {"exact"}
    assert torch.isfinite(plain_scores(model, make_batch(family, model))).all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["bert", "--method", "mixupp"], "did you mean 'mixup'"),
        (["bert", "--family", "causal"], "did you mean 'causal-lm'"),
        (["clip", "--family", "causal-lm"], "'clip' is no architecture of causal-lm: clip is in image-classification"),
        (["musicgen"], "no tiny model of 'musicgen' can be made"),
        ([], "the following arguments are required: model"),
    ],
)
def test_check_names_what_is_wrong(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", *arguments]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.skipif(not COMMITTED.exists(), reason="the table is not made yet")
def test_methods_shows_the_committed_table(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["methods", "--models"]) == 0
    assert capsys.readouterr().out == COMMITTED.read_text(encoding="utf-8")
