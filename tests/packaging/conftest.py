"""What the tests here share; building and installing takes a while, and is done once."""

from pathlib import Path

import pytest

from tests.packaging import distributions
from tests.packaging.distributions import Distributions


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Distributions:
    """The sdist and the wheels."""
    return distributions.build(tmp_path_factory.mktemp("built"))


@pytest.fixture(scope="session")
def python(built: Distributions, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An interpreter that has the wheel and what it depends on, without any extra."""
    return distributions.install_alone(built.wheel, tmp_path_factory.mktemp("alone"))


@pytest.fixture(scope="session")
def python_with_redis(built: Distributions, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An interpreter that has the wheel with the extra ``redis``, and nothing else."""
    folder = tmp_path_factory.mktemp("with_redis")
    return distributions.install_alone(built.wheel, folder, extra="redis")
