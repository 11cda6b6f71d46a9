"""``manage.py triggers <subcommand>``."""

from __future__ import annotations

import argparse
from typing import Any

from django.core.management.base import BaseCommand, CommandParser
from django.utils.module_loading import import_string

from triggers.commands import SUBCOMMANDS
from triggers.commands.base import Subcommand


class Command(BaseCommand):
    """Finds the subcommand and hands over."""

    help = "Look after triggers, and try workflows."

    def add_arguments(self, parser: CommandParser) -> None:
        choices = parser.add_subparsers(metavar="SUBCOMMAND", required=True)
        for name, path in SUBCOMMANDS.items():
            subcommand: Subcommand = import_string(path)(self)
            subparser = choices.add_parser(name, help=subcommand.help, description=subcommand.help)
            subcommand.add_arguments(subparser)
            self._accept_common_options(subparser)
            subparser.set_defaults(subcommand=subcommand)

    def handle(self, *args: Any, **options: Any) -> None:
        subcommand: Subcommand = options["subcommand"]
        subcommand.handle(options)

    def _accept_common_options(self, subparser: CommandParser) -> None:
        """Let Django's own options stand behind the subcommand as well, where people type them."""
        # Without SUPPRESS the defaults here would overwrite what stands before the subcommand.
        absent = argparse.SUPPRESS
        subparser.add_argument("-v", "--verbosity", type=int, choices=range(4), default=absent)
        subparser.add_argument("--no-color", action="store_true", default=absent)
        subparser.add_argument("--force-color", action="store_true", default=absent)
        subparser.add_argument("--skip-checks", action="store_true", default=absent)
        subparser.add_argument("--traceback", action="store_true", default=absent)
        # Both have been acted upon before the command is even found.
        subparser.add_argument("--settings", default=absent)
        subparser.add_argument("--pythonpath", default=absent)
