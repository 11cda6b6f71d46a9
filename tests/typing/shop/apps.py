from django.apps import AppConfig


class ShopConfig(AppConfig):
    name = "shop"

    def ready(self) -> None:
        # Registers the manager, the storage and the runner in every process.
        from shop import managers, runners, storages  # noqa: F401
