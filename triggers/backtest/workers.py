"""Running the shares of a backtest side by side, in threads or in processes.

All events of a case belong to one worker, so their order holds whatever the others do.

A spawned process imports this module before Django is set up there. What may need Django (the
replay, and with it managers and storages) is therefore imported inside the functions.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import threading
import traceback
import warnings
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from queue import SimpleQueue
from typing import TypeAlias

import django
from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper

from triggers.backtest.job import Job, Stop
from triggers.backtest.tally import Tally
from triggers.exceptions import ConfigurationWarning, TriggersError

Advance = Callable[[int], None]

_Receiver: TypeAlias = "Connection[None, int | Tally | str]"
_Sender: TypeAlias = "Connection[int | Tally | str, None]"

# The one storage that other processes cannot see; any other gains from their interpreters.
_SHARED_BY_THREADS = "memory"

_SETTINGS = "DJANGO_SETTINGS_MODULE"


class WorkersError(TriggersError, RuntimeError):
    """The shares cannot be run in processes here, or a process has failed."""


def check_workers(storage: str, workers: int) -> None:
    """Find out early, before a long log is read, whether the shares can be run.

    :raises WorkersError: processes are needed, but could not load the settings or open the
        database.
    """
    if workers == 1 or storage == _SHARED_BY_THREADS:
        return
    if not os.environ.get(_SETTINGS):
        raise WorkersError(
            f"Worker processes load the settings from {_SETTINGS}, which is not set. "
            "Set it, or use --workers 1."
        )
    if storage == "database" and any(_is_in_memory(each) for each in connections.all()):
        raise WorkersError(
            "A SQLite database in memory belongs to one process. Use a file, or --workers 1."
        )


def run_workers(job: Job, workers: int, advance: Advance) -> list[Tally]:
    """Run all shares and wait for them.

    :param workers: over how many workers the spool spreads the cases, from 1.
    :param advance: called in this thread with the number of further events that are done.
    :raises WorkersError: a worker process failed.
    """
    if workers == 1:
        from triggers.backtest.replay import replay

        with _hushed():
            return [replay(job, 0, advance=advance, stop=threading.Event())]
    run = _run_threads if job.storage == _SHARED_BY_THREADS else _run_processes
    return run(job, workers, advance)


def _run_threads(job: Job, workers: int, advance: Advance) -> list[Tally]:
    from triggers.backtest.replay import replay

    messages: SimpleQueue[int | Tally | BaseException] = SimpleQueue()
    stop = threading.Event()

    def work(worker: int) -> None:
        try:
            messages.put(replay(job, worker, advance=messages.put, stop=stop))
        except BaseException as error:
            messages.put(error)

    threads = [threading.Thread(target=work, args=(worker,)) for worker in range(workers)]
    tallies: list[Tally] = []
    # Filters belong to the whole process, so they are set around the threads, not inside.
    with _hushed():
        try:
            for thread in threads:
                thread.start()
            while len(tallies) < workers:
                message = messages.get()
                if isinstance(message, BaseException):
                    raise message
                if isinstance(message, Tally):
                    tallies.append(message)
                else:
                    advance(message)
        finally:
            stop.set()
            for thread in threads:
                thread.join()
    return tallies


@contextlib.contextmanager
def _hushed() -> Iterator[None]:
    """Keep quiet about what the figures say once, and each session's configuration would repeat."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConfigurationWarning)
        yield


def _run_processes(job: Job, workers: int, advance: Advance) -> list[Tally]:
    # A test runner, for one, has put other databases in place of those that the settings name.
    databases = {each.alias: str(each.settings_dict["NAME"]) for each in connections.all()}
    # A forked child would share sockets and locks with this process; a spawned one starts clean.
    context = multiprocessing.get_context("spawn")
    stop = context.Event()
    processes: list[SpawnProcess] = []
    pipes: list[_Receiver] = []
    tallies: list[Tally] = []
    try:
        for worker in range(workers):
            receiver, sender = context.Pipe(duplex=False)
            pipes.append(receiver)
            process = context.Process(target=_work, args=(job, worker, databases, stop, sender))
            process.start()
            processes.append(process)
            # Only the child must hold this end, so that its death ends the pipe.
            sender.close()
        waiting = set(pipes)
        while waiting:
            for pipe in waiting.intersection(wait(waiting)):
                message = _receive(pipe)
                if isinstance(message, Tally):
                    tallies.append(message)
                    waiting.remove(pipe)
                else:
                    advance(message)
    finally:
        stop.set()
        for pipe in pipes:
            # Or a child that still reports would wait for a reader for ever.
            pipe.close()
        for process in processes:
            process.join()
    return tallies


def _receive(pipe: _Receiver) -> int | Tally:
    try:
        message = pipe.recv()
    except EOFError:
        raise WorkersError("A worker process died; the figures would be incomplete.") from None
    if isinstance(message, str):
        raise WorkersError(f"A worker process failed: {message}")
    return message


def _is_in_memory(connection: BaseDatabaseWrapper) -> bool:
    name = str(connection.settings_dict["NAME"])
    return connection.vendor == "sqlite" and (":memory:" in name or "mode=memory" in name)


def _work(job: Job, worker: int, databases: dict[str, str], stop: Stop, sender: _Sender) -> None:
    """What runs in the child."""
    try:
        django.setup()
        for alias, name in databases.items():
            connections[alias].settings_dict["NAME"] = name
        from triggers.backtest.replay import replay

        with _hushed():
            sender.send(replay(job, worker, advance=sender.send, stop=stop))
    except (KeyboardInterrupt, BrokenPipeError):
        # The parent was interrupted as well, or has given up and no longer listens.
        pass
    except BaseException as error:
        # Our own errors explain themselves; of any other, the place is needed to find the cause.
        text = str(error) if isinstance(error, TriggersError) else traceback.format_exc()
        with contextlib.suppress(BrokenPipeError):
            sender.send(text)
    finally:
        connections.close_all()
        sender.close()
