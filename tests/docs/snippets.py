"""Runs the code blocks of a reST page, so that the documentation cannot promise what does not work.

* ``python`` blocks and doctests of a page share one namespace and run from top to bottom. A block
  that begins with a comment naming a file (``# my_app/tasks.py``) can be imported from there by
  the blocks below it.
* ``console`` blocks: each ``$ command`` runs in a shell and must succeed; what the block shows as
  output is not compared. ``bash`` blocks run as a whole, and end at the first command that fails.
  Both run in a directory that looks like the root of the repository; new files stay in it, for the
  blocks below, and out of the repository.
* ``json`` and ``toml`` blocks must parse.
* ``.. not run: <reason>`` directly above a block keeps it from being run; the summary lists it.
* ``.. output: exact`` directly above a ``text`` block: the last shell block printed just this,
  where ``...`` stands for anything, and blanks do not matter. ``.. output: at the end``: its last
  lines were these, to the blank; with ``, whatever the values of firings/s, elapsed`` lines that
  begin with one of these names may have other values, which stand on the right.
* ``.. setup: <file>`` names a Python file (from the root) that runs first in the page's
  namespace; a function ``tear_down`` in it is called at the end.

Blocks in other languages are listed as not run, save ``text`` and ``none``, which claim nothing.
"""

import doctest
import json
import os
import re
import subprocess
import sys
import tempfile
import textwrap
import tomllib
import traceback
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

COMMAND_TIMEOUT = 300  # seconds

_DIRECTIVE = re.compile(r"(?P<indent>\s*)\.\. (?:code-block|code|sourcecode)::\s*(?P<language>\S*)")
_REMARK = re.compile(r"(?P<indent>\s*)\.\. (?P<name>not run|output|setup):(?P<value>.*)")
_OPTION = re.compile(r"\s*:[\w-]+:")
_FILE = re.compile(r"# (?P<path>[\w/]+)\.py\s*$", re.MULTILINE)
_AT_THE_END = re.compile(r"at the end(?:, whatever the values of (?P<names>.+))?")
_FIGURE = re.compile(r"(?P<name>\S+)(?P<gap> {2,})(?P<value>\S+(?: \S+)*)")
_LENIENT = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


class SnippetError(Exception):
    """A block of a page does not do what the page says, or a remark is out of place."""

    def __init__(self, page: Path, line: int, problem: str) -> None:
        super().__init__(f"{page}:{line}: {problem}")
        self.page = page
        self.line = line


@dataclass(frozen=True, kw_only=True)
class Snippet:
    """One block; ``line`` is where its text begins in the page."""

    line: int
    language: str
    text: str
    not_run: str = ""
    output: str = ""

    @property
    def is_output(self) -> bool:
        """Whether it shows what the last shell block has printed."""
        return bool(self.output)


@dataclass(kw_only=True)
class Page:
    """What a page holds for us."""

    path: Path
    snippets: list[Snippet] = field(default_factory=list)
    setup: list[str] = field(default_factory=list)


@dataclass(kw_only=True)
class Outcome:
    """What became of a page's blocks: how many ran, and why the others did not."""

    run: int = 0
    not_run: list[str] = field(default_factory=list)


def read(path: Path) -> Page:
    """Find the blocks of a page, and the remarks that belong to them."""
    page = Page(path=path)
    lines = path.read_text(encoding="utf-8").splitlines()
    remark: tuple[str, str, int] | None = None  # name, value, line
    number = 0
    while number < len(lines):
        line = lines[number]
        if found := _REMARK.match(line):
            more, after = _indented(lines, number + 1, len(found["indent"]), across_blanks=False)
            value = " ".join(" ".join([found["value"], *more]).split())
            if not value:
                raise SnippetError(path, number + 1, f"'{found['name']}' needs to say what")
            if found["name"] == "setup":
                page.setup.append(value)
            else:
                if found["name"] == "output" and not _is_way_to_compare(value):
                    raise SnippetError(path, number + 1, f"nothing compares outputs like '{value}'")
                remark = found["name"], value, number + 1
            number = after
            continue
        if directive := _DIRECTIVE.match(line):
            body, after = _indented(lines, number + 1, len(directive["indent"]), across_blanks=True)
            first = _first_of_body(body)
            text = textwrap.dedent("\n".join(body[first:])).rstrip()
            start, language = number + 2 + first, directive["language"]
        elif line.lstrip().startswith(">>> "):
            after = number
            while after < len(lines) and lines[after].strip():
                after += 1
            text = textwrap.dedent("\n".join(lines[number:after]))
            start, language = number + 1, "pycon"
        elif line.strip() and remark:
            break
        else:
            number += 1
            continue
        name, value, _ = remark or ("", "", 0)
        page.snippets.append(
            Snippet(
                line=start,
                language=language,
                text=text,
                not_run=value if name == "not run" else "",
                output=value if name == "output" else "",
            )
        )
        remark = None
        number = after
    if remark:
        raise SnippetError(path, remark[2], f"no block follows '{remark[0]}'")
    return page


