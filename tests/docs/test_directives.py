"""The page of all directives has an entry for each that the schema knows, and no empty one."""

from __future__ import annotations

import re
from functools import cache
from typing import Any

import pytest

from tests.servers import ROOT
from triggers.configuration import schema
from triggers.configuration.rules import OUTCOMES
from triggers.types import KNOWN_DIRECTIVES

PAGE = ROOT / "docs" / "reference" / "directives.rst"

DEFINITIONS: dict[str, Any] = schema()["$defs"]
DIRECTIVES = list(DEFINITIONS["task"]["properties"])
CONDITIONS = [
    definition["$ref"].rpartition("/")[2]
    for definition in DEFINITIONS["group"]["then"]["dependentSchemas"].values()
]
OPERATORS = list(DEFINITIONS["operators"]["properties"])
FIELDS = {
    **dict.fromkeys(DIRECTIVES + CONDITIONS, ("Type", "Default", "Since", "Goes with")),
    **dict.fromkeys(OPERATORS, ("Type",)),
}


def title_of(name: str) -> str:
    """The title of the entry of a directive, a condition or an operator."""
    return f"``{DEFINITIONS[name]['title'] if name in CONDITIONS else name}``"


@cache
def entries() -> dict[str, str]:
    """The text of each entry, by its title."""
    text = PAGE.read_text(encoding="utf-8")
    parts = re.split(r"^(\S.*)\n([~-])\2{2,}\n", text, flags=re.MULTILINE)
    titles, texts = parts[1::3], parts[3::3]
    assert len(set(titles)) == len(titles)
    return dict(zip(titles, texts, strict=True))


def entry_of(name: str) -> str:
    assert title_of(name) in entries(), f"{PAGE.name} has no entry {title_of(name)}"
    return entries()[title_of(name)]


def test_the_schema_and_the_package_know_the_same_directives() -> None:
    assert set(DIRECTIVES) == KNOWN_DIRECTIVES


@pytest.mark.parametrize("name", FIELDS)
def test_it_has_an_entry_with_every_field(name: str) -> None:
    found = dict(re.findall(r"^:([^:]+): (.*)$", entry_of(name), re.MULTILINE))
    assert [field for field in FIELDS[name] if not found.get(field, "").strip()] == []


@pytest.mark.parametrize("name", FIELDS)
def test_its_entry_shows_it_at_work_and_what_is_refused(name: str) -> None:
    examples = [line for line in entry_of(name).splitlines() if line.lstrip().startswith(">>> ")]
    refusals = [line for line in examples if re.match(r" *>>> (refused|unfit|parse)\(", line)]
    assert refusals, f"{name}: no executed error"
    assert set(examples) - set(refusals), f"{name}: no executed example"


@pytest.mark.parametrize("name", DIRECTIVES + CONDITIONS)
def test_its_entry_has_edge_cases(name: str) -> None:
    assert re.search(r"^\* ", entry_of(name), re.MULTILINE)


@pytest.mark.parametrize(
    ("name", "keys"),
    [(name, sorted(DEFINITIONS[name].get("properties", ()))) for name in [*CONDITIONS, "debounce"]]
    + [("times", ["from"])],
)
def test_its_entry_explains_every_key_in_it(name: str, keys: list[str]) -> None:
    assert keys
    for key in keys:
        assert re.search(rf"``{key}``|\"{key}\"", entry_of(name)), f"{name}: nothing on {key!r}"


def test_every_outcome_of_a_task_is_named() -> None:
    text = entries()["Outcomes of tasks as triggers"]
    assert [outcome for outcome in OUTCOMES if f"``t_x:{outcome}``" not in text] == []


def test_what_is_not_in_the_schema_has_no_entry() -> None:
    named = {title for title in entries() if title.startswith("``")}
    assert named == {title_of(name) for name in FIELDS}
