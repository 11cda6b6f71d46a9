"""Workflows: tasks and their directives under a name, and the workflows of this process."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from triggers.configuration import check_finalize, parse
from triggers.exceptions import ConfigurationError, TriggersError
from triggers.workflows.directives import Condition, Declaration
from triggers.workflows.expressions import Trigger
from triggers.workflows.spelling import Duration, Filter, Provider

if TYPE_CHECKING:
    from triggers.task import TriggerTask


class UnknownWorkflow(TriggersError, LookupError):
    """No workflow of this name is known in this process.

    :ivar name: the name asked for.
    """

    def __init__(self, name: str, known: list[str]) -> None:
        self.name = name
        super().__init__(
            f"No workflow {name!r} is known (known: {', '.join(known) or 'none'}). Declare it in "
            "the workflows.py of an installed app, or import the module that declares it."
        )


class Workflow(Mapping[str, dict[str, Any]]):
    """Tasks of one kind of session; a mapping of task names to directives in plain JSON.

    It is what :meth:`~triggers.manager.TriggerManager.update_configuration` takes. What it hands
    out are copies. A workflow that is made here is a value of its own; :func:`define` makes one
    that is found by its name.

    :param name: its name.
    :param finalize: whether its sessions fire ``sessionFinalized`` when nothing is left to do;
        ``None``: it says nothing of that.
    :raises ConfigurationError: ``name`` is no string, or empty.
    """

    def __init__(self, name: str, *, finalize: bool | None = None) -> None:
        given: Any = name
        if not isinstance(given, str) or not given:
            reason = f"the name of a workflow must be a string and not empty, got {name!r}"
            raise ConfigurationError([("workflow", reason)])
        self.name: str = name
        self.finalize = check_finalize(finalize)
        self._tasks: dict[str, Mapping[str, Any]] = {}

    @classmethod
    def from_json(cls, name: str, configuration: Mapping[str, Any]) -> Workflow:
        """A workflow of what stands in a file.

        :param name: the workflow's name.
        :param configuration: directives by task name; ``to_json()`` gives the same again.
        :raises ConfigurationError: something in it is wrong.
        """
        made = cls(name)
        parsed = parse(configuration)
        made._tasks = {each.name: each.directives for each in parsed.tasks.values()}
        return made

    def task(
        self,
        name: str,
        /,
        *,
        run: str | TriggerTask | type[TriggerTask],
        after: Condition | None = None,
        unless: Condition | None = None,
        and_every: str | Trigger | None = None,
        when: Mapping[str, Filter | list[Filter]] | None = None,
        within: Duration | None = None,
        fresh: Mapping[str, Duration] | None = None,
        at_most_every: Duration | None = None,
        debounce: Mapping[str, Duration] | None = None,
        with_params: Mapping[str, Mapping[str, Any]] | None = None,
        with_args: Provider | None = None,
        using: str | None = None,
        **custom: Any,
    ) -> Workflow:
        """Add a task.

        Durations are ISO 8601 text, a ``timedelta``, or a number of seconds.

        :param name: the task's name, such as ``t_importSubject``.
        :param run: the trigger task that does the work: the task, its class or its name.
        :param after: a trigger's name, an expression, JSON, or a list of these (all of them);
            ``None``: nothing beside ``and_every``.
        :param unless: likewise; ``None``: nothing rules an instance out.
        :param and_every: a trigger's name, or ``on(…)`` with what there is to say of it; ``None``:
            the task runs once.
        :param when: filters by trigger, as in JSON; predicates also as functions; ``None``: none
            beside those of expressions.
        :param within: how long an instance may wait, such as seconds; ``None``: for ever.
        :param fresh: how long a firing counts, by trigger, such as seconds; ``None``: for ever.
        :param at_most_every: pass over firings of ``and_every`` that come sooner, in seconds or the
            like; ``None``: over none.
        :param debounce: ``{"quiet": …, "most": …}``: one instance per burst of ``and_every``;
            durations, such as seconds; ``None``: one per firing.
        :param with_params: kwargs by trigger that lie under what is fired; ``None``: none.
        :param with_args: a provider, or its name; ``None``: the task gets its context alone.
        :param using: name of the runner; ``None``: the manager's default.
        :param custom: directives of your own.
        :returns: the workflow itself, to add the next task.
        :raises ConfigurationError: something is wrong, or the workflow has a task of this name.
        """
        declaration = Declaration(
            run=run,
            after=after,
            unless=unless,
            and_every=and_every,
            when=when,
            within=within,
            fresh=fresh,
            at_most_every=at_most_every,
            debounce=debounce,
            with_params=with_params,
            with_args=with_args,
            using=using,
            custom=custom,
        )
        return self.add(name, declaration)

    def add(self, name: str, declaration: Declaration) -> Workflow:
        """Add a task whose declaration was made elsewhere; see :meth:`task`.

        :param name: the task's name.
        :param declaration: what there is to say of it.
        :returns: the workflow itself.
        :raises ConfigurationError: something is wrong, or the workflow has a task of this name.
        """
        if name in self._tasks:
            run = self._tasks[name]["run"]
            reason = f"the workflow {self.name!r} has a task of this name, which runs {run}"
            raise ConfigurationError([(name, reason)])
        [added] = parse({name: declaration.directives(name)}).tasks.values()
        self._tasks[name] = added.directives
        return self

    def to_json(self) -> dict[str, dict[str, Any]]:
        """The workflow as the configuration language writes it (a fresh copy).

        Plain JSON, as long as ``with_params`` and directives of your own are. Dates, ``Decimal``
        and ``UUID`` in these stay what they are: ``payload.encode`` makes text of them, and
        ``payload.decode`` (not ``json.loads``) reads it, for :meth:`from_json`.
        """
        return dict(self)

    def __getitem__(self, name: str) -> dict[str, Any]:
        return copy.deepcopy(dict(self._tasks[name]))

    def __iter__(self) -> Iterator[str]:
        return iter(self._tasks)

    def __len__(self) -> int:
        return len(self._tasks)

    def __repr__(self) -> str:
        return f"<Workflow {self.name!r}: {', '.join(self) or 'no tasks yet'}>"


_known: dict[str, Workflow] = {}


def define(name: str, *, finalize: bool | None = None) -> Workflow:
    """The workflow of this name, made if there is none, so that several modules may add to it.

    :param name: the workflow's name.
    :param finalize: see :class:`Workflow`; ``None``: what others say, if they do.
    :raises ConfigurationError: ``name`` is no string, or empty, or somebody else has declared
        ``finalize`` otherwise.
    """
    if name not in _known:
        _known[name] = Workflow(name, finalize=finalize)
    found = _known[name]
    if check_finalize(finalize) is not None and found.finalize is not finalize:
        if found.finalize is not None:
            reason = f"the workflow {name!r} was declared with finalize={found.finalize}"
            raise ConfigurationError([("finalize", reason)])
        found.finalize = finalize
    return found


def register(workflow: Workflow) -> Workflow:
    """Make a workflow known by its name, such as one that was read from a file.

    :returns: the workflow.
    :raises ConfigurationError: another one has this name.
    """
    if _known.setdefault(workflow.name, workflow) is not workflow:
        reason = f"another workflow {workflow.name!r} is known already; add to it, or rename one"
        raise ConfigurationError([("workflow", reason)])
    return workflow


def unregister(name: str) -> None:
    """Forget a workflow; does nothing if there is none of this name.

    :param name: the workflow's name.
    """
    _known.pop(name, None)


def get(name: str) -> Workflow:
    """The workflow of this name.

    :param name: the workflow's name.
    :raises UnknownWorkflow: (a ``LookupError``) there is none; the message lists those there are.
    """
    if name not in _known:
        raise UnknownWorkflow(name, names())
    return _known[name]


def names() -> list[str]:
    """The names of all workflows that are known, sorted."""
    return sorted(_known)
