"""A configuration is accepted as a whole or refused as a whole, with the path of the bad value."""

from __future__ import annotations

import json
import subprocess
import sys
from decimal import Decimal
from io import StringIO
from pathlib import Path
from typing import Any

import pytest

from triggers import configuration
from triggers.configuration import parse, restore
from triggers.exceptions import ConfigurationError
from triggers.manager import TriggerManager

GOOD = {"after": ["a"], "run": "app.tasks.X"}


@pytest.mark.parametrize(
    ("configuration", "path", "reason"),
    [
        (["t_x"], "configuration", "expected a mapping of tasks, got list"),
        ("orders", "configuration", "got str; the workflow of a name is triggers.workflows.get(…)"),
        ("a.json", "configuration", "what is in a file is read with json.load(…)"),
        (Path("a.json"), "configuration", "Path; read the file with json.load(…)"),
        (StringIO("{}"), "configuration", "got StringIO; read the file with json.load(…)"),
        (' {"t_x": {}}', "configuration", "got str; read the JSON with json.loads(…)"),
        (b"{}", "configuration", "got bytes; read the JSON with json.loads(…)"),
        (7, "configuration", "expected a mapping of tasks, got int"),
        ({"t_x": ["a"]}, "t_x", "expected a mapping of directives, got list"),
        ({42: GOOD}, "42", "a task name must be a string, got int"),
        ({"": GOOD}, "", "a task name must not be empty"),
        ({"t#x": GOOD}, "t#x", "neither '#' nor ':'"),
        ({"t:x": GOOD}, "t:x", "neither '#' nor ':'"),
        ({"t" * 256: GOOD}, "t" * 256, "256 characters; 255 are allowed"),
        ({"t\x00": GOOD}, "t\x00", "U+0000"),
        ({"t_x": {**GOOD, "after": "a"}}, "t_x.after", "got str; write ['a']"),
        ({"t_x": {**GOOD, "after": 1}}, "t_x.after", "expected a list of trigger names, got int"),
        ({"t_x": {**GOOD, "after": {"a": 1}}}, "t_x.after", "none of the keys all, any, atLeast"),
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
        (
            {"t_x": {**GOOD, "after": ["t_x:expird"]}},
            "t_x.after",
            "t_x has no outcome 'expird'; write 't_x' once it finished, or one of t_x:failed, "
            "t_x:skipped, t_x:abandoned, t_x:expired, t_x:ended",
        ),
        ({"t_x": {**GOOD, "andEvery": "t_x:finished"}}, "t_x.andEvery", "no outcome 'finished'"),
        ({"t_x": {**GOOD, "unless": ["t_x:"]}}, "t_x.unless", "'t_x:' is reserved"),
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


def test_a_problem_in_one_directive_hides_none_in_another() -> None:
    directives = {
        "within": "P1Y",
        "when": {"a": {"x": {"matches": "("}}, "b": "nobody"},
        "after": [{"atLeast": 2, "of": ["a"]}],
        "using": "",
    }
    with pytest.raises(ConfigurationError) as caught:
        parse({"t_x": directives, "t_y": ["a"]})
    assert [path for path, _problem in caught.value.problems] == [
        "t_x.within",
        "t_x.when.a.x.matches",
        "t_x.when.b",
        "t_x.using",
        "t_x.run",
        "t_x.after[0].atLeast",
        "t_y",
    ]


def test_the_order_of_directives_does_not_matter() -> None:
    one = parse({"t_x": {"run": "x", "after": ["a"], "within": "P1D"}})
    assert one.body == parse({"t_x": {"within": "P1D", "after": ["a"], "run": "x"}}).body


def test_what_was_accepted_once_is_known_again_by_its_exact_text(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(configuration, "_accepted", {})
    monkeypatch.setattr(configuration, "_KEPT", 2)
    first = parse({"t_x": GOOD})
    assert parse({"t_x": {"after": ("a",), "run": "app.tasks.X"}}) is first
    assert parse({"t_x": {**GOOD, "note": 1}}) != parse({"t_x": {**GOOD, "note": True}})
    assert parse({"t_x": GOOD}) == first
    assert len(configuration._accepted) <= 2
    parse({"t_x": {**GOOD, "note": "x" * 100_000}})
    assert max(map(len, configuration._accepted)) < 1_000
    with pytest.raises(ConfigurationError, match="a directive must be a string"):
        parse({"t_x": {**GOOD, 5: 1}})


def test_the_schema_library_is_loaded_when_it_is_needed() -> None:
    code = (
        "import sys, triggers.configuration as c; before = 'jsonschema' in sys.modules; "
        "c.parse({'t_x': {'after': [], 'run': 'x'}}); print(before, 'jsonschema' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.split() == ["False", "True"]
