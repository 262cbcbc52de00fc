"""Tables in Markdown and LaTeX."""

import pandas as pd


def to_markdown(table: pd.DataFrame) -> str:
    """A Markdown table with one decimal a figure and a dash where there is none."""
    return table.astype(object).where(table.notna(), None).to_markdown(index=False, floatfmt=".1f", missingval="-")


def to_latex(table: pd.DataFrame) -> str:
    """A `tabular` for the package booktabs, as text or, where a value is a number, with one decimal."""
    escaped = table.rename(columns=_escape).map(_escape)
    return escaped.to_latex(index=False, escape=False, column_format="l" * len(table.columns))


def _escape(value: object) -> str:
    if isinstance(value, float):
        return "-" if pd.isna(value) else f"{value:.1f}"
    return str(value).replace("_", r"\_").replace("±", r"$\pm$")
