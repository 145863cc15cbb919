"""The methods by their names: `register` adds one, `build` makes one of what users write."""

from __future__ import annotations

import inspect
import re
import textwrap
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import MISSING, Field, dataclass, fields
from functools import wraps
from typing import Any, TypeVar

from typing_extensions import dataclass_transform

from hf_mixup.methods.base import Method, setting
from hf_mixup.utils.constants import MODALITIES
from hf_mixup.utils.files import parse_text
from hf_mixup.utils.suggest import did_you_mean

METHODS: dict[str, type[Method]] = {}
Kind = TypeVar("Kind", bound=type[Method])
CONTROLS = ("none", "smoothing")
"""What a comparison calls training without mixing; no method may have such a name."""

_DESCRIBED = ("title", "blends", "paper")
_NAME = re.compile(r"[a-z][a-z0-9_]*")  # as a word of `--methods none,wave:alpha=0.2`


@dataclass_transform(kw_only_default=True, field_specifiers=(setting,))
def register(method: Kind) -> Kind:
    """Make a method known by its name, in this process, to all that takes a method's name.

    Use it as a decorator. It makes the class a keyword-only dataclass, so that each annotated `setting` in its body is
    one of the method's own. A class of the same module and name takes the earlier one's place, so that the cell of a
    notebook may run twice. Other processes know the method once they have imported its module.

    Args:
        method: a subclass of `Method` (as a rule of `Blend`, for pairs of `PairMethod`) with `name`, `title`, `blends`,
            `paper` and `apply`, and with `modalities`, under which `hf-mixup methods image` lists it.

    Returns:
        The class.

    Raises:
        TypeError: for anything else than such a class, naming what it lacks.
        ValueError: for a name that is taken, or that no command line could tell from settings; for a modality that is
            not known.

    >>> from hf_mixup import MixupConfig
    >>> from hf_mixup.methods import InputMixup
    >>> @register
    ... class Half(InputMixup):
    ...     name, title, paper = "half", "Mixup by another name", "none"
    ...     strength: float = setting(0.5, "How much is mixed.", at_least=0, at_most=1)
    >>> MixupConfig("half", strength=0.2).mixing.strength
    0.2
    >>> del METHODS["half"]
    """
    if not (isinstance(method, type) and issubclass(method, Method)):
        raise TypeError(f"register takes a subclass of hf_mixup.methods.Method, found {method!r}")
    name = getattr(method, "name", None)
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise ValueError(
            f"{method.__name__}.name is {name!r}: expected a name of small letters, digits and _, such as 'my_mix'"
        )
    missing = [each for each in _DESCRIBED if not isinstance(getattr(method, each, None), str)]
    if missing:
        raise TypeError(f"{method.__name__} lacks {', '.join(missing)}: texts that tables and model cards show")
    for each in method.modalities:
        if each not in MODALITIES:
            raise ValueError(
                f"{method.__name__}.modalities holds {each!r}: expected a tuple of {', '.join(MODALITIES)}"
            )
    if method.draw is Method.draw:
        raise TypeError(f"{method.__name__} lacks draw(request): derive it from Blend, which draws a partner and lam")
    if method.apply is Method.apply:
        raise TypeError(f"{method.__name__} lacks apply(model, batch, draw, inplace), which returns the mixed inputs")
    known = METHODS.get(name)
    again = known is not None and (known.__module__, known.__qualname__) == (method.__module__, method.__qualname__)
    if name in CONTROLS or (known is not None and not again):
        owner = "a control of hf-mixup compare" if known is None else f"{known.__module__}.{known.__qualname__}"
        raise ValueError(f"{method.__name__}.name is {name!r}, which is taken by {owner}: give it another name")
    written = vars(method).get("__doc__") or f"{method.title}."
    METHODS[name] = dataclass(kw_only=True)(method)
    _suggest_settings(method)
    method.__doc__ = with_settings(written, method)
    return method


def _suggest_settings(method: type[Method]) -> None:
    """Let the class answer a setting that it does not have with the nearest one."""
    init: Any = method.__init__
    known = settings_of(method)

    @wraps(init)
    def named(self: Method, *args: Any, **settings: Any) -> None:
        wrong = next((each for each in settings if each not in known), None)
        if wrong is not None:
            text = f"{method.__name__} got an unexpected keyword argument {wrong!r}"
            raise TypeError(f"{text}: {did_you_mean(wrong, known)}")
        init(self, *args, **settings)

    method.__init__ = named  # type: ignore[method-assign]


def first_try(method: str | type[Method]) -> dict[str, Any]:
    """Return the settings that a method is best tried with first: its paper's, or what was measured here.

    >>> first_try("intra"), first_try("switch")
    ({'alpha': 60.0, 'beta': 1.5}, {'methods': ['mixup', 'cutmix']})
    >>> build({"method": "intra", **first_try("intra")}).beta
    1.5
    """
    kind = method_named(method) if isinstance(method, str) else method
    written = (each.partition("=") for each in kind.begin_with.split(":") if each)
    return {name: parse_text(value) for name, _, value in written}


