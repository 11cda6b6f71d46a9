"""The form that every subcommand of ``manage.py triggers`` has."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar

from django.core.management.base import BaseCommand, CommandParser


class Subcommand(ABC):
    """One subcommand.

    :param command: the command that it belongs to; lends its streams and styles.
    """

    help: ClassVar[str]
    """What it does, in a sentence or two for ``--help``."""

    def __init__(self, command: BaseCommand) -> None:
        self.stdout = command.stdout
        self.stderr = command.stderr
        self.style = command.style

    @abstractmethod
    def add_arguments(self, parser: CommandParser) -> None:
        """Declare its arguments."""

    @abstractmethod
    def handle(self, options: dict[str, Any]) -> None:
        """Do it.

        :param options: the parsed arguments, Django's own (``verbosity``, ``no_color``) included.
        :raises CommandError: it cannot be done; the message is for the person who typed.
        """
