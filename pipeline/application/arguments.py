"""What the words of the command line may be; argparse says what is wrong with others."""

import argparse
import math
import os
from pathlib import Path


def path(text: str) -> Path:
    """A path; a shell leaves the `~` of --out=~/found to us."""
    if not text:
        raise argparse.ArgumentTypeError("expected a path, got an empty text")
    return Path(os.path.expanduser(text))


def weights(text: str) -> Path | str:
    """A path, or an address at the hub."""
    return text if text.startswith("hf://") else path(text)


def share(text: str) -> float:
    """A number from 0 to 1."""
    value = float(text)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"expected 0 to 1, got {text}")
    return value


def number(text: str) -> float:
    """A finite number."""
    value = float(text)
    if not math.isfinite(value):
        raise argparse.ArgumentTypeError(f"expected a finite number, got {text}")
    return value


def count(text: str) -> int:
    """A whole number from 1 on."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"expected 1 or more, got {text}")
    return value