def _is_way_to_compare(value: str) -> bool:
    return value == "exact" or _AT_THE_END.fullmatch(value) is not None


def _indented(
    lines: list[str], start: int, indent: int, *, across_blanks: bool
) -> tuple[list[str], int]:
    """Take the lines that are indented deeper than ``indent``; return them and where they end."""
    end = start
    for number in range(start, len(lines)):
        line = lines[number]
        if not line.strip():
            if not across_blanks:
                break
        elif len(line) - len(line.lstrip()) <= indent:
            break
        else:
            end = number + 1
    return lines[start:end], end


def _first_of_body(body: list[str]) -> int:
    """Return the number of lines that options and the blank lines after them take."""
    first = 0
    while first < len(body) and _OPTION.match(body[first]):
        first += 1
    while first < len(body) and not body[first].strip():
        first += 1
    return first


def run(page: Page, *, root: Path) -> Outcome:
    """Run the blocks of a page in order; the first that fails raises ``SnippetError``."""
    with _namespace(page, root) as namespace, _directory_like(root) as directory:
        runner = _Runner(page=page, root=root, namespace=namespace, directory=directory)
        for name in page.setup:
            file = root / name
            if not file.is_file():
                raise SnippetError(page.path, 1, f"the setup file {name} does not exist")
            exec(compile(file.read_text(encoding="utf-8"), str(file), "exec"), namespace)
        try:
            for snippet in page.snippets:
                runner.run(snippet)
        finally:
            namespace.get("tear_down", lambda: None)()
    return runner.outcome


@dataclass(kw_only=True)
class _Runner:
    page: Page
    root: Path
    namespace: dict[str, Any]
    directory: Path
    outcome: Outcome = field(default_factory=Outcome)
    output: str | None = None

    def run(self, snippet: Snippet) -> None:
        how = self.how(snippet)
        if isinstance(how, str):
            if how:
                where = f"{self.page.path.relative_to(self.root)}:{snippet.line}"
                self.outcome.not_run.append(f"{where} ({snippet.language}): {how}")
            return
        try:
            how(snippet)
        except SnippetError:
            raise
        except Exception as error:
            summary = "".join(traceback.format_exception_only(error)).strip()
            raise SnippetError(self.page.path, self.line_of(error, snippet), summary) from error
        self.outcome.run += 1

    def how(self, snippet: Snippet) -> Callable[[Snippet], None] | str:
        """Return what runs the block, or why nothing does (empty: it claims nothing)."""
        if snippet.not_run:
            return snippet.not_run
        if snippet.is_output:
            return self.compare
        match snippet.language:
            case "python" if re.search(r"^>>> ", snippet.text, re.MULTILINE):
                return self.doctest
            case "python":
                return self.python
            case "pycon":
                return self.doctest
            case "console":
                return self.console
            case "bash":
                return self.bash
            case "json":
                return lambda snippet: json.loads(snippet.text)
            case "toml":
                return lambda snippet: tomllib.loads(snippet.text) and None
            case "" | "none" | "text":
                return ""
            case _:
                return "blocks in this language are not run"

    def line_of(self, error: Exception, snippet: Snippet) -> int:
        if isinstance(error, SyntaxError) and error.filename == str(self.page.path):
            return error.lineno or snippet.line
        frames = traceback.extract_tb(error.__traceback__)
        lines = [frame.lineno for frame in frames if frame.filename == str(self.page.path)]
        return (lines[-1] if lines else None) or snippet.line

    def python(self, snippet: Snippet) -> None:
        # The blank lines give tracebacks the line numbers of the page.
        code = compile("\n" * (snippet.line - 1) + snippet.text, str(self.page.path), "exec")
        named = _FILE.match(snippet.text)
        if named is None or (self.root / f"{named['path']}.py").exists():
            exec(code, self.namespace)
            return
        before = dict(self.namespace)
        own_name = self.namespace["__name__"]
        self.namespace["__name__"] = named["path"].replace("/", ".")
        try:
            module = _module(self.namespace["__name__"])
            exec(code, self.namespace)
        finally:
            self.namespace["__name__"] = own_name
        missing = object()
        for name, value in self.namespace.items():
            if before.get(name, missing) is not value:
                setattr(module, name, value)

    def doctest(self, snippet: Snippet) -> None:
        path = self.page.path
        test = doctest.DocTestParser().get_doctest(
            snippet.text, {}, path.name, str(path), snippet.line - 1
        )
        test.globs = self.namespace
        report: list[str] = []
        runner = doctest.DocTestRunner(optionflags=_LENIENT)
        if runner.run(test, out=report.append, clear_globs=False).failed:
            raise SnippetError(path, snippet.line, "\n" + "".join(report))

    def console(self, snippet: Snippet) -> None:
        commands = list(_commands(snippet.text))
        if not commands:
            raise SnippetError(self.page.path, snippet.line, "no line here begins with '$ '")
        outputs = [self.shell(command, snippet.line + offset) for offset, command in commands]
        self.output = "".join(outputs)

    def bash(self, snippet: Snippet) -> None:
        self.output = self.shell(snippet.text, snippet.line)

    def shell(self, script: str, line: int) -> str:
        environment = dict(os.environ)
        # A command picks its own settings, as it does for the reader.
        environment.pop("DJANGO_SETTINGS_MODULE", None)
        # `python` and `pip` are those of this environment, also when it is not activated.
        bin_directory = str(Path(sys.executable).parent)
        environment["PATH"] = os.pathsep.join([bin_directory, environment["PATH"]])
        try:
            result = subprocess.run(
                ["bash", "-e", "-c", script],
                cwd=self.directory,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                timeout=COMMAND_TIMEOUT,
            )
        except subprocess.TimeoutExpired:
            problem = f"took more than {COMMAND_TIMEOUT} s: {script}"
            raise SnippetError(self.page.path, line, problem) from None
        if result.returncode:
            problem = f"exit status {result.returncode}: {script}\n{result.stdout}"
            raise SnippetError(self.page.path, line, problem)
        return result.stdout

    def compare(self, snippet: Snippet) -> None:
        if self.output is None:
            raise SnippetError(self.page.path, snippet.line, "no shell block above has run")
        if at_the_end := _AT_THE_END.fullmatch(snippet.output):
            names = (at_the_end["names"] or "").split(", ")
            is_same = _ends_with(self.output, snippet.text, names)
        else:
            is_same = doctest.OutputChecker().check_output(snippet.text, self.output, _LENIENT)
        if not is_same:
            problem = f"the page shows\n{snippet.text}\nand this was printed\n{self.output}"
            raise SnippetError(self.page.path, snippet.line, problem)


