"""Which folds were told of rotation centres, beside the marked ones, of those folds that can be told."""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from pipeline.annotations import RotationCentre
from pipeline.detection.centres import DetectedCentre
from pipeline.detection.folds import FOLDS
from pipeline.scoring.matching import Matches
from pipeline.scoring.sets import DOUBT

Told = tuple[int, int | None]  # of one centre: the marked fold, and the one that was told; None in doubt


def told_of_found(found: Sequence[DetectedCentre], marked: Sequence[RotationCentre], matched: Matches) -> list[Told]:
    """Of each marked centre about which something found is right: the fold of the best of these. Of FOLDS alone."""
    best_first = sorted(range(len(found)), key=lambda number: -found[number].score)
    firsts = ((m, next((n for n in best_first if matched.right[n, k]), None)) for k, m in enumerate(marked))
    return [(mark.fold, found[number].fold) for mark, number in firsts if number is not None and mark.fold in FOLDS]


def confusion(told: Iterable[Told]) -> dict[str, Any]:
    """`centres`: how many; `right`: the share whose fold was told, in 0..1, None without any; `told`: by the marked
    fold, how often each was told, `in doubt` where none was; folds as text, as JSON wants it.
    """
    counts = Counter(told)
    total = counts.total()
    names = {(marked, fold): DOUBT if fold is None else str(fold) for marked, fold in counts}
    return {
        "centres": total,
        "right": sum(count for (marked, fold), count in counts.items() if marked == fold) / total if total else None,
        "told": {
            str(marked): {names[pair]: counts[pair] for pair in sorted(names, key=str) if pair[0] == marked}
            for marked in sorted({marked for marked, _ in counts})
        },
    }
