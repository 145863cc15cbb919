"""What can be mixed rightly in one architecture: a row of the table."""

from __future__ import annotations

from dataclasses import dataclass, field

from hf_mixup.testing.batches import SOURCES, make_batch
from hf_mixup.testing.build import CannotBuild, build
from hf_mixup.testing.exchange import brief, check_plain
from hf_mixup.testing.families import Family, classes
from hf_mixup.testing.survey.trial import ArchitectureChecks

COLUMNS = ("inputs", "embedding", "manifold", "right", "left", "longer", "gradients", "checkpointing", "bf16")


@dataclass(frozen=True)
class Row:
    """The findings on one architecture.

    Args:
        family: the family it was tried in.
        model_type: its name in transformers' mappings.
        name: its class.
        reason: why no tiny model of it could be built or run; None if one could.
        cells: column -> "yes", "refused: why" or "no: how it fails"; columns that do not apply are missing.
    """

    family: Family
    model_type: str
    name: str
    reason: str | None = None
    cells: dict[str, str] = field(default_factory=dict)

    @property
    def wrong(self) -> dict[str, str]:
        """The columns in which mixing is silently wrong, or fails."""
        return {column: cell for column, cell in self.cells.items() if cell.startswith("no")}


def survey(family: Family, model_type: str) -> Row:
    """Build an architecture and run every check on it.

    Raises:
        ValueError: for an unknown family or architecture.

    >>> row = survey("sequence-classification", "bert")
    >>> row.cells["embedding"], row.cells["manifold"]
    ('yes', 'yes')
    """
    name = classes(family).get(model_type, model_type)
    try:
        model = build(family, model_type)
        check_plain(model, make_batch(family, model))
    except CannotBuild as error:
        return Row(family, model_type, name, str(error))
    except Exception as error:  # noqa: BLE001 - any error is the reason
        return Row(family, model_type, name, f"does not run: {brief(error)}")
    checks = ArchitectureChecks(family, model_type)
    columns = checks.floats() if family.startswith(SOURCES) else checks.text()
    return Row(family, model_type, name, None, {column: cell for column, cell in columns.items() if cell})
