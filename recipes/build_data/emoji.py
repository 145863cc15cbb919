"""Rebuild ``hf_mixup/data/emoji.parquet`` from its pinned sources.

Usage: ``python emoji.py [--output FILE] [--work DIRECTORY]``; see README.md beside
this file. Node packages go to a temporary directory, never into the checkout.
"""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import subprocess
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import datasets
import pyarrow as pa
from PIL import Image
from writing import write

HERE = Path(__file__).resolve().parent
SIZE = 32  # side of a finished image, in pixels
DRAWN = 2 * SIZE  # side before the reduction; also what the emoji-datasource packages ship
SEED = "hf-mixup emoji 1"  # change it to draw other splits
TEST_SHARE, VALIDATION_SHARE = 0.20, 0.10
HELD_OUT = "fxemoji"
ARTISTS = ("twemoji", "noto", "fluent", HELD_OUT)

# emojibase numbers the Unicode groups; 2 is "Component" (skin tones, hair), which is
# left out because its members are parts of emoji rather than emoji.
GROUPS = {
    0: "Smileys & Emotion",
    1: "People & Body",
    3: "Animals & Nature",
    4: "Food & Drink",
    5: "Travel & Places",
    6: "Activities",
    7: "Objects",
    8: "Symbols",
    9: "Flags",
}

# National flags carry no code point in the file names of FxEmoji, and need none.
FXEMOJI_FLAGS = {
    "chineseflag": "1F1E8-1F1F3",
    "franceflag": "1F1EB-1F1F7",
    "greatbritainflag": "1F1EC-1F1E7",
    "italianflag": "1F1EE-1F1F9",
    "japanflag": "1F1EF-1F1F5",
    "koreaflag": "1F1F0-1F1F7",
    "russianflag": "1F1F7-1F1FA",
    "spanishflag": "1F1EA-1F1F8",
}

# FxEmoji images that do not show what today's caption says; found by eye, on sheets
# of all its images.
FXEMOJI_MISMATCHED = frozenset(
    # Foxes, where Unicode has cat faces.
    "foxcrying foxgrin foxheart foxkissing foxpouting foxsmiling foxtearofjoy foxweary "
    # Foxes again; a revolver for "water pistol"; dark marks for the red ones; for
    # "kiss", the very image of "couple with heart".
    "foxwry pistol blackquestionmark heavyexclaimationmarksymbol couplekiss "
    # Damaged drawings: cut off, filled with black, or too faint to see.
    "heartblue lightrail station tramcar fog".split()
)

# Emoji that differ by gender only are near copies of each other, so they share a split.
GENDERED = {
    "1F468": "1F9D1",  # man -> person
    "1F469": "1F9D1",  # woman -> person
    "1F466": "1F9D2",  # boy -> child
    "1F467": "1F9D2",  # girl -> child
    "1F474": "1F9D3",  # old man -> older person
    "1F475": "1F9D3",  # old woman -> older person
    "1F934": "1FAC5",  # prince -> person with crown
    "1F478": "1FAC5",  # princess -> person with crown
    "1F46B": "1F46D",  # woman and man holding hands -> women holding hands
    "1F46C": "1F46D",  # men holding hands -> women holding hands
}
ZWJ, TEXT_OR_EMOJI = "200D", "FE0F"
# Added after a joiner to say: female, male, facing right.
MODIFIERS = {"2640", "2642", "27A1"}


class Emoji(NamedTuple):
    """What is known of an emoji before any artist draws it."""

    code: str
    character: str
    caption: str
    keywords: list[str]
    group: str
    subgroup: str


def bare(code: str) -> str:
    """Return a code point sequence without variation selectors, as sources differ there."""
    return "-".join(part for part in code.upper().split("-") if part != TEXT_OR_EMOJI)


def read_json(path: Path) -> Any:
    """Return the parsed contents of a JSON file."""
    return json.loads(path.read_text(encoding="utf-8"))


def install(work: Path) -> Path:
    """Put the pinned npm packages and the render script in ``work``; return node_modules."""
    for name in ("package.json", "render.mjs"):
        shutil.copy(HERE / name, work / name)
    subprocess.run(
        ["npm", "install", "--no-audit", "--no-fund", "--ignore-scripts", "--no-package-lock"],
        cwd=work,
        check=True,
    )
    return work / "node_modules"


