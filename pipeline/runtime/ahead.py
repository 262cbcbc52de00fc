"""Work that is done ahead of time, in a thread of its own, and handed on in batches."""

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

T = TypeVar("T")


def ahead(items: Iterable[T], count: int) -> Iterator[T]:
    """The items in their order, of which up to `count` more than were taken are made in a thread; errors, too."""
    items, end = iter(items), object()
    with ThreadPoolExecutor(1) as thread:
        waiting: deque[Future] = deque(thread.submit(next, items, end) for _ in range(count))
        try:
            while (item := waiting.popleft().result()) is not end:
                waiting.append(thread.submit(next, items, end))
                yield item
        finally:
            for future in waiting:
                future.cancel()


def batches(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """The items in their order, `size` at a time. What the making of one raises comes after those before it."""
    items = iter(items)
    while True:
        some: list[T] = []
        fault = None
        try:
            for item in islice(items, size):
                some.append(item)
        except Exception as error:
            fault = error
        if some:
            yield some
        if fault:
            raise fault
        if len(some) < size:
            return