def _ends_with(printed: str, shown: str, names: list[str]) -> bool:
    """Whether the last lines are those shown, but for the values of lines that begin with a name.

    A value that is longer than the one shown moves the others in its column to the right.
    """
    wanted = shown.splitlines()
    lines = [line.rstrip() for line in printed.rstrip().splitlines()][-len(wanted) :]
    if len(lines) != len(wanted):
        return False
    values = [line[each.start("value") :] for line in lines if (each := _FIGURE.fullmatch(line))]
    width = max(map(len, values), default=0)
    replaced: list[tuple[str, str, int] | str] = []
    for line, other in zip(lines, wanted, strict=True):
        found, meant = _FIGURE.fullmatch(line), _FIGURE.fullmatch(other)
        if found is None:
            replaced.append(line)
            continue
        value = meant["value"] if meant and found["name"] in names else found["value"]
        # Of the gap, what does not come from the width of the column.
        gap = len(found["gap"]) + len(found["value"]) - width
        replaced.append((found["name"], value, gap))
    figures = [each for each in replaced if not isinstance(each, str)]
    width = max((len(value) for _name, value, _gap in figures), default=0)
    return wanted == [
        each if isinstance(each, str) else f"{each[0]}{' ' * each[2]}{each[1]:>{width}}"
        for each in replaced
    ]


def _commands(text: str) -> Iterator[tuple[int, str]]:
    """Yield each command with its line; a backslash at its end takes in the next line."""
    lines = iter(enumerate(text.splitlines()))
    for number, line in lines:
        if line.startswith("$ "):
            command = line[2:]
            while command.endswith("\\"):
                _, more = next(lines)
                command = f"{command}\n{more.removeprefix('> ')}"
            yield number, command


def _module(name: str) -> types.ModuleType:
    """Return the module of that name, made together with its packages where they are missing."""
    if name not in sys.modules:
        sys.modules[name] = types.ModuleType(name)
        sys.modules[name].__path__ = []
        parent, _, child = name.rpartition(".")
        if parent:
            setattr(_module(parent), child, sys.modules[name])
    return sys.modules[name]


@contextmanager
def _namespace(page: Page, root: Path) -> Iterator[dict[str, Any]]:
    """Give the page a module of its own: what it defines can then be found again by name."""
    before = set(sys.modules)
    name = "_".join(["page", *page.path.relative_to(root).with_suffix("").parts])
    module = types.ModuleType(name.replace("-", "_"))
    module.__file__ = str(page.path)
    sys.modules[module.__name__] = module
    try:
        yield vars(module)
    finally:
        for added in set(sys.modules) - before:
            if getattr(sys.modules[added], "__spec__", None) is None:
                del sys.modules[added]


@contextmanager
def _directory_like(root: Path) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="triggers_page_") as name:
        directory = Path(name)
        for entry in root.iterdir():
            (directory / entry.name).symlink_to(entry)
        yield directory
