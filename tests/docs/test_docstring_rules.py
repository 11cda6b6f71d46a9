"""The rules for docstrings see what is missing, and accept what is said in other words."""

from __future__ import annotations

import ast
import textwrap

import pytest

from tests.docs.docstring_rules import complaints
from tests.docs.public_names import Name, definitions, field_of, names_of, public_modules


def said_of(source: str, module: str = "triggers.timers") -> list[str]:
    """The complaints about everything that a piece of source defines."""
    found: list[str] = []
    for path, (node, doc) in definitions(ast.parse(textwrap.dedent(source)).body).items():
        found += complaints(Name(module=module, path=path, node=node, doc=doc))
    return found


@pytest.mark.parametrize(
    ("signature", "doc", "expected"),
    [
        ("f() -> None", "", ["has no docstring"]),
        ("f() -> None", "Do it.", []),
        # parameters
        ("f(uid: str) -> None", "Do it.", ["does not explain 'uid'"]),
        ("f(uid: str) -> None", "Do it.\n\n:param uid: the session.", []),
        ("f(uid: str) -> None", "Do it in the session ``uid``.", []),
        ("f(*names: str, **options: str) -> None", "Do ``names``.", ["does not explain 'options'"]),
        ("f(**options: str) -> None", "Do it.\n\n:param options: whatever.", []),
        ("f(plan: Plan) -> None", "Do it.", []),
        ("f(plan: str) -> None", "Do it.", ["does not explain 'plan'"]),
        ("f(other: Plan) -> None", "Do it.", ["does not explain 'other'"]),
        ("f(plan: Plan | None) -> None", "Do it.", ["does not explain 'plan'"]),
        # units
        ("f(n: int) -> None", "Do it.\n\n:param n: the size.", ["does not say the unit of 'n'"]),
        ("f(n: int) -> None", "Do it.\n\n:param n: bytes.", []),
        ("f(n: str | float) -> None", "Do ``n`` it.", ["does not say the unit of 'n'"]),
        ("f(n: dict[str, int]) -> None", "Do ``n`` it.", []),
        # defaults
        ("f(a: str = None) -> None", "Do ``a`` it.", ["does not say what 'a' is by default"]),
        ("f(*, a: str = None) -> None", "Do ``a`` it.", ["does not say what 'a' is by default"]),
        ("f(a: str = None) -> None", "Do it.\n\n:param a: what; by default all.", []),
        ("f(a: str = '') -> None", "Do ``a`` it.", []),
        ("f(a: str, b: str = None) -> None", "Do ``a`` and ``b``; ``None``: no.", []),
        # results
        ("f() -> int", "Do it.", ["does not say what it returns"]),
        ("f() -> int", "How many there are.", []),
        ("f() -> int", "Do it.\n\n:returns: how many there are.", []),
        # a reference
        ("f(a: int) -> int", "See :func:`~triggers.timers.fire_due`.", []),
        ("f() -> int", "See :func:`~triggers.timers.fire_due` for it.", ["does not say what it"]),
    ],
)
def test_functions(signature: str, doc: str, expected: list[str]) -> None:
    found = said_of(f"def {signature}:\n    {doc!r}\n")
    assert len(found) == len(expected)
    for complaint, beginning in zip(found, expected, strict=True):
        assert complaint.startswith(beginning)


def test_exceptions_that_leave_a_function_are_documented() -> None:
    source = '''
        def f() -> None:
            """Do it.

            {fields}
            """
            try:
                if later:
                    raise TypeError("caught")
                raise KeyError("caught, by a base class")
            except (TypeError, LookupError):
                raise SettingsError("not caught") from None
            def g() -> None:
                raise OSError("not here")
            raise error
    '''
    assert said_of(source.format(fields="")) == ["does not document SettingsError"]
    assert said_of(source.format(fields=":raises SettingsError: why.")) == []


