"""The manager's methods for ``async def`` code: each does what the one without the ``a`` does.

They run that method in the thread that Django keeps for synchronous code of the request, so they
see its transactions and its database connections, and a subclass that overrides ``fire`` has
overridden ``afire`` with it. Context variables carry over in both directions.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal, cast, overload

from asgiref.sync import sync_to_async

if TYPE_CHECKING:
    from triggers.explain import (
        ConfigurationPreview,
        FiringExplanation,
        InstanceExplanation,
        SessionExplanation,
        TaskExplanation,
    )
    from triggers.manager import TriggerManager
    from triggers.types import FireResult, Phase, TaskConfig, TaskInstance


class AsyncMethods:
    """What :class:`~triggers.manager.TriggerManager` has for async views and consumers."""

    @overload
    async def aupdate_configuration(
        self,
        configuration: Mapping[str, Any],
        *,
        apply_history: bool = False,
        finalize: bool | None = None,
        preview: Literal[False] = False,
    ) -> FireResult: ...

    @overload
    async def aupdate_configuration(
        self,
        configuration: Mapping[str, Any],
        *,
        apply_history: bool = False,
        finalize: bool | None = None,
        preview: Literal[True],
    ) -> ConfigurationPreview: ...

    @overload
    async def aupdate_configuration(
        self,
        configuration: Mapping[str, Any],
        *,
        apply_history: bool = False,
        finalize: bool | None = None,
        preview: bool,
    ) -> FireResult | ConfigurationPreview: ...

    async def aupdate_configuration(
        self,
        configuration: Mapping[str, Any],
        *,
        apply_history: bool = False,
        finalize: bool | None = None,
        preview: bool = False,
    ) -> FireResult | ConfigurationPreview:
        """See :meth:`~triggers.manager.TriggerManager.update_configuration`."""
        # Managers may override it without what they do not know.
        chosen: dict[str, Any] = {"apply_history": apply_history}
        if finalize is not None:
            chosen["finalize"] = finalize
        if preview:
            chosen["preview"] = preview
        return await sync_to_async(_sync(self).update_configuration)(configuration, **chosen)

    async def afire(
        self,
        trigger_name: str,
        trigger_kwargs: Mapping[str, Any] | None = None,
        *,
        idempotency_key: str | None = None,
        on_commit: bool = False,
    ) -> FireResult:
        """See :meth:`~triggers.manager.TriggerManager.fire`."""
        fire = sync_to_async(_sync(self).fire)
        return await fire(
            trigger_name, trigger_kwargs, idempotency_key=idempotency_key, on_commit=on_commit
        )

    async def areplay_failed_instance(
        self,
        failed_instance: str | TaskInstance,
        replacement_kwargs: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> TaskInstance:
        """See :meth:`~triggers.manager.TriggerManager.replay_failed_instance`."""
        replay = sync_to_async(_sync(self).replay_failed_instance)
        return await replay(failed_instance, replacement_kwargs)

    async def askip_failed_instance(
        self,
        failed_instance: str | TaskInstance,
        cascade: bool = False,
        result: Mapping[str, Any] | None = None,
    ) -> TaskInstance:
        """See :meth:`~triggers.manager.TriggerManager.skip_failed_instance`."""
        skip = sync_to_async(_sync(self).skip_failed_instance)
        return await skip(failed_instance, cascade, result)

    async def aupdate_instance_status(
        self,
        task_instance: str | TaskInstance,
        status: str,
        metadata: Mapping[str, Any] | None = None,
        cascade: bool = False,
        cascade_kwargs: Mapping[str, Any] | None = None,
    ) -> TaskInstance:
        """See :meth:`~triggers.manager.TriggerManager.update_instance_status`."""
        update = sync_to_async(_sync(self).update_instance_status)
        return await update(task_instance, status, metadata, cascade, cascade_kwargs)

    async def aupdate_instance_metadata(
        self, task_instance: str | TaskInstance, metadata: Mapping[str, Any]
    ) -> TaskInstance:
        """See :meth:`~triggers.manager.TriggerManager.update_instance_metadata`."""
        return await sync_to_async(_sync(self).update_instance_metadata)(task_instance, metadata)

    async def amark_instance_logs_resolved(self, task_instance: str | TaskInstance) -> TaskInstance:
        """See :meth:`~triggers.manager.TriggerManager.mark_instance_logs_resolved`."""
        return await sync_to_async(_sync(self).mark_instance_logs_resolved)(task_instance)

    async def aget_unresolved_tasks(self) -> list[TaskConfig]:
        """See :meth:`~triggers.manager.TriggerManager.get_unresolved_tasks`."""
        return await sync_to_async(_sync(self).get_unresolved_tasks)()

    async def aget_unresolved_instances(self) -> list[TaskInstance]:
        """See :meth:`~triggers.manager.TriggerManager.get_unresolved_instances`."""
        return await sync_to_async(_sync(self).get_unresolved_instances)()

    @overload
    async def aexplain(self, what: None = None) -> SessionExplanation: ...
    @overload
    async def aexplain(self, what: TaskConfig) -> TaskExplanation: ...
    @overload
    async def aexplain(self, what: TaskInstance) -> InstanceExplanation: ...
    @overload
    async def aexplain(self, what: str) -> TaskExplanation | InstanceExplanation: ...
    async def aexplain(
        self, what: str | TaskInstance | TaskConfig | None = None
    ) -> SessionExplanation | TaskExplanation | InstanceExplanation:
        """See :meth:`~triggers.manager.TriggerManager.explain`."""
        manager = _sync(self)
        return await sync_to_async(lambda: manager.explain(what))()

    async def aexplain_firing(self, seq: int) -> FiringExplanation:
        """See :meth:`~triggers.manager.TriggerManager.explain_firing`."""
        return await sync_to_async(_sync(self).explain_firing)(seq)

    async def aclose(self) -> Phase:
        """See :meth:`~triggers.manager.TriggerManager.close`."""
        return await sync_to_async(_sync(self).close)()

    async def acancel(self) -> Phase:
        """See :meth:`~triggers.manager.TriggerManager.cancel`."""
        return await sync_to_async(_sync(self).cancel)()

    async def aerase(self) -> None:
        """See :meth:`~triggers.manager.TriggerManager.erase`."""
        await sync_to_async(_sync(self).erase)()


def _sync(manager: AsyncMethods) -> TriggerManager:
    return cast("TriggerManager", manager)
