"""Tables in Markdown."""

import pandas as pd


def to_markdown(table: pd.DataFrame) -> str:
    """A Markdown table with one decimal a figure and a dash where there is none."""
    return table.astype(object).where(table.notna(), None).to_markdown(index=False, floatfmt=".1f", missingval="-")