def with_settings(written: str, kind: type[Any]) -> str:
    """Return the docstring of a dataclass with the help texts of its fields, so that they are written once.

    They stand before errors, source and example: those of the class first, then those of its bases, nearest first.

    >>> from hf_mixup.methods import GridMix
    >>> GridMix.__doc__.partition("Settings:")[2].strip().partition(".")[0]
    'grid (default 4): Cells along each side of the image'
    """
    written = inspect.cleandoc(written)
    declared = {field.name: field for field in fields(kind)}
    order = [name for base in kind.__mro__ for name in inspect.get_annotations(base) if name in declared]
    if not order or "\nSettings:\n" in written:
        return written
    listed = "\n".join(_described(declared[name]) for name in dict.fromkeys(order))
    if getattr(kind, "begin_with", None):
        listed += f"\n\nBegin with `{kind.name}:{kind.begin_with}`."
    rest = re.search(r"^(Raises:|Source: |>>> )", written, re.MULTILINE)
    cut = rest.start() if rest else len(written)
    return f"{written[:cut].rstrip()}\n\nSettings:\n{listed}\n\n{written[cut:]}".rstrip()


def _described(field: Field[Any]) -> str:
    default = field.default if field.default_factory is MISSING else field.default_factory()
    line = f"{field.name} (default {default!r}): {field.metadata.get('help', '')}"
    return textwrap.fill(line, 112, initial_indent=" " * 4, subsequent_indent=" " * 8, break_on_hyphens=False)


def unknown(name: str, others: Iterable[str] = ()) -> str:
    """Return what to say of a name that is no method's: the nearest one, and how one's own become known.

    >>> unknown("cutmx").partition("?")[0]
    "did you mean 'cutmix'"
    """
    return (
        f"{did_you_mean(name, [*METHODS, *others])}. A method of your own is known once the module is imported that "
        "calls hf_mixup.register on it"
    )


def method_named(name: Any) -> type[Method]:
    """Return the class of a method.

    Raises:
        ValueError: for an unknown name, with the nearest one.
    """
    if not isinstance(name, str) or name not in METHODS:
        raise ValueError(f"method={name!r} is not known: {unknown(str(name))}")
    return METHODS[name]


def build(value: Method | str | Mapping[str, Any]) -> Method:
    """Return a method of what users write: the method itself, its name, or a flat mapping of its settings.

    Raises:
        TypeError: for anything else.
        ValueError: for an unknown method or setting, or as the method.

    >>> build({"method": "gridmix", "grid": 2}).grid
    2
    >>> build({"method": "mixup", "grid": 2})
    Traceback (most recent call last):
    ...
    ValueError: grid=2: method 'mixup' does not read it; gridmix does: leave it out
    """
    if isinstance(value, Method):
        return value
    if isinstance(value, str):
        value = {"method": value}
    if not isinstance(value, Mapping):
        raise TypeError(f"{value!r}: expected a method, its name or a mapping of its settings")
    own = dict(value)
    kind = method_named(own.pop("method", "mixup"))
    for name, given in own.items():
        if name not in settings_of(kind):
            raise ValueError(refusal(kind.name, name, given))
    return kind(**own)


def settings_of(method: str | type[Method]) -> dict[str, Any]:
    """Return the settings that a method declares: name -> dataclass field, whose metadata has the help.

    >>> [name for name in settings_of("gaussian")]
    ['prob', 'prob_per', 'keys', 'sigma']
    """
    kind = method_named(method) if isinstance(method, str) else method
    return {field.name: field for field in fields(kind)}


def flat(method: Method) -> dict[str, Any]:
    """Return a method as a flat mapping that `build` reads, with plain values.

    >>> flat(build("gaussian"))
    {'method': 'gaussian', 'prob': 1.0, 'prob_per': 'batch', 'keys': None, 'sigma': 0.1}
    """
    return {"method": method.name, **{name: _plain(getattr(method, name)) for name in settings_of(type(method))}}


def _plain(value: Any) -> Any:
    if isinstance(value, list):
        return [_plain(each) for each in value]
    return flat(value) if isinstance(value, Method) else value


def brief(value: Any) -> Any:
    """Return a setting as users write it: a held method by its name, with what is not at its default.

    >>> brief([build("cutmix"), build({"method": "mixup", "alpha": 0.2})])
    ['cutmix', {'method': 'mixup', 'alpha': 0.2}]
    """
    if isinstance(value, list):
        return [brief(each) for each in value]
    if not isinstance(value, Method):
        return value
    own = changed(value)
    return {"method": value.name, **own} if own else value.name


def changed(method: Method) -> dict[str, Any]:
    """Return the settings of a method that differ from their defaults, as users write them."""
    default, names = type(method)(), settings_of(type(method))
    return {name: brief(getattr(method, name)) for name in names if getattr(method, name) != getattr(default, name)}


def readers(name: str) -> list[str]:
    """Return the names of the methods that have a setting.

    >>> readers("grid")
    ['gridmix']
    """
    return [each for each, kind in METHODS.items() if name in settings_of(kind)]


def who_reads(name: str) -> str:
    """Say which methods have a setting.

    >>> who_reads("grid"), who_reads("clean_weight")
    ('gridmix does', 'adversarial, interpolated_adversarial, ssmix do')
    """
    names = readers(name)
    return f"{', '.join(names)} {'does' if len(names) == 1 else 'do'}"


def refusal(method: str, name: str, value: Any, others: Iterable[str] = ()) -> str:
    """Return what to say of a setting that a method does not have.

    Args:
        others: names that could be meant as well.
    """
    if readers(name):
        return f"{name}={value!r}: method {method!r} does not read it; {who_reads(name)}: leave it out"
    return f"{name!r} is no setting of method {method!r}: {did_you_mean(str(name), [*settings_of(method), *others])}"


def each_part(method: Method) -> Iterator[Method]:
    """Yield a method and those that it holds as settings (`switch`, `interpolated_adversarial`)."""
    yield method
    for name in settings_of(type(method)):
        value = getattr(method, name)
        for inner in value if isinstance(value, list) else [value]:
            if isinstance(inner, Method):
                yield from each_part(inner)
