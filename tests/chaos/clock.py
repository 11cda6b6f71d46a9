"""A host whose clock is wrong: Python's clocks, moved by a fixed time, for one process.

Install it before anything else is imported, since modules keep the ``datetime`` and the ``time``
that they found. What a server says about the time is not touched.
"""

from __future__ import annotations

import datetime as module
import time
from typing import Any

real_datetime = module.datetime
real_time = time.time


def install(seconds: float) -> None:
    """Move the clocks of this process."""
    if not seconds:
        return
    shift = module.timedelta(seconds=seconds)
    nanoseconds = int(seconds * 1e9)
    real_time_ns = time.time_ns

    class Meta(type):
        def __instancecheck__(cls, value: Any) -> bool:
            return isinstance(value, real_datetime)

        def __subclasscheck__(cls, other: type) -> bool:
            return issubclass(other, real_datetime)

    class ShiftedDatetime(real_datetime, metaclass=Meta):
        # A façade: what it makes are real datetimes. Of their size, too, as extensions check.
        __slots__ = ()

        def __new__(cls, *args: Any, **kwargs: Any) -> Any:
            return real_datetime(*args, **kwargs)

        @classmethod
        def now(cls, tz: module.tzinfo | None = None) -> Any:
            return real_datetime.now(tz) + shift

        @classmethod
        def utcnow(cls) -> Any:
            return real_datetime.now(module.UTC).replace(tzinfo=None) + shift

        @classmethod
        def today(cls) -> Any:
            return real_datetime.now() + shift

    module.datetime = ShiftedDatetime  # type: ignore[misc]
    time.time = lambda: real_time() + seconds
    time.time_ns = lambda: real_time_ns() + nanoseconds
