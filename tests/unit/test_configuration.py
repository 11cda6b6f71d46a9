"""A configuration is accepted as a whole or refused as a whole, with the path of the bad value."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest

from triggers.configuration import parse, restore, suspicions
from triggers.exceptions import ConfigurationError, ConfigurationWarning
from triggers.manager import TriggerManager

GOOD = {"after": ["a"], "run": "app.tasks.X"}


@pytest.mark.parametrize(
    ("configuration", "path", "reason"),
    [
        (["t_x"], "configuration", "expected a mapping of tasks, got list"),
        ("t_x", "configuration", "expected a mapping of tasks, got str"),
        ({"t_x": ["a"]}, "t_x", "expected a mapping of directives, got list"),
        ({42: GOOD}, "42", "a task name must be a string, got int"),
        ({"": GOOD}, "", "a task name must not be empty"),
        ({"t#x": GOOD}, "t#x", "neither '#' nor ':'"),
        ({"t:x": GOOD}, "t:x", "neither '#' nor ':'"),
        ({"t" * 256: GOOD}, "t" * 256, "256 characters; 255 are allowed"),
        ({"t\x00": GOOD}, "t\x00", "U+0000"),
        ({"t_x": {**GOOD, "after": "a"}}, "t_x.after", "got str; write ['a']"),
        ({"t_x": {**GOOD, "after": {"a": 1}}}, "t_x.after", "expected a list of trigger names"),
        ({"t_x": {**GOOD, "after": None}}, "t_x.after", "got NoneType"),
        ({"t_x": {**GOOD, "after": ["a", 7]}}, "t_x.after[1]", "must be a string, got int"),
        ({"t_x": {**GOOD, "after": ["a", ""]}}, "t_x.after[1]", "must not be empty"),
        ({"t_x": {**GOOD, "unless": "u"}}, "t_x.unless", "expected a list of trigger names"),
        ({"t_x": {**GOOD, "andEvery": ["p"]}}, "t_x.andEvery", "expected a single trigger name"),
        ({"t_x": {**GOOD, "andEvery": 1}}, "t_x.andEvery", "must be a string, got int"),
        ({"t_x": {**GOOD, "withParams": [1]}}, "t_x.withParams", "a mapping of mappings, got list"),
        (
            {"t_score": {**GOOD, "withParams": {"model": "Psych 01"}}},
            "t_score.withParams.model",
            "expected a mapping of kwargs, as a trigger has them, got str",
        ),
        (
            {"t_x": {**GOOD, "withParams": {"a": {"deep": [{"set": {1, object}}]}}}},
            "t_x.withParams.a.deep[0].set",
            "cannot store a builtins.set",
        ),
        ({"t_x": {**GOOD, "withParams": {"a": {1: 2}}}}, "t_x.withParams.a", "keys must be str"),
        ({"t_x": {**GOOD, "withParams": {1: {}}}}, "t_x.withParams", "keys must be strings"),
        ({"t_x": {**GOOD, "run": ""}}, "t_x.run", "is empty"),
        ({"t_x": {**GOOD, "run": "  "}}, "t_x.run", "is empty"),
        ({"t_x": {**GOOD, "run": None}}, "t_x.run", "got NoneType"),
        ({"t_x": {"after": ["a"]}}, "t_x.run", "is required"),
        ({"t_x": {"run": "x"}}, "t_x.after", "is required"),
        ({"t_x": {**GOOD, "using": 3}}, "t_x.using", "the name of a task runner, got int"),
        ({"t_x": {**GOOD, "using": ""}}, "t_x.using", "the name of a task runner"),
        ({"t_x": {**GOOD, "note": object()}}, "t_x.note", "cannot store a builtins.object"),
        ({"t_x": {**GOOD, "note": float("nan")}}, "t_x.note", "JSON has no nan"),
        ({"t_x": {**GOOD, "note": "x" * 2**21}}, "t_x.note", "bytes; 1,048,576 are allowed"),
        ({"t_x": {**GOOD, 5: 1}}, "t_x.5", "a directive must be a string, got int"),
        ({"t_x": {**GOOD, "after": ["t_x:failed"]}}, "t_x.after", "reserved for the outcome"),
        ({"t_x": {**GOOD, "andEvery": "t_x:ended"}}, "t_x.andEvery", "reserved for the outcome"),
    ],
)
def test_what_is_wrong_is_named_by_its_path(configuration: Any, path: str, reason: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        parse(configuration)
    assert path in [place for place, _problem in caught.value.problems]
    assert reason in dict(caught.value.problems)[path]
    assert f"{path}: " in str(caught.value)


def test_a_task_given_instead_of_its_name_is_explained() -> None:
    class Task:
        name = "app.tasks.Score"

    with pytest.raises(ConfigurationError, match=r"t_x\.run: .*write 'app\.tasks\.Score'"):
        parse({"t_x": {**GOOD, "run": Task}})


def test_every_problem_is_reported_at_once() -> None:
    bad = {"t_a": {"after": "a", "run": ""}, "t#": {"after": [1], "run": 2}, "t_good": GOOD}
    with pytest.raises(ConfigurationError) as caught:
        parse(bad)
    assert [path for path, _problem in caught.value.problems] == [
        "t_a.after",
        "t_a.run",
        "t#",
        "t#.after[0]",
        "t#.run",
    ]


def test_a_refused_configuration_changes_nothing(trigger_manager: TriggerManager) -> None:
    trigger_manager.update_configuration({"t_x": GOOD})
    before = trigger_manager.storage.debug_repr()
    with pytest.raises(ConfigurationError):
        trigger_manager.update_configuration({"t_new": GOOD, "t_x": {**GOOD, "run": ""}})
    assert trigger_manager.storage.debug_repr() == before


def test_json_and_python_forms_mean_the_same() -> None:
    python = {"t_x": {"run": "x", "after": {"b", "a"}, "unless": ("u",), "extra": {"k": (1, 2)}}}
    text = '{"t_x": {"after": ["a", "b"], "unless": ["u"], "run": "x", "extra": {"k": [1, 2]}}}'
    assert parse(python) == parse(json.loads(text))
    assert parse(python).digest == parse(json.loads(text)).digest
    assert parse(python) != "something else"


def test_a_stored_configuration_comes_back_as_it_was() -> None:
    directives = {**GOOD, "withParams": {"a": {"price": Decimal("1.10")}}, "note": ["any", None]}
    parsed = parse({"t_x": directives, "t_a": GOOD})
    restored = restore(parsed.body)
    assert restored == parsed
    assert list(restored.tasks) == ["t_x", "t_a"]
    assert restored.tasks["t_x"].with_params == {"a": {"price": Decimal("1.10")}}
    assert restored.tasks["t_x"].extras == restored.tasks["t_x"].extra == {"note": ["any", None]}


def test_after_includes_and_every() -> None:
    task = parse({"t_x": {"after": ["a"], "andEvery": "p", "run": "x"}}).tasks["t_x"]
    assert (task.after, task.and_every) == ({"a", "p"}, "p")


@pytest.mark.parametrize(
    ("configuration", "name", "reason"),
    [
        ({"t_x": {"after": [], "run": "x"}}, "t_x", "nothing ever starts it"),
        ({"t_x": {"after": [], "unless": ["u"], "run": "x"}}, "t_x", "waits for nothing"),
        ({"t_x": {"after": ["t_x"], "run": "x"}}, "t_x", "waits for itself"),
        (
            {
                "t_a": {"after": ["t_c"], "run": "x"},
                "t_b": {"after": ["t_a"], "run": "x"},
                "t_c": {"after": ["t_b", "p"], "run": "x"},
            },
            "t_a",
            "(t_a -> t_c -> t_b -> t_a)",
        ),
        ({"t_x": {"after": ["a", "b"], "unless": ["b"], "run": "x"}}, "t_x", "can never run"),
    ],
)
def test_what_is_merely_suspicious_is_a_warning(
    configuration: dict[str, Any], name: str, reason: str, trigger_manager: TriggerManager
) -> None:
    [(found, why)] = suspicions(parse(configuration))
    assert found == name
    assert reason in why
    with pytest.warns(ConfigurationWarning, match=name):
        trigger_manager.update_configuration(configuration)
    assert set(trigger_manager.storage.tasks) == set(configuration)


def test_an_unknown_runner_is_a_warning_that_names_the_known_ones(
    trigger_manager: TriggerManager,
) -> None:
    with pytest.warns(ConfigurationWarning, match=r"t_x\.using.*'lambda'.*celery.*threading"):
        trigger_manager.update_configuration({"t_x": {**GOOD, "using": "lambda"}})


def test_shared_steps_without_a_circle_are_not_suspicious() -> None:
    diamond = {
        "t_a": {"after": ["x"], "run": "x"},
        "t_b": {"after": ["t_a"], "run": "x"},
        "t_c": {"after": ["t_a"], "run": "x"},
        "t_d": {"after": ["t_b", "t_c"], "unless": ["u"], "run": "x"},
    }
    assert list(suspicions(parse(diamond))) == []


def test_a_long_chain_of_tasks_is_examined_without_deep_recursion() -> None:
    chain = {f"t_{n}": {"after": [f"t_{n + 1}"], "run": "x"} for n in range(3_000)}
    assert list(suspicions(parse(chain))) == []
