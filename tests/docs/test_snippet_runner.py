"""The runner of the documentation's snippets notices what it is there to notice."""

import sys
import textwrap
from pathlib import Path

import pytest

from tests.docs.snippets import Outcome, SnippetError, read, run

SHELL = ".. code-block:: bash\n\n   echo 1\n\n"


def run_page(directory: Path, text: str) -> Outcome:
    path = directory / "page.rst"
    path.write_text(textwrap.dedent(text), encoding="utf-8")
    return run(read(path), root=directory)


def test_python_blocks_and_doctests_share_one_namespace_from_top_to_bottom(tmp_path: Path) -> None:
    outcome = run_page(
        tmp_path,
        """
        Title
        =====

        .. code-block:: python
           :caption: an option

           total = 1

           def add(number):

               return total + number

        * In a list:

          .. code-block:: pycon

             >>> add(1)
             2

        >>> total = 5
        >>> add(2)
        7

        .. code-block:: python

           >>> add(3)
           8
        """,
    )
    assert (outcome.run, outcome.not_run) == (4, [])


@pytest.mark.parametrize(
    ("block", "line", "problem"),
    [
        (".. code-block:: python\n\n   x = 1\n   x.nope", 4, "AttributeError"),
        (".. code-block:: python\n\n   x = 1\n   x = = 2", 4, "SyntaxError"),
        (".. code-block:: python\n   :caption: c\n\n   def f():\n       1 / 0\n   f()", 5, "Zero"),
        (".. code-block:: python\n\n   import triggers.no_such_module", 3, "ModuleNotFoundError"),
        (">>> 1 + 1\n3", 1, "Expected:"),
        (".. code-block:: pycon\n\n   >>> 1 + 1\n   3", 3, "Expected:"),
        ('.. code-block:: json\n\n   {"a": 1,}', 3, "JSONDecodeError"),
        (".. code-block:: toml\n\n   a =", 3, "TOMLDecodeError"),
        (
            ".. code-block:: console\n\n   $ true\n   $ echo why; exit 3",
            4,
            "exit status 3: .*\nwhy",
        ),
        (".. code-block:: console\n\n   python manage.py", 3, "begins with '\\$ '"),
        (".. code-block:: bash\n\n   false\n   true", 3, "exit status 1"),
        (".. output: exact\n\n.. code-block:: text\n\n   1", 5, "no shell block above"),
        (f"{SHELL}.. output: exact\n\n.. code-block:: text\n\n   2", 9, "shows\n2\n.*printed\n1"),
        (".. output: exact\n\nText", 1, "no block follows 'output'"),
        (".. output: nearly\n\n.. code-block:: text\n\n   1", 1, "compares outputs like 'nearly'"),
        (".. not run: the block is gone\n\nSome text.", 1, "no block follows"),
        ("Text\n\n.. not run: the page ends", 3, "no block follows"),
        (".. not run:\n\n.. code-block:: python\n\n   1", 1, "needs to say what"),
        (".. setup: no/such/file.py", 1, "does not exist"),
    ],
)
def test_broken_snippet_fails_and_names_its_line(
    tmp_path: Path, block: str, line: int, problem: str
) -> None:
    with pytest.raises(SnippetError, match=problem) as caught:
        run_page(tmp_path, block)
    assert caught.value.line == line
    assert str(caught.value).startswith(f"{tmp_path / 'page.rst'}:{line}: ")


def test_block_marked_as_not_run_is_listed_with_its_reason(tmp_path: Path) -> None:
    outcome = run_page(
        tmp_path,
        """
        .. not run: it needs a broker,
           and a network

        .. code-block:: console

           $ exit 1

        .. code-block:: python

           x = 1

        .. code-block:: sql

           SELECT 1

        .. code-block:: text

           plain
        """,
    )
    assert outcome.run == 1
    assert outcome.not_run == [
        "page.rst:7 (console): it needs a broker, and a network",
        "page.rst:15 (sql): blocks in this language are not run",
    ]


