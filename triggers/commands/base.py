"""The form that every subcommand of ``manage.py triggers`` has."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar

from django.core.management.base import BaseCommand, CommandParser, OutputWrapper


class Subcommand(ABC):
    """One subcommand.

    :param command: the command that it belongs to; lends its streams.
    """

    help: ClassVar[str]
    """What it does, in a sentence or two for ``--help``."""

    def __init__(self, command: BaseCommand) -> None:
        self._command = command

    @property
    def stdout(self) -> OutputWrapper:
        """Where results go. Django may replace it after the subcommand was made."""
        return self._command.stdout

    @property
    def stderr(self) -> OutputWrapper:
        """Where progress goes."""
        return self._command.stderr

    @abstractmethod
    def add_arguments(self, parser: CommandParser) -> None:
        """Declare its arguments."""

    @abstractmethod
    def handle(self, options: dict[str, Any]) -> None:
        """Do it.

        :param options: the parsed arguments, Django's own (``verbosity``, ``no_color``) included.
        :raises CommandError: it cannot be done; the message is for the person who typed.
        """
