"""The pages on settings, checks and commands list all that there is, with its defaults."""

from __future__ import annotations

import argparse
import ast
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from django.core.management import get_commands, load_command_class

import triggers.checks
from tests.servers import ROOT, key_prefix, redis_url
from triggers import TriggerManager, conf, exceptions
from triggers.commands import SUBCOMMANDS
from triggers.limits import DEFAULT_LIMITS, Limits
from triggers.storages import storage_backends

SETTINGS = (ROOT / "docs" / "reference" / "settings.rst").read_text(encoding="utf-8")
API = (ROOT / "docs" / "reference" / "api.rst").read_text(encoding="utf-8")
COMMANDS = (ROOT / "docs" / "reference" / "commands.rst").read_text(encoding="utf-8")
CHECK_ID = re.compile(r"triggers\.[EW]\d{3}")


def cells(page: str, width: int) -> Iterator[list[str]]:
    """Rows of the page's simple tables with so many columns; a cell may go on in further lines."""
    for table in re.findall(r"^=+(?:  =+)+\n(?:.+\n)+?(?==)(?:.+\n)*", page, re.MULTILINE):
        lines = table.splitlines()
        starts = [each.start() for each in re.finditer(r"=+", lines[0])]
        if len(starts) != width:
            continue
        ends = [*starts[1:], None]
        row: list[str] = []
        for line in lines[1:]:
            if line.startswith("="):
                continue
            parts = [line[start:end].strip() for start, end in zip(starts, ends, strict=True)]
            if parts[0]:
                yield from [row] if row else []
                row = parts
            else:
                row = [f"{old} {new}".strip() for old, new in zip(row, parts, strict=True)]
        yield from [row] if row else []


# -- system checks ------------------------------------------------------------------------------


def ids_of_the_code() -> list[str]:
    tree = ast.parse(inspect.getsource(triggers.checks))
    found = (
        each.value.value
        for each in ast.walk(tree)
        if isinstance(each, ast.keyword)
        and each.arg == "id"
        and isinstance(each.value, ast.Constant)
    )
    return sorted(set(found))


def test_every_check_has_an_id_that_the_page_explains_and_there_are_no_others() -> None:
    known = ids_of_the_code()
    assert len(known) >= 9
    assert all(CHECK_ID.fullmatch(each) for each in known)
    explained = {name.strip("`"): text for name, text in cells(SETTINGS, 2) if "triggers." in name}
    assert sorted(explained) == known
    assert all(len(text) > 20 for text in explained.values())
    assert sorted(set(CHECK_ID.findall(inspect.getdoc(triggers.checks) or ""))) == known


@pytest.mark.parametrize("check_id", ids_of_the_code())
def test_every_check_has_a_test(check_id: str) -> None:
    tests = [each for each in (ROOT / "tests").rglob("test_*.py") if each != Path(__file__)]
    assert any(f'"{check_id}"' in each.read_text(encoding="utf-8") for each in tests)


# -- settings -----------------------------------------------------------------------------------


def own_options(storage: str) -> dict[str, inspect.Parameter]:
    """The keyword arguments of a storage, without those that all of them have."""
    parameters = inspect.signature(storage_backends.get_class(storage).__init__).parameters
    return {
        name: each for name, each in parameters.items() if name not in ("self", "uid", "limits")
    }


def options_on_the_page() -> dict[tuple[str, str], str]:
    """What the page says of each option, by storage and option."""
    return {
        (storage.strip("`"), option.strip("`")): text
        for option, storage, text in cells(SETTINGS, 3)
        if option.startswith("``")
    }


def test_every_option_of_every_storage_is_on_the_page_and_there_are_no_others() -> None:
    expected = {("all", name) for name in Limits.__dataclass_fields__}
    for storage in ("memory", "database", "cache", "redis"):
        expected |= {(storage, name) for name in own_options(storage)}
    assert set(options_on_the_page()) == expected


@pytest.mark.parametrize(("storage", "option"), sorted(options_on_the_page()))
def test_the_page_says_the_default_of_an_option(storage: str, option: str) -> None:
    text = options_on_the_page()[storage, option]
    if storage == "all":
        assert text.partition(" (:doc:")[0].endswith(f"; {getattr(DEFAULT_LIMITS, option):,.0f}")
        return
    default = own_options(storage)[option].default
    if (storage, option) == ("redis", "url"):
        assert default is None  # which means another one
        default = "redis://localhost:6379/0"
    written = f'"{default}"' if isinstance(default, str) else str(default)
    assert f"``{written}``" in text


def test_every_key_of_an_alias_is_explained() -> None:
    explained = set(re.findall(r"^``([A-Z]+)``\n    ", SETTINGS, re.MULTILINE))
    assert explained == conf._KEYS


