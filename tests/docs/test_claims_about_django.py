"""What the pages say that Django does, in words alone, is what it does."""

from __future__ import annotations

from pathlib import Path
from uuid import uuid4

import pytest
from django.db import DatabaseError, connections, transaction
from django.http import HttpRequest, HttpResponse
from django.test import Client, override_settings
from django.urls import path as route

from tests import servers
from tests.docs.running import Place
from triggers import MemoryStorageBackend, TriggerManager
from triggers.signals import trigger_fired

HOWTO = servers.ROOT / "docs" / "howto"

REQUEST = """
from wsgiref.util import setup_testing_defaults
from shop.wsgi import application

environ = {}
setup_testing_defaults(environ)
environ["PATH_INFO"] = "/nowhere/"
application(environ, lambda status, headers: print(status))
"""


def test_without_a_secret_key_only_check_deploy_says_so_and_requests_fail(tmp_path: Path) -> None:
    said = " ".join((HOWTO / "deploy.rst").read_text(encoding="utf-8").split())
    assert "without it ``check`` passes though ``SECRET_KEY`` is empty" in said
    place = Place(directory=tmp_path)
    place.run("python -m django startproject shop .")
    with (tmp_path / "shop" / "settings.py").open("a") as settings:
        settings.write("\nSECRET_KEY = ''\nDEBUG = False\nALLOWED_HOSTS = ['127.0.0.1']\n")
    (tmp_path / "request.py").write_text(REQUEST)
    place.run("python manage.py check --fail-level WARNING && python manage.py migrate -v 0")
    assert "security.W009" in place.run("python manage.py check --deploy 2>&1")
    assert place.run("python request.py").strip() == "500 Internal Server Error"
    with (tmp_path / "shop" / "settings.py").open("a") as settings:
        settings.write("SECRET_KEY = 'one'\n")
    assert place.run("python request.py").strip() == "404 Not Found"


async def plain(request: HttpRequest) -> HttpResponse:
    return HttpResponse("done")


@transaction.non_atomic_requests
async def marked(request: HttpRequest) -> HttpResponse:
    return HttpResponse("done")


urlpatterns = [route("plain/", plain), route("marked/", marked)]


@pytest.mark.django_db
def test_async_views_are_refused_under_atomic_requests_unless_they_are_marked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    said = (HOWTO / "run_in_production.rst").read_text(encoding="utf-8")
    assert "RuntimeError: You cannot use ATOMIC_REQUESTS with async views." in said
    assert "@transaction.non_atomic_requests" in said
    monkeypatch.setitem(connections["default"].settings_dict, "ATOMIC_REQUESTS", True)
    with override_settings(ROOT_URLCONF=__name__, ALLOWED_HOSTS=["testserver"]):
        with pytest.raises(RuntimeError, match=r"cannot use ATOMIC_REQUESTS with async views\.$"):
            Client().get("/plain/")
        client = Client(raise_request_exception=False)
        assert client.get("/plain/").status_code == 500
        assert client.get("/marked/").status_code == 200


@pytest.mark.server("postgresql")
@pytest.mark.django_db(transaction=True, databases=["default", "postgresql"])
@pytest.mark.parametrize("has_savepoint", [False, True])
def test_a_receiver_that_fails_in_sql_aborts_the_callers_transaction_without_a_savepoint(
    has_savepoint: bool,
) -> None:
    """As docs/howto/react_to_changes.rst says of storages that are not in that database."""
    database = connections["postgresql"]

    def divide(**others: object) -> None:
        if has_savepoint:
            with transaction.atomic("postgresql"):
                database.cursor().execute("SELECT 1 / 0")
        else:
            database.cursor().execute("SELECT 1 / 0")

    def fire_and_ask() -> None:
        with transaction.atomic("postgresql"):
            TriggerManager(MemoryStorageBackend(uuid4().hex)).fire("a")
            database.cursor().execute("SELECT 1")

    trigger_fired.connect(divide)
    try:
        if has_savepoint:
            fire_and_ask()
        else:
            with pytest.raises(DatabaseError, match="current transaction is aborted"):
                fire_and_ask()
    finally:
        trigger_fired.disconnect(divide)
