"""What each method adds to a training step, in time and memory: MixupTrainer against the plain Trainer, in one run.

    python tests/benchmarks/bench_step.py [--rounds 40] [--methods mixup cutmix] [--json cost.json]

Every method of the registry is measured on a small model that it fits. A step is a forward and a backward pass; that
of the optimizer, which mixing leaves alone, would only make the ratios smaller. All trainers of a model take turns;
the milliseconds added and the ratio are medians over turns, the latter with its quartiles. The memory is the most that
a step holds at a time, beyond weights and batch, as the allocator records it.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable
from functools import cache

import torch
from steps import Batch, compare, save, show
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from torch import nn
from transformers import (
    ASTConfig,
    ASTForAudioClassification,
    BertConfig,
    BertForSequenceClassification,
    BertForTokenClassification,
    CLIPConfig,
    CLIPModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
    ResNetConfig,
    ResNetForImageClassification,
    ViltConfig,
    ViltForQuestionAnswering,
    ViTConfig,
    ViTForImageClassification,
    Wav2Vec2Config,
    Wav2Vec2ForSequenceClassification,
)

from hf_mixup import Mixup, load_emoji
from hf_mixup.methods import METHODS
from hf_mixup.tabular import TabularConfig, TabularMLP

CLASSES = 9
MINILM = {"hidden_size": 384, "num_hidden_layers": 6, "num_attention_heads": 12, "intermediate_size": 1536}
SMALL = {"hidden_size": 192, "num_hidden_layers": 4, "num_attention_heads": 3, "intermediate_size": 768}
Made = tuple[nn.Module, Batch]


def emoji() -> Batch:
    """Return 64 of the bundled images [64, 3, 32, 32]."""
    from torchvision.transforms.v2.functional import pil_to_tensor

    rows = load_emoji("image")["train"].select(range(64))
    pixels = torch.stack([pil_to_tensor(image).float() / 127.5 - 1 for image in rows["image"]])
    return {"pixel_values": pixels, "labels": torch.tensor(rows["label"])}


def words(rows: int, length: int, vocabulary: int) -> Batch:
    ids = torch.randint(1000, vocabulary, (rows, length))
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}


def classes(rows: int) -> torch.Tensor:
    return torch.randint(CLASSES, (rows,))


def resnet() -> Made:
    config = ResNetConfig(
        num_labels=CLASSES, layer_type="basic", depths=[1, 1, 1], hidden_sizes=[32, 64, 128], embedding_size=32
    )
    return ResNetForImageClassification(config), emoji()


def vit() -> Made:
    config = ViTConfig(**SMALL, image_size=32, patch_size=4, num_labels=CLASSES, attn_implementation="eager")
    return ViTForImageClassification(config), emoji()


def bert() -> Made:
    model = BertForSequenceClassification(BertConfig(**MINILM, num_labels=CLASSES))
    return model, {**words(16, 32, 30000), "labels": classes(16)}


def bert_of_tokens() -> Made:
    batch = words(16, 32, 30000)
    labels = torch.randint(CLASSES, batch["input_ids"].shape)
    labels[:, ::3] = -100  # as of the later pieces of a word
    return BertForTokenClassification(BertConfig(**MINILM, num_labels=CLASSES)), {**batch, "labels": labels}


def bert_of_numbers() -> Made:
    model = BertForSequenceClassification(BertConfig(**MINILM, num_labels=1, problem_type="regression"))
    return model, {**words(16, 32, 30000), "labels": torch.randn(16)}


def llama() -> Made:
    batch = words(16, 64, 16000)
    labels = batch["input_ids"].clone()
    labels[:, :32] = -100  # the question
    config = LlamaConfig(**MINILM, vocab_size=16384, tie_word_embeddings=True)
    return LlamaForCausalLM(config), {**batch, "labels": labels}


def wav2vec2() -> Made:
    config = Wav2Vec2Config(**SMALL, conv_dim=[64] * 7, mask_time_prob=0.0, layerdrop=0.0, num_labels=CLASSES)
    return Wav2Vec2ForSequenceClassification(config), {"input_values": torch.randn(16, 16000), "labels": classes(16)}


def ast() -> Made:
    config = ASTConfig(**SMALL, max_length=100, num_labels=CLASSES)
    return ASTForAudioClassification(config), {"input_values": torch.randn(16, 100, 128), "labels": classes(16)}


def mlp() -> Made:
    config = TabularConfig(numerical_size=10, categorical_sizes=[20] * 5, hidden_size=256, num_labels=CLASSES)
    columns = {"numerical_values": torch.randn(256, 10), "categorical_values": torch.randint(20, (256, 5))}
    return TabularMLP(config), {**columns, "labels": classes(256)}


@cache
def vilt() -> Made:
    size = {"hidden_size": 384, "num_hidden_layers": 12, "num_attention_heads": 6, "intermediate_size": 1536}
    config = ViltConfig(**size, vocab_size=2000, num_labels=CLASSES, image_size=224, patch_size=16, max_image_length=-1)
    batch = {"pixel_values": torch.randn(8, 3, 224, 224), **words(8, 32, 2000)}
    return ViltForQuestionAnswering(config), {**batch, "labels": torch.eye(CLASSES)[classes(8)]}


def tokenizer() -> PreTrainedTokenizerFast:
    """Return one that knows where the captions of `clip` end, as joining them asks."""
    vocabulary = Tokenizer(WordLevel({str(number): number for number in range(2000)}, unk_token="1"))
    return PreTrainedTokenizerFast(tokenizer_object=vocabulary, pad_token="0", bos_token="1998", eos_token="1999")


def clip() -> Made:
    tower = {"hidden_size": 128, "intermediate_size": 256, "num_hidden_layers": 4, "num_attention_heads": 4}
    text = {**tower, "vocab_size": 2000, "bos_token_id": 1998, "eos_token_id": 1999}
    vision = {**tower, "image_size": 32, "patch_size": 8}
    batch = words(64, 24, 1990)
    batch["input_ids"][:, -1] = 1999
    model = CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=64))
    return model, {"pixel_values": torch.randn(64, 3, 32, 32), **batch, "return_loss": True}


MODELS: dict[str, tuple[str, Callable[[], Made]]] = {
    "images": ("ResNet, 64 images of 32 x 32", resnet),
    "patches": ("ViT (eager attention), 64 images of 32 x 32", vit),
    "texts": ("BERT of MiniLM's size, 16 texts of 32 tokens", bert),
    "numbers": ("BERT of MiniLM's size, regression", bert_of_numbers),
    "tokens": ("BERT of MiniLM's size, labels of tokens", bert_of_tokens),
    "responses": ("Llama of MiniLM's size, 16 texts of 64 tokens", llama),
    "waveforms": ("wav2vec 2.0, 16 audio clips of 1 s", wav2vec2),
    "spectrograms": ("AST, 16 spectrograms of 1 s", ast),
    "tables": ("TabularMLP, 256 rows", mlp),
    "pairs": ("CLIP, 64 pairs", clip),
    "questions": ("ViLT of ViT-S's size, 8 images of 224 x 224 with 32 words", vilt),
}
# Methods for pairs are measured on pairs, others on images, but for these.
ELSEWHERE: dict[str, tuple[str, ...]] = {
    "mixup": ("images", "questions"),
    "cross_modal": ("pairs", "questions"),
    "patchmix": ("patches",),
    "attentive": ("patches",),
    "transmix": ("patches",),
    "gaussian": ("images", "texts"),
    "adversarial": ("images", "texts"),
    "manifold": ("images", "texts"),
    "features": ("images", "texts"),
    "sentence": ("images", "texts"),
    "embedding": ("texts",),
    "span_cut": ("texts",),
    "ssmix": ("texts",),
    "cmixup": ("numbers",),
    "intra": ("tokens",),
    "sftmix": ("responses",),
    "between_class": ("waveforms",),
    "specmix": ("spectrograms",),
    "tabular": ("tables",),
}
ATTACKS = {"images": "pgd", "texts": "freelb"}  # of several steps, beside the one step of the default


WHY = (
    "Most of what mixing adds is the same few milliseconds on a CPU whatever the model, small operations with cold\n"
    "caches: it shows on a step of 30 ms and vanishes on one of 400 ms. Adversarial methods pay for a forward and a\n"
    "backward pass a step of the attack (freelb: one less; network: its own), and for a training pass over two halves\n"
    "(freelb: one copy of the batch a step). mixgen pays for captions of twice the length."
)


def methods_on(place: str, chosen: Iterable[str]) -> dict[str, Mixup]:
    """Return what is measured on a model, by name."""
    found = {}
    for name in chosen:
        mixup = Mixup(name, tokenizer=tokenizer())
        usual = "pairs" if mixup.method.for_pairs else "images"
        if place in ELSEWHERE.get(name, (usual,)):
            found[name] = mixup
    if "adversarial" in found:
        attack = ATTACKS[place]
        for each in (attack, "network"):
            found[f"adversarial {each}"] = Mixup({"method": "adversarial", "attack": each})
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS), metavar="METHOD")
    parser.add_argument("--json", metavar="PATH", help="write the figures here, too")
    arguments = parser.parse_args()
    torch.manual_seed(0)
    rows = []
    for place, (label, build) in MODELS.items():
        if methods := methods_on(place, arguments.methods):
            found = compare(label, *build(), methods, arguments.rounds)
            show(found, label)
            rows += found
    if arguments.json:
        save(rows, arguments.json)
    print(WHY)


if __name__ == "__main__":
    main()
