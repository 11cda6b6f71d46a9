"""Each rule of the JSON Schema refuses something, and the validator refuses it as well."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from triggers.configuration import parse, schema, shape
from triggers.exceptions import ConfigurationError

OFFICIAL = Draft202012Validator(schema())

GOOD: dict[str, Any] = {"after": ["a"], "run": "app.X"}


def of_task(**directives: Any) -> dict[str, Any]:
    return {"t_x": {**GOOD, **directives}}


SHAPELESS = [
    [],
    {"t_x": []},
    {"": GOOD},
    {"t" * 256: GOOD},
    {"t#x": GOOD},
    {"t_x": {"after": ["a"]}},
    {"t_x": {"run": "x"}},
    of_task(run=" "),
    of_task(run=5),
    of_task(using=""),
    of_task(using=5),
    of_task(after="a"),
    of_task(after=5),
    of_task(after=["", "a"]),
    of_task(after=["x" * 256]),
    of_task(after=[5]),
    of_task(after=[[]]),
    of_task(after=[["a", None]]),
    of_task(after={"none": ["a"]}),
    of_task(after=[{"none": ["a"]}]),
    of_task(after={"all": []}),
    of_task(after={"all": "a"}),
    of_task(after={"all": [5]}),
    of_task(after={"all": ["a"], "x": 1}),
    of_task(after={"any": []}),
    of_task(after={"any": ["a"], "x": 1}),
    of_task(after={"atLeast": 1}),
    of_task(after={"atLeast": 0, "of": ["a"]}),
    of_task(after={"atLeast": "1", "of": ["a"]}),
    of_task(after={"atLeast": 1, "of": []}),
    of_task(after={"atLeast": 1, "of": ["a"], "x": 1}),
    of_task(after={"trigger": 5}),
    of_task(after={"trigger": "a", "x": 1}),
    of_task(after={"trigger": "a", "times": 0}),
    of_task(after={"trigger": "a", "times": "2"}),
    of_task(after={"trigger": "a", "times": {}}),
    of_task(after={"trigger": "a", "times": {"from": 5}}),
    of_task(after={"trigger": "a", "times": {"from": ""}}),
    of_task(after={"trigger": "a", "times": {"from": "a." + "x" * 1000}}),
    of_task(after={"trigger": "a", "times": {"from": "a.x", "x": 1}}),
    of_task(after={"settled": 5}),
    of_task(after={"settled": "t_x:failed"}),
    of_task(after={"settled": "t_x", "x": 1}),
    of_task(after={"elapsed": "P1D"}),
    of_task(after={"elapsed": "P1D", "since": 5}),
    of_task(after={"elapsed": "P1M", "since": "a"}),
    of_task(after={"elapsed": "P1D", "since": "a", "x": 1}),
    of_task(unless=5),
    of_task(andEvery=["a"]),
    of_task(andEvery=""),
    of_task(when=[]),
    of_task(when={"a": 5}),
    of_task(when={"a": ""}),
    of_task(when={"a": []}),
    of_task(when={"a": {}}),
    of_task(when={"a": [[]]}),
    of_task(when={"a": {"x..y": 1}}),
    of_task(when={"a": {"$args": 1}}),
    of_task(when={"a": {"$ref": 1}}),
    of_task(when={"a": {"x" * 1001: 1}}),
    of_task(when={"a": {"x": {}}}),
    of_task(when={"a": {"x": {"is": 1}}}),
    of_task(when={"a": {"x": {"lt": None}}}),
    of_task(when={"a": {"x": {"lte": []}}}),
    of_task(when={"a": {"x": {"gt": True}}}),
    of_task(when={"a": {"x": {"gte": {}}}}),
    of_task(when={"a": {"x": {"in": "ab"}}}),
    of_task(when={"a": {"x": {"containsAny": "ab"}}}),
    of_task(when={"a": {"x": {"exists": 1}}}),
    of_task(when={"a": {"x": {"matches": 5}}}),
    of_task(within=5),
    of_task(within="72h"),
    of_task(within="PT0S"),
    of_task(fresh=[]),
    of_task(fresh={"a": 5}),
    of_task(atMostEvery="P1D"),
    of_task(atMostEvery=5, andEvery="p"),
    of_task(debounce={"quiet": "PT1S", "most": "PT2S"}),
    of_task(debounce=5, andEvery="p"),
    of_task(debounce={"quiet": "PT1S"}, andEvery="p"),
    of_task(debounce={"most": "PT1S"}, andEvery="p"),
    of_task(debounce={"quiet": 5, "most": "PT1S"}, andEvery="p"),
    of_task(debounce={"quiet": "PT1S", "most": "x"}, andEvery="p"),
    of_task(debounce={"quiet": "PT1S", "most": "PT2S", "x": 1}, andEvery="p"),
    of_task(withParams=[]),
    of_task(withParams={"a": 5}),
    of_task(withArgs=5),
    of_task(withArgs=""),
]


@pytest.mark.parametrize("configuration", SHAPELESS, ids=lambda each: json.dumps(each)[:60])
def test_a_wrong_form_is_refused_by_both(configuration: Any) -> None:
    assert not OFFICIAL.is_valid(configuration)
    with pytest.raises(ConfigurationError):
        parse(configuration)


def test_what_is_no_string_is_no_key() -> None:
    for configuration in ({5: GOOD}, {"t_x": {**GOOD, 5: 1}}, of_task(when={"a": {5: 1}})):
        assert not OFFICIAL.is_valid(configuration)
        with pytest.raises(ConfigurationError):
            parse(configuration)


CONSTRAINTS = {
    "type", "required", "anyOf", "dependentRequired", "additionalProperties", "minLength",
    "maxLength", "minItems", "minProperties", "minimum", "pattern", "not", "propertyNames",
}  # fmt: skip


def rules_of(part: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where in the schema something can be refused: paths that end in a keyword."""
    for key, value in part.items():
        if key in ("properties", "$defs", "dependentSchemas"):
            for name, inner in value.items():
                yield from rules_of(inner, (*path, key, name))
        elif key in ("items", "then", "else", "additionalProperties") and isinstance(value, dict):
            yield from rules_of(value, (*path, key))
        elif key in CONSTRAINTS:
            yield *path, key
            if key == "propertyNames":
                yield from rules_of(value, (*path, key))