def read_emoji(modules: Path) -> dict[str, Emoji]:
    """Return the base emoji of the nine groups in Unicode order, keyed by bare code."""
    package = modules / "emojibase-data"
    subgroups = read_json(package / "meta" / "groups.json")["subgroups"]
    entries = [e for e in read_json(package / "en" / "data.json") if e.get("group") in GROUPS]
    # Skin tones need no filter: emojibase nests them under their base emoji ("skins").
    return {
        bare(e["hexcode"]): Emoji(
            code=bare(e["hexcode"]),
            character=e["emoji"],
            caption=e["label"],
            keywords=list(e.get("tags", [])),
            group=GROUPS[e["group"]],
            subgroup=subgroups[str(e["subgroup"])],
        )
        for e in sorted(entries, key=lambda e: e["order"])
    }


def datasource_files(modules: Path, vendor: str) -> dict[str, Path]:
    """Return the image file of every code in an emoji-datasource package."""
    package = modules / f"emoji-datasource-{vendor}"
    return {
        bare(e["unified"]): package / "img" / vendor / "64" / e["image"]
        for e in read_json(package / "emoji.json")
        if e[f"has_img_{vendor}"]
    }


def icon_svg(icons: dict[str, Any], name: str) -> str:
    """Return one icon of an Iconify set as an SVG document on a centred square."""
    # Iconify keeps a size on the set and repeats it on the icons that differ.
    while "parent" in (alias := icons.get("aliases", {}).get(name, {})):
        if set(alias) - {"parent", "hidden"}:
            raise ValueError(f"icon {name!r} is a transformed alias, which is not supported")
        name = alias["parent"]
    box = {**icons, **icons["icons"][name]}
    width, height = box.get("width", 16), box.get("height", 16)
    side = max(width, height)
    left = box.get("left", 0) - (side - width) / 2
    top = box.get("top", 0) - (side - height) / 2
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
        f'viewBox="{left:g} {top:g} {side:g} {side:g}">{box["body"]}</svg>'
    )


def render(work: Path, artist: str, package: str, names: dict[str, str]) -> dict[str, Path]:
    """Draw the icons ``names`` (code -> icon name) of an Iconify package as PNG files."""
    icons = read_json(work / "node_modules" / "@iconify-json" / package / "icons.json")
    folder = work / artist
    folder.mkdir(exist_ok=True)
    files = {code: folder / f"{code}.png" for code in names}
    jobs = [{"svg": icon_svg(icons, names[code]), "out": str(file), "width": DRAWN} for code, file in files.items()]
    (work / f"{artist}.json").write_text(json.dumps(jobs), encoding="utf-8")
    subprocess.run(["node", "render.mjs", f"{artist}.json"], cwd=work, check=True)
    return files


def fluent_names(modules: Path) -> dict[str, str]:
    """Return the icon name of every code of Fluent Emoji; the package ships that table."""
    chars = read_json(modules / "@iconify-json" / "fluent-emoji-flat" / "chars.json")
    return {bare(code): name for code, name in chars.items()}


def fxemoji_names() -> dict[str, str]:
    """Return the icon name of every usable code of FxEmoji.

    Its npm package has lost the code points, so they come from a table made from the
    file names of the artists' repository (see README.md).
    """
    table = {**read_json(HERE / "fxemoji_codepoints.json"), **FXEMOJI_FLAGS}
    return {code: name for name, code in table.items() if name not in FXEMOJI_MISMATCHED}


def image_files(work: Path, emoji: Iterable[str]) -> dict[str, dict[str, Path]]:
    """Return artist -> code -> image file, for the codes in ``emoji`` only."""
    modules, wanted = work / "node_modules", set(emoji)

    def known(table: dict[str, Any]) -> dict[str, Any]:
        return {code: value for code, value in table.items() if code in wanted}

    return {
        "twemoji": known(datasource_files(modules, "twitter")),
        "noto": known(datasource_files(modules, "google")),
        "fluent": render(work, "fluent", "fluent-emoji-flat", known(fluent_names(modules))),
        "fxemoji": render(work, "fxemoji", "fxemoji", known(fxemoji_names())),
    }


def finish(file: Path) -> Image.Image:
    """Return an image in its final form: RGB, white behind it, 32 pixels a side."""
    with Image.open(file) as drawn:
        drawing = drawn.convert("RGBA")
    if drawing.size != (DRAWN, DRAWN):
        raise ValueError(f"{file.name} is {drawing.size}, expected {DRAWN} pixels a side")
    white = Image.new("RGBA", drawing.size, "white")
    # Averaging 2x2 blocks is exact integer work: the same pixels on every machine.
    return Image.alpha_composite(white, drawing).convert("RGB").reduce(2)


