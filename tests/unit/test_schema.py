"""The published JSON Schema and the validator agree, in both directions."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

import triggers
from triggers.conditions import predicate, provider
from triggers.conditions.durations import LONGEST, format_duration
from triggers.configuration import parse, schema
from triggers.exceptions import ConfigurationError

PUBLISHED = Path(triggers.__file__).parent / "schema" / "configuration.schema.json"
LANGUAGE = Path(triggers.__file__).parents[1] / "docs" / "reference" / "language.rst"

# A validator of its own, which looks at everything in one go, as an editor does.
OFFICIAL = Draft202012Validator(schema())


@predicate("schema_is_large")
def is_large(kwargs: dict[str, Any]) -> bool:
    return bool(kwargs)


@provider("schema_build")
def build(context: Any) -> dict[str, Any]:
    return {}


def problems_of(configuration: Any) -> tuple[tuple[str, str], ...]:
    try:
        parse(configuration)
    except ConfigurationError as error:
        return error.problems
    return ()


def is_accepted(configuration: Any) -> bool:
    return not problems_of(configuration)


# -- configurations ----------------------------------------------------------------------------

names = st.sampled_from(["a", "b", "c", "app.done", "t_0", "t_1:failed"])
paths = st.sampled_from(["x", "page.number", "$args.b.x", "0"])
durations = st.sampled_from(["P1W", "P3D", "PT1H30M", "PT0.5S", "P1DT1S", "P36500D"])
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.sampled_from(["", "text", "2026-11-21"]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from("xy"), inner),
    max_leaves=4,
)  # fmt: skip
ordered = st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.sampled_from("xy")


def conditions_of(members: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    lists = st.lists(members, min_size=1, max_size=3)
    return (
        lists
        | st.fixed_dictionaries({"all": lists})
        | st.fixed_dictionaries({"any": lists})
        | lists.flatmap(
            lambda of: st.fixed_dictionaries(
                {"atLeast": st.integers(1, len(of)), "of": st.just(of)}
            )
        )
    )


times = st.integers(1, 9) | st.fixed_dictionaries(
    {"from": st.sampled_from(["a.pages", "app.done.pages", "z.0.n", "t_0.count"])}
)
leaves = (
    names
    | st.fixed_dictionaries({"trigger": names}, optional={"times": times})
    | st.fixed_dictionaries({"settled": st.sampled_from(["t_0", "t_1"])})
    | st.fixed_dictionaries({"elapsed": durations, "since": names})
)
members = st.recursive(leaves, conditions_of, max_leaves=6)
conditions = st.lists(members, max_size=3) | conditions_of(members)
tests = values.filter(lambda value: not isinstance(value, dict)) | st.fixed_dictionaries(
    {"exists": st.booleans()},
    optional={
        "eq": values,
        "ne": values,
        "lt": ordered,
        "lte": ordered,
        "gt": ordered,
        "gte": ordered,
        "in": st.lists(values, max_size=2),
        "contains": values,
        "containsAny": st.lists(values, max_size=2),
        "matches": st.sampled_from(["", "^a", "[0-9]+$"]),
    },
)
filters = st.recursive(
    st.just("schema_is_large") | st.dictionaries(paths, tests, min_size=1, max_size=2),
    lambda inner: st.lists(inner, min_size=1, max_size=2),
    max_leaves=3,
)


@st.composite
def tasks(draw: st.DrawFn) -> dict[str, Any]:
    optional: dict[str, Any] = {
        "unless": conditions,
        "within": durations,
        "withParams": st.dictionaries(names, st.dictionaries(st.sampled_from("xy"), values)),
        "withArgs": st.just("schema_build"),
        "using": st.just("threading"),
        "note": values,
    }
    task = draw(st.fixed_dictionaries({"run": st.just("app.X")}, optional=optional))
    every = draw(st.sampled_from(["", "", "p"]))  # no other name, since it takes no 'times'
    if every:
        task["andEvery"] = every
        task.update(draw(st.fixed_dictionaries({}, optional={"atMostEvery": durations})))
        if draw(st.booleans()):
            task["debounce"] = {"quiet": "PT5S", "most": draw(durations.filter("PT0.5S".__ne__))}
    if not every or draw(st.booleans()):
        task["after"] = draw(conditions)
    parsed = parse({"t_0": task}).tasks["t_0"]
    chosen = st.sampled_from(sorted((parsed.after | parsed.unless) - {"p"}) or ["p"])
    if parsed.after | parsed.unless:
        task["when"] = draw(st.dictionaries(chosen, filters, max_size=2))
    if parsed.after - {"p"}:
        task["fresh"] = draw(st.dictionaries(chosen, durations, max_size=2))
    return task


configurations = st.dictionaries(
    st.sampled_from(["t_0", "t_1", "t-2 ä"]), tasks(), min_size=1, max_size=2
)
odd = st.sampled_from(
    [None, True, 0, -1, 2.5, "", "a", "P1Y", "a.b", [], ["a"], [[]], {}, {"any": ["a"]},
     {"from": "a.b"}, {"trigger": "a"}, {"x": 1}, "$args", "x" * 300, {"": {}}, {"eq": 1}]
)  # fmt: skip
words = st.sampled_from(
    ["after", "andEvery", "unless", "when", "any", "all", "of", "atLeast", "times", "settled",
     "since", "fresh", "debounce", "quiet", "eq", "lt", "in", "matches", "", "a#b", "own"]
)  # fmt: skip


def places(value: Any) -> Iterator[tuple[Any, Any]]:
    """All containers in a value, each with its keys or positions."""
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, inner in items:
        yield value, key
        if isinstance(inner, dict | list):
            yield from places(inner)


@st.composite
def mutated(draw: st.DrawFn) -> Any:
    configuration = copy.deepcopy(draw(configurations))
    for _ in range(draw(st.integers(1, 2))):
        found = list(places(configuration))
        if not found:
            break
        container, key = draw(st.sampled_from(found))
        change = draw(st.sampled_from(["replace", "remove", "add", "rename"]))
        if change == "replace":
            container[key] = copy.deepcopy(draw(odd))
        elif change == "remove":
            del container[key]
        elif isinstance(container, list):
            container.append(copy.deepcopy(draw(odd)))
        elif change == "add":
            container[draw(words)] = copy.deepcopy(draw(odd))
        else:
            container[draw(words)] = container.pop(key)
    return configuration


@given(configurations)
def test_the_schema_accepts_what_parse_accepts(configuration: Any) -> None:
    assert is_accepted(configuration)
    assert list(OFFICIAL.iter_errors(configuration)) == []


@settings(max_examples=300, deadline=None)
@given(mutated())
def test_parse_refuses_what_the_schema_refuses(configuration: Any) -> None:
    valid = OFFICIAL.is_valid(configuration)
    problems = problems_of(configuration)
    accepted = not problems
    event(f"the schema says {valid}, parse says {accepted}")
    assert valid or not accepted
    assert all(reason for _path, reason in problems)


@given(st.timedeltas(min_value=LONGEST / LONGEST.total_seconds() / 10**6, max_value=LONGEST))
def test_every_duration_has_the_form_that_the_schema_asks_for(length: Any) -> None:
    assert OFFICIAL.is_valid(
        {"t_x": {"andEvery": "p", "run": "x", "within": format_duration(length)}}
    )


# -- what is published -------------------------------------------------------------------------


def test_the_schema_is_valid_and_published_with_the_package() -> None:
    Draft202012Validator.check_schema(schema())
    assert json.loads(PUBLISHED.read_text("utf-8")) == schema()
    assert schema()["$schema"] == Draft202012Validator.META_SCHEMA["$id"]
    schema()["$defs"].clear()
    assert schema()["$defs"]


def examples_of(part: Any, path: str = "#") -> Iterator[tuple[str, Any, Any]]:
    if isinstance(part, dict):
        for example in part.get("examples", ()):
            yield path, part, example
        for key, value in part.items():
            if key != "examples":
                yield from examples_of(value, f"{path}/{key}")


EXAMPLES = list(examples_of(schema()))


@pytest.mark.parametrize(("path", "part", "example"), EXAMPLES, ids=[each[0] for each in EXAMPLES])
def test_every_example_in_the_schema_is_valid(path: str, part: Any, example: Any) -> None:
    assert OFFICIAL.evolve(schema=part).is_valid(example)


PLACEHOLDERS = {
    r"\[…\]": '["c"]',
    r"\bC, …": '"c", ["d", "e"]',
    r'"elapsed": …, "since": …': '"elapsed": "P1D", "since": "c"',
    r"…": "1",
    r": n\b": ": 2",
    r"\bvalue\b": "5",
    r"\[F, G\]": '["is_large", {"path": 1}]',
    r'"(is_large|name)"': '"schema_is_large"',
}
OF_KWARGS = {'{"reason": "expired"}', '{"reason": "unless"}'}


def literals() -> list[str]:
    """Everything in the page of the language that is written as JSON."""
    found = [
        " ".join(text.split()) for text in re.findall(r"``(.+?)``", LANGUAGE.read_text(), re.S)
    ]
    return sorted({text for text in found if "{" in text or '": ' in text} - OF_KWARGS)


@pytest.mark.skipif(not LANGUAGE.exists(), reason="the documentation is not part of this copy")
def test_the_page_of_the_language_has_examples() -> None:
    assert len(literals()) >= 18
    assert '"when": {"a": {"path": {"gte": 3, "lt": 9}}}' in literals()


@pytest.mark.parametrize("text", literals() if LANGUAGE.exists() else [])
def test_every_example_of_the_page_of_the_language_is_accepted(text: str) -> None:
    for pattern, plain in PLACEHOLDERS.items():
        text = re.sub(pattern, plain, text)
    task: dict[str, Any] = {"after": ["a", "t_y"], "run": "app.X"}
    if text.startswith("{"):
        piece = json.loads(text)
        if "from" in piece:
            task["after"] = {"trigger": "a", "times": piece}
        elif "exists" in piece:
            task["when"] = {"a": {"path": piece}}
        else:
            task["after"] = piece
    else:
        task.update(json.loads("{" + text + "}"))
        task["andEvery"] = "p"
        if "withArgs" in task:
            task["withArgs"] = "schema_build"
    assert is_accepted({"t_x": task})
    assert OFFICIAL.is_valid({"t_x": task})
