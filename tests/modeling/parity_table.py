"""Agreement with the published networks as a table: `python -m tests.modeling.parity_table [--base]`."""

import argparse

from rich.console import Console
from rich.table import Table

from .test_parity import FLOAT32_TOLERANCE, FLOAT64_TOLERANCE, TINY, convert, float32_error, float64_errors


def main():
    """Print, case by case, the differences from the golden values and what is tolerated."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--base", action="store_true", help="Also the Base network, one gigabyte of weights.")
    table = Table(
        "network, case", "float32: largest |Δlogit|", "tolerated", "float64: logits, relative", "worst tensor"
    )
    for name in (*TINY, *(["fianet3_base"] if parser.parse_args().base else [])):
        golden, model, _ = convert(name)
        for case in golden.cases:
            error, noise = float32_error(golden, model, case)
            errors = float64_errors(golden, model, case)
            worst = max(errors, key=errors.get)
            table.add_row(
                f"{name}, {case}",
                f"{error:.2e}",
                f"{FLOAT32_TOLERANCE * noise:.2e}",
                f"{errors['logits']:.1e}",
                f"{worst} {errors[worst]:.1e} ≤ {FLOAT64_TOLERANCE:g}",
            )
    Console(width=119).print(table)


if __name__ == "__main__":
    main()