def test_block_that_names_a_file_can_be_imported_from_there(tmp_path: Path) -> None:
    run_page(
        tmp_path,
        """
        .. code-block:: python

           # my_snippet_app/tasks.py
           class Task:
               pass

        .. code-block:: python

           from my_snippet_app.tasks import Task as Imported
           import my_snippet_app.tasks

           assert Imported is Task is my_snippet_app.tasks.Task
           assert Task.__module__ == "my_snippet_app.tasks"
           assert __name__ == "page_page"
        """,
    )
    assert not [name for name in sys.modules if name.startswith(("my_snippet_app", "page_"))]


def test_setup_file_runs_first_and_tears_down_last(tmp_path: Path) -> None:
    (tmp_path / "prepare.py").write_text(
        "from pathlib import Path\n"
        "seen = ['set up']\n"
        "def tear_down():\n"
        f"    Path('{tmp_path}', 'log').write_text(' '.join(seen))\n"
    )
    page = ".. setup: prepare.py\n\n.. code-block:: python\n\n   seen.append('run')\n   {}\n"
    run_page(tmp_path, page.format("pass"))
    assert (tmp_path / "log").read_text() == "set up run"
    (tmp_path / "log").unlink()
    with pytest.raises(SnippetError):
        run_page(tmp_path, page.format("fail"))
    assert (tmp_path / "log").read_text() == "set up run"


def test_shell_blocks_share_a_directory_that_looks_like_the_root(tmp_path: Path) -> None:
    (tmp_path / "there.txt").write_text("in the repository\n")
    outcome = run_page(
        tmp_path,
        """
        .. code-block:: bash

           cat > new.txt <<'END'
           of the block above
           END

        .. code-block:: console

           $ cat there.txt
           $ cat new.txt

        .. output: exact

        .. code-block:: text

           in ... repository
           of the block above
        """,
    )
    assert outcome.run == 3
    assert sorted(path.name for path in tmp_path.iterdir()) == ["page.rst", "there.txt"]


def test_command_runs_with_this_python_and_its_own_settings(tmp_path: Path) -> None:
    check = (
        "import os, sys; "
        f"assert sys.prefix == '{sys.prefix}'; "
        "assert 'DJANGO_SETTINGS_MODULE' not in os.environ"
    )
    outcome = run_page(
        tmp_path,
        f"""
        .. code-block:: console

           $ python -c "{check}"
           what it prints is not compared
           $ printf one \\
             > two
           $ test "$(cat two)" = one
        """,
    )
    assert outcome.run == 1


PRINTED = """printf 'reading\\ntask   a  b\\nt_x    1  2\\n\\ncases       6\\nspeed  12,345\\n'"""
SHOWN = ["task   a  b", "t_x    1  2", "", "cases    6", "speed  186"]


@pytest.mark.parametrize(
    ("remark", "change", "is_same"),
    [
        (", whatever the values of speed", {}, True),
        ("", {}, False),
        ("", {"cases    6": "cases       6", "speed  186": "speed  12,345"}, True),
        (", whatever the values of speed", {"cases    6": "cases    7"}, False),
        (", whatever the values of speed", {"cases    6": "cases      6"}, False),
        (", whatever the values of speed", {"speed  186": "speed   186"}, False),
        (", whatever the values of speed", {"t_x    1  2": "t_x    1   2"}, False),
        (", whatever the values of speed", {"task   a  b": "task   a  c"}, False),
    ],
)
def test_what_stands_at_the_end_of_an_output_is_compared_to_the_blank(
    remark: str, change: dict[str, str], is_same: bool, tmp_path: Path
) -> None:
    shown = "\n".join(f"    {change.get(line, line)}".rstrip() for line in SHOWN)
    page = f".. code-block:: bash\n\n    {PRINTED}\n\n.. output: at the end{remark}\n"
    page += f".. code-block:: text\n\n{shown}\n"
    if is_same:
        assert run_page(tmp_path, page).run == 2
    else:
        with pytest.raises(SnippetError, match="and this was printed"):
            run_page(tmp_path, page)
