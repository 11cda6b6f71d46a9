"""What the wheel says of itself."""

from __future__ import annotations

import configparser
import re
from email import message_from_bytes
from email.message import Message

import pytest

import triggers
from tests.packaging.distributions import Distributions, files_of_wheel, require
from tests.servers import ROOT


@pytest.fixture(scope="module")
def metadata(built: Distributions) -> Message:
    """The ``METADATA`` of the wheel."""
    return message_from_bytes(_in_info(built, "METADATA"))


def _in_info(built: Distributions, name: str) -> bytes:
    [found] = [
        data
        for path, data in files_of_wheel(built.wheel).items()
        if path.endswith(f".dist-info/{name}")
    ]
    return found


def _all(metadata: Message, name: str) -> list[str]:
    return [str(each) for each in metadata.get_all(name, [])]


def test_name_version_and_licence(built: Distributions, metadata: Message) -> None:
    assert metadata["Name"] == "triggers"
    assert metadata["Version"] == triggers.__version__
    assert metadata["License-Expression"] == "MIT"
    assert _all(metadata, "License-File") == ["LICENSE"]
    assert _in_info(built, "licenses/LICENSE") == (ROOT / "LICENSE").read_bytes()
    # A classifier beside the expression is refused by indexes.
    assert [each for each in _all(metadata, "Classifier") if each.startswith("License")] == []


def test_the_readme_is_what_an_index_shows(built: Distributions, metadata: Message) -> None:
    require("docutils")
    from docutils.core import publish_parts

    assert str(metadata["Description-Content-Type"]).startswith("text/x-rst")
    # As indexes do: no file is read, no raw HTML let through; any remark is an error.
    limits = {
        "file_insertion_enabled": False,
        "raw_enabled": False,
        "halt_level": 2,
        "report_level": 2,
        "warning_stream": False,
    }
    readme = (built.source / "README.rst").read_text(encoding="utf-8")
    parts = publish_parts(readme, writer="html5", settings_overrides=limits)
    assert "<h1" in parts["html_body"]
    described = metadata.get_payload(decode=True)
    assert isinstance(described, bytes)
    assert described.decode().split() == readme.split()


def test_versions_of_python_and_django_are_those_that_tox_runs(metadata: Message) -> None:
    settings = configparser.ConfigParser()
    settings.read(ROOT / "tox.ini")
    environments = settings["tox"]["env_list"].split()
    tried = {
        "Programming Language :: Python": {
            f"3.{found[1]}" for each in environments if (found := re.match(r"py3(\d+)-", each))
        },
        "Framework :: Django": {
            f"{found[1]}.{found[2]}"
            for each in environments
            if (found := re.search(r"-django(\d)(\d)", each))
        },
    }
    for family, versions in tried.items():
        assert versions
        declared = {
            found[1]
            for each in _all(metadata, "Classifier")
            if (found := re.fullmatch(rf"{family} :: (\d+\.\d+)", each))
        }
        assert declared == versions
    oldest = min(tried["Programming Language :: Python"], key=lambda each: int(each[2:]))
    assert metadata["Requires-Python"] == f">={oldest}"


def test_extras_bring_the_packages_that_errors_name(metadata: Message) -> None:
    extras = set(_all(metadata, "Provides-Extra"))
    assert {"redis", "postgresql", "mysql", "test-runner", "docs-builder"} <= extras
    required = [each.partition(";") for each in _all(metadata, "Requires-Dist")]
    by_extra = {
        extra: {
            re.split(r"[<>=~!\[ ;]", name)[0]
            for name, _mark, condition in required
            if f'extra == "{extra}"' in condition
        }
        for extra in extras
    }
    # triggers.exceptions.MissingPackages; tests/integration/test_without_extras.py sees them.
    assert by_extra["redis"] == {"redis", "python-redis-lock", "packaging"}
    assert by_extra["postgresql"] == {"psycopg"}
    assert by_extra["mysql"] == {"mysqlclient"}
    without = {name.strip() for name, _mark, condition in required if "extra ==" not in condition}
    assert not any(each.startswith(("redis", "psycopg", "mysql", "pytest")) for each in without)
