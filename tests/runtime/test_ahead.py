"""Work ahead of time: in order, bounded, and errors arrive where they would."""

import threading

import pytest

from pipeline.runtime.ahead import ahead, batches


def counted(made, most=10, fails=None):
    for n in range(most):
        if n == fails:
            raise ValueError(n)
        made.append(threading.current_thread())
        yield n


@pytest.mark.parametrize("count", [1, 3, 20])
def test_the_same_items_in_order_from_another_thread(count):
    made = []
    assert list(ahead(counted(made), count)) == list(range(10))
    assert len(set(made)) == 1 and threading.main_thread() not in made
    assert list(ahead([], count)) == []


def test_no_more_than_asked_for():
    made = []
    items = ahead(counted(made), 2)
    for n in range(4):
        assert next(items) == n
        assert len(made) <= n + 3
    items.close()
    assert len(made) <= 6


def test_an_error_comes_after_what_was_made_before_it():
    items = ahead(counted([], fails=2), 3)
    assert [next(items), next(items)] == [0, 1]
    with pytest.raises(ValueError):
        next(items)


@pytest.mark.parametrize("size", [1, 2, 3, 20])
def test_batches_lose_nothing_before_an_error(size):
    assert [n for some in batches(counted([]), size) for n in some] == list(range(10))
    assert [len(some) for some in batches(range(5), 2)] == [2, 2, 1] and list(batches([], size)) == []
    seen = []
    with pytest.raises(ValueError, match="5"):
        seen.extend(n for some in batches(counted([], fails=5), size) for n in some)
    assert seen == [0, 1, 2, 3, 4]
