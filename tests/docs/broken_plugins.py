"""For the page on extensions: two distributions are installed whose entry points are wrong.

Comes before ``tasks_in_place.py``.
"""

import sys
import tempfile
from importlib import invalidate_caches
from pathlib import Path

from triggers.manager import trigger_managers
from triggers.runners import task_runners
from triggers.storages import storage_backends

DISTRIBUTIONS = {
    "shop-plugins 1.0": """
[triggers.storages]
misspelled = shop_plugins:FolderStorag
gone = shop_plugins.storages:FolderStorage
renamed = shop_plugins:FolderStorage
twice = shop_plugins:TwiceStorage
[triggers.runners]
mistaken = shop_plugins:FolderStorage
""",
    "other-plugins 2.0": """
[triggers.storages]
twice = other_plugins:Storage
""",
}
SHOP_PLUGINS = """
from triggers.storages.base import BaseTriggerStorage

class FolderStorage(BaseTriggerStorage):
    name = "folder"
"""

plugin_site = tempfile.TemporaryDirectory(prefix="triggers_plugins_")
for distribution, entry_points in DISTRIBUTIONS.items():
    title, version = distribution.split()
    info = Path(plugin_site.name, f"{title.replace('-', '_')}-{version}.dist-info")
    info.mkdir()
    metadata = f"Metadata-Version: 2.1\nName: {title}\nVersion: {version}\n"
    (info / "METADATA").write_text(metadata)
    (info / "entry_points.txt").write_text(entry_points)
Path(plugin_site.name, "shop_plugins.py").write_text(SHOP_PLUGINS)


def look_for_plugins_again() -> None:
    invalidate_caches()
    for registry in (trigger_managers, storage_backends, task_runners):
        registry.refresh()


sys.path.insert(0, plugin_site.name)
look_for_plugins_again()


def tear_down() -> None:
    sys.path.remove(plugin_site.name)
    sys.modules.pop("shop_plugins", None)
    plugin_site.cleanup()
    look_for_plugins_again()