def test_exceptions_of_private_functions_are_documented_where_these_are_called() -> None:
    source = '''
        def f(now: datetime) -> None:
            """Do it at ``now``."""
            _aware(now)
    '''
    assert said_of(source) == ["does not document TypeError", "does not document ValueError"]


@pytest.mark.parametrize(
    ("assignment", "doc", "expected"),
    [
        ("LIMIT = 5", "", ["has no docstring"]),
        ("LIMIT = 5", "The limit.", ["does not say its unit"]),
        ("LIMIT = 5", "The limit in seconds.", []),
        ("LIMIT: float = 5", "The limit.", ["does not say its unit"]),
        ("IS_ON = True", "Whether it is on.", []),
        ("RUNNER: str | None = None", "The runner.", ["does not say what None means"]),
        ("RUNNER: str | None = None", "The runner; ``None``: any.", []),
    ],
)
def test_constants(assignment: str, doc: str, expected: list[str]) -> None:
    assert said_of(f"{assignment}\n{doc!r}\n" if doc else assignment) == expected


def test_attributes_of_exceptions_are_explained_and_their_parameters_need_not_be() -> None:
    source = '''
        class SettingsError(ValueError):
            """Wrong.

            {more}
            """

            def __init__(self, reason: str, place: str) -> None:
                self.place = place
                self._reason = reason
                self.args = (reason,)
    '''
    assert said_of(source.format(more=""), "triggers.exceptions") == [
        "does not explain its attribute 'place'"
    ]
    assert said_of(source.format(more=":ivar place: where."), "triggers.exceptions") == []


def test_classes_explain_the_parameters_of_their_constructors() -> None:
    source = '''
        class Registry:
            """A registry. {more}"""

            def __init__(self, group: str) -> None:
                pass
    '''
    assert said_of(source.format(more=""), "triggers.registry") == ["does not explain 'group'"]
    assert said_of(source.format(more="Of ``group``."), "triggers.registry") == []


# -- which names are public ---------------------------------------------------------------------


def paths(module: str, presented: tuple[str, ...] = ()) -> set[str]:
    return {each.full for each in names_of(module, presented)}


def test_what_a_module_exports_is_public_wherever_it_is_defined() -> None:
    found = paths("triggers.task")
    assert "triggers.task.TriggerTask.retry" in found
    assert "triggers.context.TaskContext.filter_kwargs" in found
    assert "triggers.attempt.TaskRetry" in found
    assert "triggers.attempt.Attempt" not in found
    assert "triggers.task.LONGEST_COOLDOWN" not in found


def test_of_a_module_without_exports_all_that_it_defines_is_public_or_what_is_chosen() -> None:
    everything = paths("triggers.conf")
    assert {"triggers.conf.Alias", "triggers.conf.Alias.manager"} <= everything
    assert not [each for each in everything if "._" in each]
    assert "triggers.conf.SettingsError" not in everything
    assert paths("triggers.conf", ("get_alias",)) == {"triggers.conf.get_alias"}


def test_members_that_a_base_class_describes_are_described_there() -> None:
    found = paths("triggers.storages.memory")
    assert "triggers.storages.memory.MemoryStorageBackend.clear" in found
    assert "triggers.storages.memory.MemoryStorageBackend.commit" not in found
    assert "triggers.storages.session.SessionStorage.commit" in paths("triggers.storages.session")


def test_what_the_page_says_of_itself_is_not_public() -> None:
    found = public_modules()
    assert "triggers.manager" in found
    assert "triggers.engine" not in found
    assert "get_trigger_manager" in found["triggers.manager"]
    assert found["triggers.types"] == []


def test_fields_are_read_to_their_end() -> None:
    doc = "It.\n\n:param a: one\n    and more\n:param b: two.\n\nMore text."
    assert field_of(doc, "param", "a") == "one and more"
    assert field_of(doc, "param", "b") == "two."
    assert field_of(doc, "param", "c") == ""
