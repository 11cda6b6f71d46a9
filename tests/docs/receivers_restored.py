"""For pages that connect receivers to signals: at the end of the page they are disconnected."""

from triggers.signals import instance_status_changed, trigger_fired

connected = {each: list(each.receivers) for each in (trigger_fired, instance_status_changed)}


def tear_down() -> None:
    for signal, before in connected.items():
        signal.receivers[:] = before
        signal.sender_receivers_cache.clear()
