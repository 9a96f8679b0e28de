"""Progress and interrupts of long calls. Whoever starts one listens; the functions inside report and look.

    with listen(bar, check):         bar(0.25) at a quarter; check() raises to stop
        with part(0, 2):             the first half of the work
            report(1, 3)             bar(1/6)
        data = in_background(slow)   check() is called while a compressor works

Without a listener all of this does nothing. The listener belongs to the thread and its context (`contextvars`).
"""

from __future__ import annotations

import contextlib
import contextvars
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

T = TypeVar("T")
POLL = 0.1  # seconds between two looks at the interrupt


@dataclass(frozen=True)
class _Listener:
    bar: Callable[[float], Any] | None
    check: Callable[[], Any]
    start: float = 0.0
    span: float = 1.0
    done: list[float] = field(default_factory=lambda: [0.0])  # share of the span


_listener: contextvars.ContextVar[_Listener | None] = contextvars.ContextVar("listener", default=None)


@contextlib.contextmanager
def listen(bar: Callable[[float], Any] | None, check: Callable[[], Any]) -> Iterator[None]:
    """Inside: `bar` gets the share done, 0..1 (None: nobody wants it); `check` raises where the work should stop."""
    token = _listener.set(_Listener(bar, check))
    try:
        yield
    finally:
        _listener.reset(token)


@contextlib.contextmanager
def part(i: int, n: int) -> Iterator[None]:
    """Inside: `report` counts from i / n to (i + 1) / n of the whole."""
    now = _listener.get()
    token = _listener.set(now and replace(now, start=now.start + now.span * i / n, span=now.span / n, done=[0.0]))
    try:
        check()
        yield
        report(1, 1)
    finally:
        _listener.reset(token)


@contextlib.contextmanager
def unheard() -> Iterator[None]:
    """Inside: `report` moves no bar. Interrupts still come through."""
    now = _listener.get()
    token = _listener.set(now and replace(now, bar=None))
    try:
        yield
    finally:
        _listener.reset(token)


def report(done: float, total: float) -> None:
    """Say that `done` of `total` steps are done, and look at the interrupt."""
    check()
    now = _listener.get()
    if now is not None:
        now.done[0] = min(done / total, 1.0)
        if now.bar is not None:
            now.bar(now.start + now.span * now.done[0])


def advance(share: float) -> None:
    """`report` for a step that does not know which of all it is: `share` more of this part is done."""
    now = _listener.get()
    if now is not None:
        report(now.done[0] + share, 1)


def check() -> None:
    """Raise what the listener raises where it wants the work to stop."""
    now = _listener.get()
    if now is not None:
        now.check()


def in_background(function: Callable[[], T]) -> T:
    """`function()`, in a thread where somebody listens, so that an interrupt need not wait for its end.

    After an interrupt the thread goes on to its end and its result is dropped: `function` must write no file.
    """
    if _listener.get() is None:
        return function()
    result: list[T] = []
    failure: list[BaseException] = []

    def run() -> None:
        try:
            result.append(function())
        except BaseException as e:
            failure.append(e)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    while True:
        thread.join(POLL)
        check()  # at least once, however fast the function was
        if not thread.is_alive():
            break
    if failure:
        raise failure[0]
    return result[0]
