"""escnn, imported without the packages that serve SO(3) alone: `lie_learn` has no wheels past Python 3.12 and NumPy 1,
`py3nj` wants a Fortran compiler. The groups of the plane need neither.
"""

import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from types import ModuleType
from typing import Any, NoReturn

from pipeline.errors import needs

# Without its requirements, two of which serve SO(3) alone; the extra has the others.
INSTALL = "'clipsym-pipeline[torch]' && pip install --no-deps escnn"
WIGNER = "lie_learn.representations.SO3.wigner_d"  # escnn's only import of it, for one function


def _stand_in(cause: Exception) -> ModuleType:
    """`lie_learn`'s module with that function, which says when it is called why it is not the real one."""

    def wigner_D_matrix(*_: Any, **__: Any) -> NoReturn:
        raise ModuleNotFoundError(
            f"escnn's representations of SO(3) need lie_learn, which could not be imported: {cause}. This project uses "
            "the groups of the plane only; for SO(3) install lie-learn, on a Python and a NumPy that it supports",
            name="lie_learn",
        ) from cause

    module = ModuleType(WIGNER)
    module.wigner_D_matrix = wigner_D_matrix  # type: ignore[attr-defined]
    return module


@contextmanager
def _lie_learn() -> Iterator[None]:
    """Meanwhile escnn finds it, installed or not. escnn keeps the function, all others see what is installed."""
    try:
        import_module(WIGNER)
    except (ImportError, ValueError) as error:  # absent, or built for another NumPy
        sys.modules[WIGNER] = _stand_in(error)
        try:
            yield
        finally:
            del sys.modules[WIGNER]
    else:
        yield


with _lie_learn(), needs(INSTALL), warnings.catch_warnings():
    # Without py3nj escnn computes SO(3) coefficients numerically.
    warnings.filterwarnings("ignore", message="`py3nj` package not found")
    for category in (SyntaxWarning, DeprecationWarning):  # backslashes in its docstrings, when it is compiled; Python
        warnings.filterwarnings("ignore", category=category, message="invalid escape")  # before 3.12 says the latter
    from escnn import gspaces, nn
    from escnn.group import _numerical

# D groups: scikit-learn's SVD refuses the np.matrix that escnn hands it; without it escnn takes SciPy's.
_numerical.randomized_svd = None

__all__ = ["gspaces", "nn"]
