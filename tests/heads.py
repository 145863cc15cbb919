"""Tiny models whose heads are no plain classifiers, with a batch of four for each: answers, captions, pretraining."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import transformers as tr

from tests.streams import (
    FRAMES,
    IMAGE,
    SMALL,
    B,
    Batch,
    boxes,
    classes,
    git_captions,
    pixels,
    text,
    trocr,
    vilt_answers,
    whisper,
    words,
)

BERT: dict[str, Any] = {**SMALL, "vocab_size": 60}
LAYOUT: dict[str, Any] = {**BERT, "coordinate_size": 2, "shape_size": 4, "max_2d_position_embeddings": 64}
ENDS = {"bos_token_id": 1, "eos_token_id": 2, "sep_token_id": 2, "pad_token_id": 0}
LXMERT: dict[str, Any] = {
    **{"vocab_size": 60, "hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 32, "num_qa_labels": 6},
    **{"l_layers": 1, "x_layers": 1, "r_layers": 1, "visual_feat_dim": 12, "task_obj_predict": False},
}


def regions() -> Batch:
    return {"visual_feats": pixels(3, 12), "visual_pos": torch.rand(B, 3, 4)}


def seen() -> Batch:
    kinds = {"visual_attention_mask": torch.ones(B, 3), "visual_token_type_ids": torch.ones(B, 3, dtype=torch.long)}
    return {"visual_embeds": pixels(3, 12), **kinds}


def visual_bert_answers() -> tuple[Any, Batch]:
    """A divergence from soft answers."""
    scores = torch.rand(B, 5)
    model = tr.VisualBertForQuestionAnswering(tr.VisualBertConfig(**BERT, visual_embedding_dim=12, num_labels=5))
    return model, {**text(), **seen(), "labels": scores / scores.sum(-1, keepdim=True)}


def lxmert_answers() -> tuple[Any, Batch]:
    """One answer of as many as `num_qa_labels`, scored in an output of another name."""
    return tr.LxmertForQuestionAnswering(tr.LxmertConfig(**LXMERT)), {**text(), **regions(), "labels": classes(6)}


def page_spans() -> tuple[Any, Batch]:
    model = tr.LayoutLMv3ForQuestionAnswering(
        tr.LayoutLMv3Config(**LAYOUT, input_size=32, patch_size=8, max_position_embeddings=40)
    )
    ends = {"start_positions": torch.randint(0, 4, (B,)), "end_positions": torch.randint(4, 8, (B,))}
    return model, {**text(), "bbox": boxes(), "pixel_values": pixels(), **ends}


def splinter_spans() -> tuple[Any, Batch]:
    batch = text()
    batch["input_ids"][:, 2] = 3
    ends = {"start_positions": torch.randint(3, 5, (B,)), "end_positions": torch.randint(5, 8, (B,))}
    return tr.SplinterForQuestionAnswering(tr.SplinterConfig(**BERT, question_token_id=3)), {**batch, **ends}


def table_cells() -> tuple[Any, Batch]:
    """Cells of a table, and how to sum them up."""
    sizes = {"type_vocab_sizes": [3, 8, 8, 2, 2, 2, 2], "max_num_columns": 4, "max_num_rows": 4}
    types = torch.zeros(B, 8, 7, dtype=torch.long)
    types[:, 2:, 0], types[:, 2:, 1] = 1, torch.tensor([1, 2, 1, 2, 1, 2])
    types[:, 2:, 2] = torch.tensor([1, 1, 2, 2, 3, 3])
    cells = torch.zeros(B, 8, dtype=torch.long)
    cells[range(B), torch.randint(2, 8, (B,))] = 1
    model = tr.TapasForQuestionAnswering(tr.TapasConfig(**BERT, **sizes, num_aggregation_labels=3))
    return model, {**text(), "token_type_ids": types, "labels": cells, "aggregation_labels": classes(3)}


def next_sentence() -> tuple[Any, Batch]:
    return tr.BertForNextSentencePrediction(tr.BertConfig(**BERT)), {**text(), "labels": classes(2)}


def bert_pretraining() -> tuple[Any, Batch]:
    model = tr.BertForPreTraining(tr.BertConfig(**BERT))
    return model, {**text(), "labels": words(), "next_sentence_label": classes(2)}


def electra_pretraining() -> tuple[Any, Batch]:
    model = tr.ElectraForPreTraining(tr.ElectraConfig(**BERT, embedding_size=16))
    return model, {**text(), "labels": torch.randint(0, 2, (B, 8))}


def lxmert_pretraining() -> tuple[Any, Batch]:
    """Words, whether image and words match, and an answer, whose name does not say that it is a label."""
    asked = {"labels": words(), "matched_label": classes(2), "ans": classes(6)}
    return tr.LxmertForPreTraining(tr.LxmertConfig(**LXMERT)), {**text(), **regions(), **asked}


def visual_bert_pretraining() -> tuple[Any, Batch]:
    model = tr.VisualBertForPreTraining(tr.VisualBertConfig(**BERT, visual_embedding_dim=12))
    labels = torch.cat([words(), torch.full((B, 3), -100)], 1)
    return model, {**text(), **seen(), "labels": labels, "sentence_image_labels": classes(2)}


def two_heads() -> tuple[Any, Batch]:
    config = tr.GPT2Config(vocab_size=60, n_embd=16, n_layer=2, n_head=2, n_positions=32, num_labels=1)
    ids = torch.randint(5, 60, (B, 2, 8))
    asked = {"labels": ids.clone(), "mc_labels": classes(2)}
    return tr.GPT2DoubleHeadsModel(config), {"input_ids": ids, "mc_token_ids": torch.full((B, 2), 7), **asked}


def frames() -> tuple[Any, Batch]:
    """A class for each frame, given as one-hot floats of which the loss takes the largest."""
    model = tr.Wav2Vec2ForAudioFrameClassification(tr.Wav2Vec2Config(**FRAMES, num_labels=3))
    labels = torch.nn.functional.one_hot(torch.randint(0, 3, (B, 48)), 3).float()
    return model, {"input_values": pixels(800), "labels": labels}


def vectors() -> tuple[Any, Batch]:
    """Speakers told apart by a margin loss, whose logits are not those of its cross-entropy."""
    sizes = {"tdnn_dim": (8, 8), "tdnn_kernel": (3, 1), "tdnn_dilation": (1, 1), "xvector_output_dim": 8}
    config = tr.Wav2Vec2Config(**FRAMES, **sizes, num_labels=5)
    return tr.Wav2Vec2ForXVector(config), {"input_values": pixels(800), "labels": classes()}


def pix2struct() -> tuple[Any, Batch]:
    sizes = {"hidden_size": 16, "d_kv": 8, "d_ff": 32}
    ends = {"decoder_start_token_id": 0, "pad_token_id": 0, "eos_token_id": 1, "is_decoder": True}
    seen = {"patch_embed_hidden_size": 12, "num_hidden_layers": 2, "num_attention_heads": 2, "seq_len": 64}
    config = tr.Pix2StructConfig(
        text_config={**sizes, **ends, "vocab_size": 60, "num_layers": 2, "num_heads": 2}, vision_config=sizes | seen
    )
    places = torch.arange(1.0, 7.0)[None, :, None].expand(B, 6, 1)
    patches = torch.cat([places, torch.ones(B, 6, 1), pixels(6, 12)], -1)
    batch = {"flattened_patches": patches, "attention_mask": torch.ones(B, 6), "labels": words()}
    return tr.Pix2StructForConditionalGeneration(config), batch


def queried(kind: Any, config: Any, more: Batch) -> tuple[Any, Batch]:
    """A captioner that asks its image by four queries, whose answers stand in front of the words."""
    asks = {**SMALL, "encoder_hidden_size": 16, "vocab_size": 60}
    says = {"model_type": "opt", "vocab_size": 70, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    says |= {"ffn_dim": 32, "word_embed_proj_dim": 16, "max_position_embeddings": 64}
    model = kind(
        config(vision_config=IMAGE, qformer_config=asks, text_config=says, num_query_tokens=4, image_token_index=65)
    )
    torch.nn.init.normal_(model.query_tokens)  # zeros would be normalised
    ids = torch.cat([torch.full((B, 4), 65), words()], 1)
    labels = ids.clone()
    labels[:, :4] = -100
    return model, {
        "input_ids": ids,
        "attention_mask": torch.ones_like(ids),
        "pixel_values": pixels(),
        "labels": labels,
        **more,
    }


def blip2() -> tuple[Any, Batch]:
    return queried(tr.Blip2ForConditionalGeneration, tr.Blip2Config, {})


def instruct_blip() -> tuple[Any, Batch]:
    asked = {f"qformer_{key}": value for key, value in text(6).items()}
    return queried(tr.InstructBlipForConditionalGeneration, tr.InstructBlipConfig, asked)


def kosmos2() -> tuple[Any, Batch]:
    says = {"vocab_size": 60, "max_position_embeddings": 64, "embed_dim": 16, "layers": 2, "ffn_dim": 32}
    config = tr.Kosmos2Config(text_config={**says, "attention_heads": 2}, vision_config=IMAGE, latent_query_num=4)
    batch = text(14)
    labels, places = batch["input_ids"].clone(), torch.zeros(B, 14, dtype=torch.long)
    labels[:, :6], places[:, 2:6] = -100, 1
    more = {"image_embeds_position_mask": places, "pixel_values": pixels(), "labels": labels}
    return tr.Kosmos2ForConditionalGeneration(config), {**batch, **more}


def blip_answers() -> tuple[Any, Batch]:
    """An encoder and a decoder of words, whose scores the model does not return."""
    config = tr.BlipConfig(text_config={**BERT, **ENDS, "encoder_hidden_size": 16}, vision_config=IMAGE)
    answer = {"decoder_input_ids": words(5), "labels": words(5)}
    return tr.BlipForQuestionAnswering(config), {**text(), "pixel_values": pixels(), **answer}


Build = Callable[[], tuple[Any, Batch]]
EXACT: tuple[Build, ...] = (
    *(visual_bert_answers, vilt_answers, lxmert_answers, page_spans, splinter_spans, next_sentence),
    *(git_captions, pix2struct, blip2, instruct_blip, kosmos2, whisper, trocr, frames),
)
"""Those with a rule, or with a loss that may be taken of blended labels."""
OBJECTIVES: tuple[Build, ...] = (
    *(bert_pretraining, electra_pretraining, lxmert_pretraining, visual_bert_pretraining, vectors),
)
"""Those with an objective of their own, which is scored with each label on what the encoder said once."""
OWN_ONLY: tuple[Build, ...] = (*(table_cells, two_heads, blip_answers),)
"""Those for which only `loss="own"` is exact."""