def webp(image: Image.Image) -> bytes:
    """Return an image as lossless WebP, about a third smaller than PNG at this size."""
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", lossless=True, quality=100, method=6)
    return buffer.getvalue()


def stem(code: str) -> str:
    """Return what a code has in common with its gender and direction variants."""
    joined = [[GENDERED.get(point, point) for point in part.strip("-").split("-")] for part in code.split(ZWJ)]
    kept = ["-".join(part) for part in joined if not set(part) <= MODIFIERS]
    return ZWJ.join(kept)


def families(images: dict[str, dict[str, Image.Image]], order: list[str]) -> list[list[str]]:
    """Group the codes that must not be separated by a split.

    Two emoji belong together if they differ by gender or direction only, or if some
    artist drew both with the same pixels, mirrored or not (several territories fly the
    flag of another country). Apart, one would give away the other.
    """
    parent = {code: code for code in order}

    def root(code: str) -> str:
        while parent[code] != code:
            code = parent[code]
        return code

    first: dict[Any, str] = {}
    for code in order:
        keys: list[Any] = [stem(code)]
        for artist, drawn in images.items():
            if code in drawn:
                mirrored = drawn[code].transpose(Image.Transpose.FLIP_LEFT_RIGHT)
                keys.append((artist, min(drawn[code].tobytes(), mirrored.tobytes())))
        for key in keys:
            parent[root(code)] = root(first.setdefault(key, code))
    members: dict[str, list[str]] = defaultdict(list)
    for code in order:
        members[root(code)].append(code)
    return list(members.values())


def draw_splits(emoji: dict[str, Emoji], kin: list[list[str]]) -> dict[str, str]:
    """Return the split of each code: within each group, families in hashed order."""

    def lot(family: list[str]) -> str:
        return hashlib.sha256(f"{SEED} {min(family)}".encode()).hexdigest()

    splits: dict[str, str] = {}
    for group in GROUPS.values():
        mine = sorted((f for f in kin if emoji[f[0]].group == group), key=lot)
        total, taken = sum(map(len, mine)), 0
        for family in mine:
            if taken < TEST_SHARE * total:
                split = "test"
            elif taken < (TEST_SHARE + VALIDATION_SHARE) * total:
                split = "validation"
            else:
                split = "train"
            splits.update(dict.fromkeys(family, split))
            taken += len(family)
    return splits


def build(work: Path) -> pa.Table:
    """Return the finished table, one row an image, in Unicode order then by artist."""
    modules = install(work)
    emoji = read_emoji(modules)
    files = image_files(work, emoji)
    images = {a: {code: finish(f) for code, f in files[a].items()} for a in ARTISTS}
    # An emoji only the held-out artist drew could not be placed in any split.
    order = [code for code in emoji if any(code in images[a] for a in ARTISTS if a != HELD_OUT)]
    splits = draw_splits(emoji, families(images, order))
    rows = [
        {
            "image": {"bytes": webp(images[artist][code]), "path": None},
            "caption": emoji[code].caption,
            "keywords": emoji[code].keywords,
            "group": emoji[code].group,
            "subgroup": emoji[code].subgroup,
            "artist": artist,
            "emoji": emoji[code].character,
            "split": "test_shifted" if artist == HELD_OUT else splits[code],
        }
        for code in order
        for artist in ARTISTS
        if code in images[artist]
    ]
    text = datasets.Value("string")
    features = datasets.Features(
        {
            "image": datasets.Image(mode="RGB"),
            "caption": text,
            "keywords": datasets.List(text),
            **dict.fromkeys(("group", "subgroup", "artist", "emoji", "split"), text),
        }
    )
    # This schema also tells `load_dataset("parquet", ...)` that the bytes are images.
    return pa.Table.from_pylist(rows, schema=features.arrow_schema)


def main() -> None:
    """Build and describe the file."""
    table = write(__doc__, "emoji.parquet", build, level=19)
    counts = table.group_by(["artist", "split"]).aggregate([("emoji", "count")])
    for row in counts.to_pylist():
        print(f"{row['artist']:10} {row['split']:14} {row['emoji_count']:5}")


if __name__ == "__main__":
    main()
