"""The methods of a sweep, each with the settings that it is tried with."""

from __future__ import annotations

from hf_mixup.engine.config import MixupConfig
from hf_mixup.experiments.mixing import SharedSettings
from hf_mixup.experiments.sweep.arguments import SweepArguments
from hf_mixup.methods import METHODS, unknown
from hf_mixup.methods.registry import readers


def swept_methods(arguments: SweepArguments, mixup: SharedSettings) -> list[MixupConfig]:
    """Return the configuration of each method, with each set of layers; refuse methods without alpha to vary.

    Raises:
        ValueError: for an unknown method, one whose alpha has no bearing, or settings that none of them reads.

    >>> [each.method for each in swept_methods(SweepArguments(methods=["mixup", "cutmix"]), SharedSettings())]
    ['mixup', 'cutmix']
    """
    methods = arguments.methods or [mixup.method]
    for name in methods:
        if name not in METHODS:
            raise ValueError(f"methods: {name!r} is no method: {unknown(name)}")
    own = [mixup.for_method(name) for name in methods]
    for each in own:
        if "alpha" not in each.read:
            why = "something else takes its place" if "alpha" in each.known else "it has none"
            raise ValueError(
                f"methods: a sweep tries values of alpha, and method {each.method!r} does not read it ({why}): leave "
                f"that out, or compare settings by hand: hf-mixup compare --methods {each.method}:setting=value,..."
            )
    mixup.refuse_unshared(own)
    layered = [each for each in own if arguments.depths and "layers" in each.known]
    if arguments.depths and not layered:
        raise ValueError(
            f"layer_sets: none of the methods ({', '.join(methods)}) reads layers; {', '.join(readers('layers'))} do"
        )
    deep = [each.replace(layers=layers) for each in layered for layers in arguments.depths]
    return [each for each in own if each not in layered] + deep
