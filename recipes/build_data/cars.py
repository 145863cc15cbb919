"""Write `recipes/data/cars/`: fuel use of cars of 1970 to 1982, with the models of the test unseen in training.

    pip install vega_datasets==0.9.0 && python recipes/build_data/cars.py

The table is Auto MPG (Quinlan 1993; UCI repository, CC BY 4.0), in the copy of the package vega_datasets. The 14 cars
with a gap are left out; a name that comes in several years stays on one side.
"""

from __future__ import annotations

import csv
import hashlib
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parents[1] / "data" / "cars"
COLUMNS = {
    "mpg": "Miles_per_Gallon",
    "cylinders": "Cylinders",
    "displacement": "Displacement",
    "horsepower": "Horsepower",
    "weight": "Weight_in_lbs",
    "acceleration": "Acceleration",
    "year": "Year",
    "origin": "Origin",
}
TEST_SHARE = 0.3


def is_test(name: str) -> bool:
    """Whether all cars of a name belong to the test, told by the hash of the name."""
    return int(hashlib.sha256(name.encode()).hexdigest()[:8], 16) / 2**32 < TEST_SHARE


def main() -> None:
    import vega_datasets

    cars: list[dict[str, Any]] = vega_datasets.local_data.cars().to_dict("records")
    FOLDER.mkdir(parents=True, exist_ok=True)
    for split in ("train", "test"):
        with (FOLDER / f"{split}.csv").open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(COLUMNS)
            for car in cars:
                row = {name: car[column] for name, column in COLUMNS.items()}
                if is_test(car["Name"]) is (split == "test") and all(value == value for value in row.values()):
                    writer.writerow({**row, "year": row["year"].year}.values())


if __name__ == "__main__":
    main()
