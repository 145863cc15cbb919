"""Reading the bundled files and making datasets of them; `datasets` and `pyarrow` are imported on first use."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from importlib import resources
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import datasets
    import pyarrow as pa


def read_table(name: str) -> pa.Table:
    """Return a bundled parquet file as a table."""
    import pyarrow.parquet as pq

    # Through bytes, so that it also works from a package that is not a plain folder.
    table = pq.read_table(io.BytesIO(resources.files(__package__).joinpath(name).read_bytes()))
    # The features stored in the file are for `load_dataset`; `split_table` sets its own.
    return table.replace_schema_metadata(None)


def with_label(table: pa.Table, column: str, names: Sequence[str]) -> pa.Table:
    """Return the table with a column ``label``: the position of each value of ``column`` among the names."""
    import pyarrow as pa
    import pyarrow.compute as pc

    return table.append_column("label", pc.index_in(table[column], value_set=pa.array(names)).cast(pa.int64()))


def rows_of(table: pa.Table, split: str) -> pa.Table:
    """Return the rows of one split."""
    import pyarrow.compute as pc

    return table.filter(pc.equal(table["split"], split))


def split_table(
    table: pa.Table, splits: Sequence[str], features: Mapping[str, Any], description: str
) -> datasets.DatasetDict:
    """Return the rows of each split, in memory, with the columns of the features."""
    import datasets

    info = datasets.DatasetInfo(
        description=description, license="See LICENSES.md in hf_mixup/data", features=datasets.Features(features)
    )

    def rows(split: str) -> datasets.Dataset:
        chosen = rows_of(table, split).select(list(features))
        # A private copy of `info` each, as a dataset may change its own.
        return datasets.Dataset(chosen, info=info.copy(), split=datasets.NamedSplit(split))

    return datasets.DatasetDict({split: rows(split) for split in splits})
