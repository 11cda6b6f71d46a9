"""For pages whose commands run in the example project: a fresh database, with its tables."""

import os
import subprocess
import sys
import tempfile

from tests.servers import ROOT

directory = tempfile.TemporaryDirectory(prefix="triggers_page_")
os.environ["QUESTIONNAIRE_DATABASE"] = f"{directory.name}/questionnaire.sqlite3"
subprocess.run(
    [sys.executable, ROOT / "manage.py", "migrate", "--verbosity=0"],
    env=os.environ | {"DJANGO_SETTINGS_MODULE": "examples.questionnaire.settings"},
    check=True,
)


def tear_down() -> None:
    del os.environ["QUESTIONNAIRE_DATABASE"]
    directory.cleanup()