def part_at(whole: Any, path: tuple[Any, ...]) -> Any:
    for key in path:
        whole = whole[key]
    return whole


RULES = list(rules_of(schema()))


@pytest.mark.parametrize("path", RULES, ids=lambda path: ".".join(map(str, path)))
def test_without_any_one_rule_the_schema_would_accept_something_wrong(path: Any) -> None:
    weaker = schema()
    del part_at(weaker, path[:-1])[path[-1]]
    lenient = Draft202012Validator(weaker)
    wrong = [*SHAPELESS, {5: GOOD}, {"t_x": {**GOOD, 5: 1}}, of_task(when={"a": {5: 1}})]
    assert any(lenient.is_valid(configuration) for configuration in wrong)


def test_every_rule_has_the_title_that_its_sentence_needs() -> None:
    parts = [part_at(schema(), path[:-1]) for path in RULES if path[-1] != "propertyNames"]
    assert [part for part in parts if "title" not in part] == []
    assert {path[-1] for path in RULES} - shape._SENTENCES.keys() == {
        "required",
        "dependentRequired",
        "additionalProperties",
        "propertyNames",
    }


def test_keywords_beside_references_are_known_to_refuse_nothing_else() -> None:
    known = CONSTRAINTS | {
        "$schema", "$ref", "$defs", "title", "description", "examples", "format", "properties",
        "items", "if", "then", "else", "dependentSchemas",
    }  # fmt: skip
    used: set[str] = set()

    def collect(part: Any) -> None:
        used.update(part)
        for key, value in part.items():
            if key in ("properties", "$defs", "dependentSchemas"):
                for inner in value.values():
                    collect(inner)
            elif isinstance(value, dict) and key not in ("dependentRequired", "const"):
                collect(value)

    collect(schema())
    assert used <= known
