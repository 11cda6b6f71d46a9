"""``manage.py triggers explain``: why something has not run, why it did, and what came of it."""

from __future__ import annotations

import json
import shutil
from typing import Any

from django.core.management.base import CommandError, CommandParser
from rich.console import Console
from rich.text import Text
from rich.tree import Tree

from triggers import conf
from triggers.commands.base import Subcommand
from triggers.exceptions import (
    InstanceNotFound,
    InvalidUid,
    SettingsError,
    StateVersionError,
    StorageUnavailable,
    UnknownBackend,
    UnknownTask,
)
from triggers.explain import Explanation, FiringNotFound, SessionExplanation
from triggers.explain.wording import Outline
from triggers.manager import TriggerManager, get_trigger_manager
from triggers.types import Phase

_STYLES = {"title": "bold", "good": "green", "bad": "red", "open": "yellow"}
"""How a terminal shows the tone of a sentence."""


class Explain(Subcommand):
    """Print the explanation of a session, a task, an instance or a firing."""

    help = (
        "Explain a session: what each instance waits for, what decided the others, what was "
        "filtered out, and what a firing caused. Nothing is changed."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("uid", metavar="UID", help="the session")
        parser.add_argument(
            "what",
            nargs="?",
            metavar="TASK|INSTANCE",
            help="only this task (t_x), or this instance (t_x#0)",
        )
        parser.add_argument(
            "--firing",
            type=int,
            metavar="SEQ",
            help="instead: where the firing of this number came from, and what it caused",
        )
        parser.add_argument(
            "--using",
            default=conf.DEFAULT_ALIAS,
            metavar="ALIAS",
            help=f"alias in TRIGGERS (default: {conf.DEFAULT_ALIAS})",
        )
        parser.add_argument("--json", action="store_true", help="print JSON, for programs")

    def handle(self, options: dict[str, Any]) -> None:
        if options["what"] is not None and options["firing"] is not None:
            raise CommandError("Name a task or an instance, or a firing with --firing; not both.")
        explanation = self._explanation(options)
        if options["json"]:
            self.stdout.write(json.dumps(explanation.to_json(), indent=2, ensure_ascii=False))
        elif self.stdout.isatty():
            columns = shutil.get_terminal_size().columns
            color = not options["no_color"]
            self.stdout.write(drawn(explanation.outline(), width=columns, color=color))
        else:
            self.stdout.write(str(explanation))

    def _explanation(self, options: dict[str, Any]) -> Explanation:
        uid, seq = options["uid"], options["firing"]
        try:
            manager: TriggerManager = get_trigger_manager(uid, options["using"])
            if seq is not None:
                return manager.explain_firing(seq)
            what: str | None = options["what"]
            explanation = manager.explain(what)
        except InstanceNotFound as error:
            raise CommandError(f"There is no instance {error}.") from None
        except (
            FiringNotFound,
            InvalidUid,
            SettingsError,
            StateVersionError,
            StorageUnavailable,
            UnknownBackend,
            UnknownTask,
        ) as error:
            raise CommandError(str(error)) from None
        if isinstance(explanation, SessionExplanation) and explanation.is_empty:
            if explanation.phase is not Phase.OPEN or explanation.ending is not None:
                return explanation
            where = f"the {manager.storage.name} storage of {options['using']!r}"
            raise CommandError(f"There is no session {uid!r} in {where}. Is the uid right?")
        return explanation


def drawn(outline: Outline, *, width: int, color: bool) -> str:
    """The sentences as a tree for a terminal.

    :param width: of the terminal, in characters.
    :param color: whether to write control sequences for colours.
    """
    console = Console(width=width, force_terminal=color, no_color=not color, highlight=False)
    with console.capture() as capture:
        console.print(_tree(outline))
    return "\n".join(line.rstrip() for line in capture.get().splitlines())


def _tree(outline: Outline) -> Tree:
    # Text, since what stands in brackets would be markup otherwise.
    tree = Tree(Text(outline.text, _STYLES.get(outline.tone, "")), guide_style="dim")
    for line in outline.lines:
        tree.children.append(_tree(line))
    return tree
