"""The distributions of this checkout, built and installed as a user gets them.

Nothing is built in the checkout itself, where leftovers of other builds may lie, and into which a
build writes.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pytest

from tests.servers import ROOT

TIMEOUT = 600  # seconds, for one build or installation on a busy machine
_OLDEST_SETUPTOOLS = 77  # as in [build-system] of pyproject.toml

_NOT_COPIED = shutil.ignore_patterns(
    ".git", ".venv", ".tox", ".*_cache", ".hypothesis", "htmlcov", "build", "dist", "_build",
    "*.egg-info", "__pycache__", "*.py[cod]", "*.sqlite3*", ".coverage*",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Distributions:
    """What was built.

    :ivar source: a copy of the checkout, which nobody edits meanwhile.
    :ivar sdist: from that copy.
    :ivar wheel: from that copy.
    :ivar wheel_of_sdist: from the unpacked sdist.
    """

    source: Path
    sdist: Path
    wheel: Path
    wheel_of_sdist: Path


def require(*modules: str) -> None:
    """Leave a test out where something of the extra ``dev`` is missing; in CI, let it fail."""
    missing = [each for each in modules if importlib.util.find_spec(each) is None]
    if "build" in modules and _setuptools() < _OLDEST_SETUPTOOLS:
        missing.append(f"setuptools>={_OLDEST_SETUPTOOLS}")
    if missing:
        leave_out(f"{' and '.join(missing)} must be installed (the extra dev has it)")


def leave_out(reason: str) -> None:
    """Skip, but not in CI, where every one of these tests must run."""
    (pytest.fail if os.environ.get("CI") else pytest.skip)(reason)


def _setuptools() -> int:
    try:
        return int(version("setuptools").partition(".")[0])
    except PackageNotFoundError:
        return 0


def environment() -> dict[str, str]:
    """What a process outside the checkout inherits."""
    return {
        name: value
        for name, value in os.environ.items()
        if name != "DJANGO_SETTINGS_MODULE" and not name.startswith(("PYTHON", "TRIGGERS_"))
    }


def run(*command: object, cwd: Path, status: int = 0) -> str:
    """Run a command outside the checkout, without its settings; return what it printed."""
    done = subprocess.run(
        [str(each) for each in command],
        cwd=cwd,
        env=environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=TIMEOUT,
    )
    assert done.returncode == status, f"{command} ended with {done.returncode}:\n{done.stdout}"
    return done.stdout


def build(folder: Path) -> Distributions:
    """Build everything; ``folder`` is an empty one."""
    require("build")
    source = folder / "checkout"
    shutil.copytree(ROOT, source, ignore=_NOT_COPIED)
    sdist = _built("sdist", source, folder / "sdist")
    # Not by the module: Python 3.11 has its argument `filter` from 3.11.4 on, 3.12 asks for it.
    run(sys.executable, "-m", "tarfile", "--extract", sdist, folder / "unpacked", cwd=folder)
    [unpacked] = (folder / "unpacked").iterdir()
    return Distributions(
        source=source,
        sdist=sdist,
        wheel=_built("wheel", source, folder / "wheel"),
        wheel_of_sdist=_built("wheel", unpacked, folder / "wheel_of_sdist"),
    )


def _built(kind: str, source: Path, into: Path) -> Path:
    # Without isolation: the build needs no index then.
    command = (sys.executable, "-m", "build", f"--{kind}", "--no-isolation", "--outdir", into)
    run(*command, source, cwd=source.parent)
    [made] = into.iterdir()
    return made


def files_of_wheel(wheel: Path) -> dict[str, bytes]:
    """What a wheel holds, by path."""
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist() if name[-1] != "/"}


def install_alone(wheel: Path, folder: Path, *, extra: str = "") -> Path:
    """Install a wheel by pip with what it depends on, and nothing else; return the interpreter.

    :param extra: an extra to install with it.
    """
    python = _environment(folder, with_pip=True)
    pip = (python, "-m", "pip", "--disable-pip-version-check", "--quiet")
    try:
        run(*pip, "install", f"{wheel}[{extra}]" if extra else wheel, cwd=folder)
    except AssertionError as error:
        if not any(each in str(error) for each in ("NewConnectionError", "No matching distri")):
            raise
        leave_out(f"the packages that triggers depends on cannot be had here: {error}")
    return python


def install_beside(wheel: Path, folder: Path) -> Path:
    """Install a wheel so that all packages of this process are there too; return the interpreter.

    Without the checkout, even where this process has it installed as editable.
    """
    python = _environment(folder, with_pip=False)
    site = Path(run(python, "-c", _SITE, cwd=folder).strip())
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    paths = sysconfig.get_paths()
    others = dict.fromkeys((paths["purelib"], paths["platlib"]))
    (site / "others.pth").write_text("".join(f"{each}\n" for each in others))
    return python


_SITE = "import sysconfig; print(sysconfig.get_paths()['purelib'])"


def _environment(folder: Path, *, with_pip: bool) -> Path:
    venv.create(folder / "venv", with_pip=with_pip, symlinks=os.name != "nt")
    scripts = "Scripts" if os.name == "nt" else "bin"
    return folder / "venv" / scripts / "python"
