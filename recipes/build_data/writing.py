"""What the scripts beside this file share: their command line, and the file that they write."""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

DATA = Path(__file__).resolve().parents[2] / "hf_mixup" / "data"


def write(document: str, name: str, build: Callable[[Path], pa.Table], level: int | None = None) -> pa.Table:
    """Parse the command line, build the table, write it and say how large it is; return it.

    Args:
        document: of the script, whose first line describes it.
        name: of the file in `hf_mixup/data`, unless `--output` names another.
        build: makes the table, in a folder for what it downloads.
        level: of the compression.
    """
    parser = argparse.ArgumentParser(description=document.splitlines()[0])
    parser.add_argument("--output", type=Path, default=DATA / name)
    parser.add_argument("--work", type=Path, help="keep downloads here")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        work = arguments.work or Path(temporary)
        work.mkdir(parents=True, exist_ok=True)
        table = build(work)
    pq.write_table(table, arguments.output, compression="zstd", compression_level=level)
    print(f"{table.num_rows} rows, {arguments.output.stat().st_size:,} bytes")
    return table
