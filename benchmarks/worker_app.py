"""What a Celery worker of the benchmarks loads: the project that its environment describes."""

from benchmarks.project import take_part

GIVEN = take_part()

# They import models, which need the project.
from benchmarks import stubs  # noqa: E402, F401
from benchmarks.app import app, use_broker  # noqa: E402

use_broker(GIVEN["broker"])

__all__ = ["app"]
