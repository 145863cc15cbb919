"""Directions, colours and shades in texts, and taking phrases out of them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hf_mixup.augment import (
    mirror_words,
)
from hf_mixup.augment.phrases import drop_phrase
from hf_mixup.augment.words import names_color, names_shade
from hf_mixup.data import load_emoji


@pytest.mark.parametrize(
    ("text", "mirrored"),
    [
        ("", ""),
        ("a bright cat", "a bright cat"),
        ("a cat to the left of a dog", "a cat to the right of a dog"),
        ("Left LEFT left, right. Right RIGHT", "Right RIGHT right, left. Left LEFT"),
        ("leftmost rightward leftwards right-hand left-handed", "rightmost leftward rightwards left-hand right-handed"),
        ("Clockwise vertical arrows", "Counterclockwise vertical arrows"),
        ("COUNTERCLOCKWISE anti-clockwise anticlockwise", "CLOCKWISE clockwise clockwise"),
        (":arrow_left: down-right", ":arrow_right: down-left"),
        ("left-right arrow", "right-left arrow"),
        ("the dog has left and right collars", "the dog has right and left collars"),
        ("he has left hand raised, his right eye shut", "he has right hand raised, his left eye shut"),
        ("the dog is left of the cat", "the dog is right of the cat"),
        ("on the right behind a bench", "on the left behind a bench"),
        ("Left or right?", "Right or left?"),
        ("right away on the right", "right away on the left"),
    ],
)
def test_mirror_words(text: str, mirrored: str) -> None:
    assert mirror_words(text) == mirrored


@pytest.mark.parametrize(
    "text",
    [
        "bright brightness copyright upright outright alright forthright fright wright righteous rights rightful",
        "leftover leftovers left over left-overs cleft lefty",
        "right away, all right, right now, a right angle, right-angled, a right triangle, a right whale",
        "human rights, every human right, the right to vote, the right of way, the right tool",
        "he has left, they've left home, she had just left, they have already left the room, nothing left",
        "one slice left, two minutes left.",
        "a house right behind the tree, right in the middle, right next to it",
        "a bag left behind, left alone, left unattended; the left luggage office",
        "left-wing and right-wing, right-click, That's right, it works, right?",
    ],
)
def test_mirror_words_leaves_what_is_no_direction(text: str) -> None:
    assert mirror_words(text) == text
    assert mirror_words(text.upper()) == text.upper()


WORDS = st.sampled_from(
    ["left", "Right", "RIGHT", "leftmost", "Rightwards", "left-hand", "clockwise", "Counterclockwise", "bright",
     "right away", "all right", "has left", "copyright", "leftovers", "right angle", "dog", "é", "42"]
)  # fmt: skip


@given(st.lists(WORDS))
def test_mirroring_words_twice_gives_them_back(words: list[str]) -> None:
    text = " seen; ".join(words)
    assert mirror_words(mirror_words(text)) == text


@given(st.lists(WORDS))
def test_mirror_words_is_a_loop_over_words(words: list[str]) -> None:
    table = {"left": "right", "leftmost": "rightmost", "left-hand": "right-hand", "Leftwards": "Rightwards"}
    table |= {"Left": "Right", "LEFT": "RIGHT", "clockwise": "counterclockwise", "Clockwise": "Counterclockwise"}
    table |= {right: left for left, right in table.items()}
    assert mirror_words(" seen; ".join(words)) == " seen; ".join(table.get(word, word) for word in words)


@given(st.text())
def test_mirror_words_touches_nothing_else(text: str) -> None:
    lower = text.lower()
    if not any(word in lower for word in ("left", "right", "clockwise")):
        assert mirror_words(text) == text


def test_mirror_words_of_the_real_captions() -> None:
    data = load_emoji("image-text")["train"]
    captions = sorted(set(data["caption"]))
    changed = {caption: mirror_words(caption) for caption in captions if mirror_words(caption) != caption}
    assert changed["right-facing fist"] == "left-facing fist"
    assert "bright button" not in changed
    assert "left luggage" not in changed
    assert all(mirror_words(mirrored) == caption for caption, mirrored in changed.items())
    named = {caption for caption in captions if {"left", "right"} & set(caption.replace("-", " ").split())}
    assert named - set(changed) <= {"left luggage"}


def test_names_color_and_shade() -> None:
    for text in (
        "a RED ball",
        "two reds",
        "a reddish sky",
        "red-haired",
        "blonde",
        "golden",
        "orange juice",
        "colourful",
    ):
        assert names_color(text), text
    for text in ("a bored cat", "a hundred", "tangled", "greenhouse", "a cat", "", "goldfish"):
        assert not names_color(text), text
    for text in ("a dark street", "the darkest", "brightly lit", "at night", "white"):
        assert names_shade(text), text
    for text in ("a red ball", "a delight", "darkroom", "a knight"):
        assert not names_shade(text), text


@pytest.mark.parametrize(
    ("text", "phrase", "rest"),
    [
        ("A man and a woman", "a man", "A woman"),
        ("A man and a woman", "a woman", "A man"),
        ("A man, a dog and a red ball", "a man", "A dog and a red ball"),
        ("A man, a dog and a red ball", "a dog", "A man, a red ball"),
        ("A man, a dog and a red ball", "a red ball", "A man, a dog"),
        ("A man, a dog, and a red ball.", "a dog", "A man, a red ball."),
        ("On a beach, a man and a dog", "a man", "On a beach, a dog"),
        ("A dog on a couch", "A dog", "A couch"),
        ("A dog on a couch", "a couch", "A dog"),
        ("a man wearing a hat and a coat", "a hat", "a man wearing a coat"),
        ("A cat next to a dog, sleeping", "a dog", "A cat, sleeping"),
        ("Two dogs. A cat.", "a cat", "Two dogs."),
        ("a (big) dog & a cat", "a (big) dog", "a cat"),
        ("hot dogs and a dog", "dog", "hot dogs and a"),
        ("a dog", "a dog", ""),
        ("a dog", "a cat", "a dog"),
        ("A dog on the far left and a cat in the background", "a dog", "A cat in the background"),
        ("A dog on the far left and a cat in the background", "a cat", "A dog on the far left"),
        ("A dog on the left of a house", "a dog", "The left of a house"),
        ("A man and a cat on the left wing of a plane", "a cat", "A man on the left wing of a plane"),
    ],
)
def test_drop_phrase(text: str, phrase: str, rest: str) -> None:
    assert drop_phrase(text, phrase) == rest
