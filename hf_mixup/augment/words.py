"""Words that a change of the image makes false: directions in a mirror, colours under a jitter."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache

_PARTNER = {
    "left": "right",
    "leftmost": "rightmost",
    "leftward": "rightward",
    "leftwards": "rightwards",
    "lefthand": "righthand",
    "lefthanded": "righthanded",
}
_PARTNER |= {right: left for left, right in _PARTNER.items()}
_TURNING = r"(?:counter|anti)[- ]?clockwise|clockwise"

# "right behind" means "directly behind", but not in "on the right behind the bench" or "looking right through ..."
_BEFORE_A_PLACE = (
    "the on to from and or far up down top bottom upper lower turn turns turning look looks looking face faces facing "
    "point points pointing lean leans leaning go goes going his her its their my your"
)
_NOT_A_PLACE = "".join(rf"(?<!\b{word}[ -])" for word in _BEFORE_A_PLACE.split())
_HAS_SIDES = (
    "hand arm leg foot eye ear cheek side shoulder elbow wrist knee thigh ankle thumb fist finger index paw wing claw "
    "hoof shoe boot sock glove sleeve pocket lane turn"
).replace(" ", "|")
_COUNTED = (
    "nothing anything something none one two few little much time minutes? hours? days? years? pieces? slices?"
).replace(" ", "|")

_NO_DIRECTION = (
    _NOT_A_PLACE
    + r"right (?:away|now|here|there|before|after|behind|beside|next to|in front of|in the middle|into|out of|through)",
    r"all right|just right|that['\u2019]s right|serves? \w+ right|(?<=, )right(?=\?)",
    r"right[- ]angle[ds]?|right triangles?|right whales?|right[- ]of[- ]way|alt-right",
    r"right to (?:vote|work|know|life|live|privacy|protest|bear arms|remain silent)",
    r"(?:human|civil|legal|equal|voting|moral|animal|divine) right",
    r"(?:the|a) right (?:way|thing|answer|choice|time|place|moment|size|decision|amount|tools?|person|stuff)",
    r"(?:left|right)-wing|(?:left|right)[- ]click",
    r"left[- ]luggage|" + _NOT_A_PLACE + r"left[- ]overs?",
    r"(?:has|have|had|having|\w+['\u2019]ve|gets?|got) (?:just |already |long |all )?"
    rf"left(?! (?:of|and|or)\b| (?:{_HAS_SIDES})s?\b|[- ](?:hand|foot|fac|point|lean|most))",
    rf"(?:{_COUNTED}) left(?= to\b|\s*[.,;!?]|\s*$)",
    _NOT_A_PLACE + r"left (?:behind|alone|unattended|standing|lying|open|empty|blank)",
)

_COLORS = (
    "red orange yellow green blue purple pink brown violet indigo cyan magenta turquoise teal beige tan maroon crimson "
    "scarlet burgundy khaki olive lavender lilac mauve navy aqua amber ivory cream gold golden silver bronze copper "
    "ginger auburn blond blonde brunette redhead rainbow sepia monochrome black white grey gray "
    "reddish redder whitish bluish purplish"
)
_SHADES = "black white grey gray dark bright light lit pale dim shadowy shiny silhouette sunlit sunny moonlit day night"


def _whole(pattern: str) -> str:
    """Match between word boundaries; an underscore is one, so that arrow_left names a direction."""
    return rf"(?<![^\W_])(?:{pattern})(?![^\W_])"


def _words(words: str, endings: str) -> re.Pattern[str]:
    return re.compile(_whole(rf"(?:{words.replace(' ', '|')})(?:{endings})?"), re.IGNORECASE)


_COLOR = _words(_COLORS + r" \w*colou?r\w*", "s|ish|y|er|est|ed|[- ]?(?:haired|skinned|eyed)")
_SHADE = _words(_SHADES, "s|ish|er|est|ly|ened|ness|time")


def mirror_words(text: str, skip: Sequence[str] = ()) -> str:
    """Swap the directions in a text, as a mirror would swap them in the image that it describes.

    left/right with -most, -ward(s) and -hand(ed), and clockwise/counterclockwise, as whole words in the case they were
    written in: "bright" and "copyright" stay. So does what is no direction: "right away", "all right", "right angle",
    "human right", "left over", "has left" and the like. English only. Mirroring twice gives the text back, except that
    "anticlockwise" returns as "counterclockwise".

    Args:
        text: any text.
        skip: further phrases that stay as they are, in any case.

    >>> mirror_words("Bright light on the left: a right-handed man has left his LEFT shoe")
    'Bright light on the right: a left-handed man has left his RIGHT shoe'
    >>> mirror_words("the Right Bank, seen from the left", skip=["right bank"])
    'the Right Bank, seen from the right'
    """
    return _directions(tuple(skip)).sub(lambda found: found[0] if found["stays"] else _partner(found[0]), text)


def names_color(text: str) -> bool:
    """Tell whether a text names a colour, a compound such as "red-haired" or "reddish" included; in doubt, it does.

    >>> names_color("a bored cat"), names_color("orange juice")
    (False, True)
    """
    return bool(_COLOR.search(text))


def names_shade(text: str) -> bool:
    """Tell whether a text says how bright something is: dark, bright, black, white, grey, night and the like.

    >>> names_shade("a red apple"), names_shade("a dark street")
    (False, True)
    """
    return bool(_SHADE.search(text))


@lru_cache(maxsize=32)
def _directions(skip: tuple[str, ...]) -> re.Pattern[str]:
    stays = "|".join([*map(re.escape, skip), *_NO_DIRECTION])
    turns = "|".join([_TURNING, *sorted(_PARTNER, key=len, reverse=True)])
    return re.compile(f"(?P<stays>{_whole(stays)})|{_whole(turns)}", re.IGNORECASE)


def _partner(word: str) -> str:
    lower = word.lower()
    partner = _PARTNER.get(lower) or ("counterclockwise" if lower == "clockwise" else "clockwise")
    if word.isupper():
        return partner.upper()
    return partner.capitalize() if word[0].isupper() else partner
