"""What `symmetry detect` says while it looks at images."""

import sys

from tqdm import tqdm


class Progress:
    """Results in the standard output, what is skipped in the standard error, and a bar where somebody watches.

    `failures`: what was asked for and could not be done.
    """

    def __init__(self, images: int) -> None:
        self.failures: list[str] = []
        self.bar = tqdm(total=images, unit="image", leave=False, disable=None)

    def skip(self, reason: object) -> None:
        """Name what could not be done."""
        self.failures.append(str(reason))
        self.bar.write(f"skipped: {reason}", file=sys.stderr)

    def say(self, text: str) -> None:
        """Print a result at once, for who reads along; what the terminal has no letters for is escaped."""
        encoding = getattr(sys.stdout, "encoding", None) or "utf-8"  # it may be closed, or a program's own
        with self.bar.external_write_mode():
            print(text.encode(encoding, "backslashreplace").decode(encoding), end="", flush=True)
