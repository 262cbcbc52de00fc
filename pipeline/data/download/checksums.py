"""Checksums of archives: known ones are required, unknown ones are trusted at first use and kept in Git.

data/checksums.yaml   URL or file name: {sha256, bytes, first_seen}
"""

import logging
import os
from datetime import date
from pathlib import Path

import yaml
from filelock import FileLock

from pipeline.errors import DataError

logger = logging.getLogger(__name__)


def require(found: str, source: str, known: str | None, ledger: Path) -> None:
    """Compare the digest of an archive with `known`, which its catalogue entry gives, or with what the ledger says.

    `source` is a URL, or the name of a user's file. Raises DataError when the archive is another one.
    """
    entry = {"sha256": known} if known else _read(ledger).get(source)
    if entry and entry["sha256"] != found:
        where = "sources.yaml" if known else f"{ledger}, first seen {entry.get('first_seen')}"
        raise DataError(
            f"{source}: expected sha256 {entry['sha256']} ({where}), got {found}: damaged, or another edition than "
            f"before; if the new one is meant, delete that entry"
        )


def note(found: str, source: str, size: int, ledger: Path) -> None:
    """Write the digest of an archive seen for the first time into the ledger, a file that Git keeps."""
    ledger.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(ledger.with_name(f".{ledger.name}.lock")):
        entries = _read(ledger)
        if source in entries:
            return
        entries[source] = {"sha256": found, "bytes": size, "first_seen": date.today().isoformat()}
        temporary = ledger.with_name(f".{ledger.name}.tmp")
        temporary.write_text(yaml.safe_dump(entries))
        os.replace(temporary, ledger)
    logger.info("%s: seen for the first time; its sha256 is noted in %s, which belongs into Git", source, ledger)


def _read(ledger: Path) -> dict[str, dict]:
    if not ledger.exists():
        return {}
    try:
        entries = yaml.safe_load(ledger.read_text()) or {}
        if not all(isinstance(entry["sha256"], str) for entry in entries.values()):
            raise ValueError("a sha256 is no text")
        return entries
    except (yaml.YAMLError, AttributeError, KeyError, TypeError, ValueError) as error:
        raise DataError(f"{ledger}: expected a mapping of sources to sha256, bytes, first_seen: {error}") from None