def test_the_registered_names_are_those_on_the_page() -> None:
    from triggers.manager import trigger_managers
    from triggers.runners import task_runners

    bundled = dict(
        re.findall(r"registered (manager class|storage|runner)\. Bundled: ([^.]+)\.", SETTINGS)
    )
    for what, registry in (
        ("manager class", trigger_managers),
        ("storage", storage_backends),
        ("runner", task_runners),
    ):
        names = re.findall(r"``(\w+)``", bundled[what])
        ours = [each for each in registry.names() if _is_ours(registry.get_class(each))]
        assert sorted(names) == ours


def _is_ours(cls: type) -> bool:
    return cls.__module__.startswith("triggers.") and not cls.__module__.startswith(
        "triggers.testing"
    )


@pytest.mark.server("redis")
def test_the_keys_in_redis_are_like_those_on_the_page() -> None:
    import redis

    from triggers.storages.redis import RedisStorageBackend, keys

    head = keys.head_key("shop", "order:42")
    index = keys.bucket_key("shop", keys.bucket_of("order:42"), "sessions")
    assert f"as ``{head}`` and\n    ``{index}`` do" in SETTINGS
    assert "``{shop:*``, in an ACL ``~{shop:*``" in SETTINGS
    # Whatever a session needs, nothing of it lies beside the pattern.
    prefix = f"{key_prefix()}-{uuid4().hex[:8]}"
    manager = TriggerManager(RedisStorageBackend("order:42", url=redis_url(), prefix=prefix))
    manager.default_task_runner_name = "synchronous"
    manager.update_configuration({"t_x": {"after": ["a", "b"], "run": "nobody.knows.it"}})
    manager.fire("a", idempotency_key="once")
    manager.fire("b")
    with redis.Redis.from_url(redis_url(), decode_responses=True) as client:
        found = set(client.scan_iter(match=f"*{prefix}*", count=1000))
        matching = set(client.scan_iter(match=f"{{{prefix}:*", count=1000))
    manager.storage.delete()
    assert {head, index} <= {each.replace(prefix, "shop") for each in found}
    assert found == matching


# -- commands -----------------------------------------------------------------------------------


COMMON = {"--help", "--version", "--verbosity", "--no-color", "--force-color", "--traceback"}
COMMON |= {"--settings", "--pythonpath", "--skip-checks"}


def arguments_of(subcommand: str) -> dict[str, Any]:
    """The options that a subcommand has beside those of every command, with their defaults."""
    command = load_command_class(get_commands()["triggers"], "triggers")
    parser = command.create_parser("manage.py", "triggers")
    [choices] = [each for each in parser._actions if isinstance(each, argparse._SubParsersAction)]
    actions = [each for each in choices.choices[subcommand]._actions if each.option_strings]
    found = {each.option_strings[-1]: each.default for each in actions}
    return {name: default for name, default in found.items() if name not in COMMON}


def section_on(subcommand: str) -> str:
    heading = f"``manage.py triggers {subcommand}``\n-"
    assert heading in COMMANDS
    return COMMANDS.partition(heading)[2].partition("\n``manage.py triggers ")[0]


@pytest.mark.parametrize("subcommand", SUBCOMMANDS)
def test_every_argument_of_a_subcommand_is_on_the_page_with_its_default(subcommand: str) -> None:
    rows = [row for row in cells(section_on(subcommand), 2) if "``--" in row[0]]
    explained = {re.split(r"[` ]", name.strip("`"))[0]: text for name, text in rows}
    arguments = arguments_of(subcommand)
    assert set(explained) == set(arguments)
    for name, default in arguments.items():
        if default not in (None, False):
            said = explained[name].replace("`", "").partition("; ")[2]
            assert said == (f"{default:g}" if isinstance(default, float) else str(default)), name


@pytest.mark.parametrize("subcommand", SUBCOMMANDS)
def test_every_subcommand_says_how_it_exits(subcommand: str) -> None:
    assert "Exit status: 0" in section_on(subcommand)


# -- exceptions ---------------------------------------------------------------------------------


def test_every_exception_is_in_the_table_with_what_it_is_beside() -> None:
    table = {
        name.split("`")[1]: base.strip("`") for name, base, _when in cells(API, 3) if "`" in name
    }
    classes = {
        name: each
        for name, each in vars(exceptions).items()
        if isinstance(each, type) and issubclass(each, exceptions.TriggersError)
    }
    assert set(table) == set(classes) - {"TriggersError"}
    for name, base in table.items():
        beside = {each.__name__ for each in classes[name].__bases__} - {"TriggersError"}
        assert base in beside, name
