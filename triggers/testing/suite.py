"""What the conformance suites of storages are made of."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar
from uuid import uuid4

import pytest
from django.utils.module_loading import import_string

from triggers import runners
from triggers.manager import TriggerManager
from triggers.runners.base import BaseTaskRunner
from triggers.storages.session import SessionStorage
from triggers.testing.environment import run_tasks_locally
from triggers.testing.racing import RUN_LOG, BrokenRunner, IdleRunner, Recorded, in_processes


class StorageSuite:
    """Opens sessions in the storage that a subclass names, and looks at what is in them."""

    storage: ClassVar[str]
    """Import path of the storage class, ``module:Class`` or ``module.Class``."""

    options: ClassVar[Mapping[str, Any]] = {}
    """Keyword arguments of the storage."""

    shared: ClassVar[bool] = True
    """Whether other processes see the same sessions."""

    lists_overdue: ClassVar[bool] = True
    """Whether ``overdue`` finds sessions (a storage that only loads and saves cannot)."""

    environment: ClassVar[Mapping[str, str]] = {}
    """Environment variables for processes that a test starts, beside those of this process; they
    need ``DJANGO_SETTINGS_MODULE``, and open the same databases as the test."""

    sessions = 200
    """How many joins are raced for."""

    @pytest.fixture(autouse=True)
    def _contract_runners(self) -> Iterator[None]:
        added = (BrokenRunner, IdleRunner)
        for runner in added:
            runners.task_runners.register(runner)
        with run_tasks_locally("synchronous"):
            yield
        for runner in added:
            runners.task_runners.unregister(runner.name)

    def open(self, uid: str) -> SessionStorage:
        """The session in a storage object of its own.

        :param uid: the session's uid.
        """
        cls = import_string(self.storage.replace(":", "."))
        opened: SessionStorage = cls(uid, **self.options)
        return opened

    def reopened(self, manager: TriggerManager) -> SessionStorage:
        """The same session, as another part of the program would open it."""
        return self.open(manager.storage.uid)

    def manager(
        self,
        uid: str,
        tasks: Mapping[str, dict[str, Any]] | None = None,
        runner: type[BaseTaskRunner] | None = None,
    ) -> TriggerManager:
        """A manager on a session; its tasks run :class:`Recorded`.

        :param uid: the session's uid.
        :param tasks: directives by task name, without ``run``; by default no tasks.
        :param runner: the runner of its tasks; by default they run in place.
        """
        manager = TriggerManager(self.open(uid))
        if runner is not None:
            manager.default_task_runner_name = runner.name
        if tasks:
            self.configure(manager, tasks)
        return manager

    def configure(
        self, manager: TriggerManager, tasks: Mapping[str, dict[str, Any]], **options: Any
    ) -> None:
        """Add tasks that run :class:`Recorded`.

        :param tasks: directives by task name, without ``run``.
        :param options: further arguments of ``update_configuration``.
        """
        configuration = {name: {"run": Recorded.name, **each} for name, each in tasks.items()}
        manager.update_configuration(configuration, **options)

    def configured_sessions(
        self, tasks: Mapping[str, dict[str, Any]], count: int | None = None
    ) -> list[str]:
        """Fresh sessions with these tasks.

        :param tasks: directives by task name, without ``run``.
        :param count: how many; by default :attr:`sessions`.
        :returns: their uids.
        """
        uids = [uuid4().hex for _ in range(count or self.sessions)]
        for uid in uids:
            self.manager(uid, tasks)
        return uids

    def statuses(self, manager: TriggerManager) -> dict[str, str]:
        """Status of each instance, by name.

        :returns: statuses by name of instance.
        """
        return {each.name: str(each.status) for each in self.reopened(manager)}

    def overdue(self) -> list[str]:
        """Uids that recovery would look at."""
        return list(type(self.open("-")).overdue(10_000, **self.options))

    @contextmanager
    def tasks_in_place(self, manager: TriggerManager) -> Iterator[None]:
        """Let the manager's tasks run at once.

        :returns: a context manager.
        """
        before = manager.default_task_runner_name
        manager.default_task_runner_name = None
        try:
            yield
        finally:
            manager.default_task_runner_name = before

    def require_processes(self) -> None:
        """Leave out the test if other processes cannot see this storage."""
        if not self.shared:
            pytest.skip(f"{self.storage} is not shared between processes")

    def in_processes(self, orders: list[dict[str, Any]], tmp_path: Path) -> None:
        """Start a process for each order, let them go at once, and wait for all.

        :param orders: what each process is to do.
        :param tmp_path: directory in which the runs are noted.
        """
        fixed = {"storage": self.storage, "options": dict(self.options)}
        environment = {**self.environment, RUN_LOG: str(tmp_path / "runs")}
        in_processes([{**fixed, **order} for order in orders], environment)

    def runs(self, tmp_path: Path) -> Counter[str]:
        """How often each instance ran.

        :param tmp_path: directory in which the runs were noted.
        """
        return Counter((tmp_path / "runs").read_text().splitlines())
