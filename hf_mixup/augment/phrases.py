"""Phrases of a caption: finding them, and taking them out together with what joined them to the rest."""

from __future__ import annotations

import re

_AND = r"(?:and|or|&)"
_LIST = rf"(?:\s*[,;]\s*{_AND}\s+|\s*[,;]\s*|\s+{_AND}\s+)"  # what joins the members of a list
_GOVERNS = (  # words that say nothing without the phrase behind them
    "(?:next to|close to|in front of|on top of|with|without|in|on|at|of|by|near|beside|behind|under|over|above|below|to"
    "|from|into|onto|around|through|against|along|holding|wearing|carrying|riding)"
)
_WHERE = (  # a place in the image, which goes with what is seen there
    r"(?:\s+(?:on|to|at|in)\s+the\s+(?:(?:far|very|top|bottom|upper|lower)[- ])?"
    r"(?:left|right|top|bottom|middle|cent(?:er|re)|front|back|foreground|background)(?:[- ]hand)?"
    r"(?:\s+(?:side|corner))?(?=\s*[,;.!?]|\s*$|\s+(?:and|or|with|in|on|near|next|behind|is|are)\b))?"
)


def has_phrase(text: str, phrase: str) -> bool:
    """Tell whether a text contains a phrase as whole words, in any case.

    >>> has_phrase("A dog and a cat", "a Cat"), has_phrase("A dog and a cat", "do")
    (True, False)
    """
    return re.search(_whole(phrase), text, re.IGNORECASE) is not None


def drop_phrase(text: str, phrase: str) -> str:
    """Take a phrase out of a caption wherever it occurs, with the comma, "and" or preposition that joined it.

    A place in the image behind it ("on the left") goes too. Lists and prepositions come out clean; no grammar is
    known beyond these: without its object, "throws a ball" leaves "throws". An empty string, or punctuation alone, is
    left where there was nothing else.

    >>> drop_phrase("A man, a dog and a red ball", "a dog")
    'A man, a red ball'
    >>> drop_phrase("A man with a hat on a beach", "a man"), drop_phrase("A man with a hat on a beach", "a hat")
    ('A hat on a beach', 'A man on a beach')
    """
    if not has_phrase(text, phrase):
        return text
    body, shortened = _whole(phrase) + _WHERE, text
    for pattern in (
        rf"\s*[,;]?\s+{_AND}\s+{body}",  # ... and PHRASE
        rf"\s+{_GOVERNS}\s+{body}(?=\s*,(?!\s*{_AND}\b))",  # ... with PHRASE, ...
        rf"{body}{_LIST}(?=\w)",  # PHRASE, ...
        rf"{_LIST}{body}",  # ..., PHRASE
        rf"^{body}\s+{_GOVERNS}\s+(?=\w)",  # PHRASE with ...
        rf"(?:\s+|^){_GOVERNS}\s+{body}",  # ... with PHRASE
        body,
    ):
        shortened = re.sub(pattern, "", shortened, flags=re.IGNORECASE)
    return _tidy(shortened, capital=text.lstrip()[:1].isupper())


def has_words(text: str) -> bool:
    """Tell whether anything but punctuation is left."""
    return re.search(r"\w", text) is not None


def _whole(phrase: str) -> str:
    """Whole words; any white space between them is as good as any other."""
    words = r"\s+".join(map(re.escape, phrase.split()))
    return rf"(?<!\w){words}(?!\w)"


def _tidy(text: str, capital: bool) -> str:
    text = re.sub(r"\s+", " ", text).strip(" ,;")
    text = re.sub(r" (?=[.,;:!?])", "", text)
    text = re.sub(r"(?<!\.)\.\.(?!\.)", ".", text)  # of two sentences, one is gone
    return text[:1].upper() + text[1:] if capital else text
