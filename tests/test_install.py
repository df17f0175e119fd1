"""install.py: uv from the places that pip is configured with, and pip where uv fails."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

FILE = Path(__file__).parents[1] / "install.py"


@pytest.fixture
def install() -> ModuleType:
    spec = importlib.util.spec_from_file_location("install", FILE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Commands:
    """Stands for subprocess.run: stores the commands, and returns the status that a test sets for one."""

    def __init__(self, configuration: str = "", **statuses: int) -> None:
        self.configuration = configuration
        self.statuses = statuses
        self.run: list[tuple[str, list[str], dict[str, str]]] = []

    def __call__(self, command: list[str], **options: object) -> SimpleNamespace:
        assert command[:2] == [sys.executable, "-m"]
        if "config" in command:
            return SimpleNamespace(returncode=0, stdout=self.configuration)
        name = "get_uv" if command[-1] == "uv" else command[2]
        self.run.append((name, command, options.get("env") or {}))  # type: ignore[arg-type]
        return SimpleNamespace(returncode=self.statuses.get(name, 0))


@pytest.mark.parametrize(
    ("statuses", "steps", "status", "printed"),
    [
        ({}, ["get_uv", "uv"], 0, "Installed by uv"),
        ({"get_uv": 1}, ["get_uv", "pip"], 0, "uv cannot be installed here. pip installs instead"),
        ({"uv": 2}, ["get_uv", "uv", "pip"], 0, "uv failed with exit status 2. pip installs instead"),
        ({"uv": 2, "pip": 1}, ["get_uv", "uv", "pip"], 1, "uv failed with exit status 2"),
    ],
)
def test_pip_installs_where_uv_cannot(
    install: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    statuses: dict[str, int],
    steps: list[str],
    status: int,
    printed: str,
) -> None:
    commands = Commands(**statuses)
    monkeypatch.setattr(subprocess, "run", commands)
    assert install.main() == status
    assert [name for name, _, _ in commands.run] == steps
    output = capsys.readouterr().out
    assert printed in output
    assert ("Installed by" in output) == (status == 0)
    for _, command, _ in commands.run[1:]:
        assert " ".join(command).find("-c constraints.txt -e .[dev]") > 0


def test_uv_installs_from_the_places_that_pip_is_configured_with(
    install: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    configuration = """
:env:.index-url='https://user:secret@mirror.example/simple'
global.cert='/etc/certificates.pem'
global.constraint='/etc/pip/first.txt /etc/pip/second.txt'
global.extra-index-url='\\nhttps://one.example/simple\\nhttps://two.example/simple'
global.find-links='/srv/wheels /srv/more'
global.index-url='https://general.example/simple'
install.index-url='https://install.example/simple'
list.format='columns'
"""
    monkeypatch.setattr(subprocess, "run", commands := Commands(configuration))
    monkeypatch.setenv("UV_HTTP_TIMEOUT", "7")
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    assert install.main() == 0
    _, command, environment = commands.run[1]
    assert environment["UV_DEFAULT_INDEX"] == "https://user:secret@mirror.example/simple"
    assert environment["UV_INDEX"] == "https://one.example/simple https://two.example/simple"
    assert environment["UV_FIND_LINKS"] == "/srv/wheels,/srv/more"
    assert environment["UV_INDEX_STRATEGY"] == "unsafe-best-match"
    assert environment["SSL_CERT_FILE"] == "/etc/certificates.pem"
    assert environment["UV_HTTP_TIMEOUT"] == "7"
    assert command[-4:] == ["-c", "/etc/pip/first.txt", "-c", "/etc/pip/second.txt"]


def test_what_the_environment_sets_for_uv_stays(install: ModuleType) -> None:
    settings = {"index-url": "https://pip.example/simple", "no-index": "", "format": "columns"}
    environment = install.uv_environment(settings, {"UV_DEFAULT_INDEX": "https://uv.example/simple", "PATH": "/bin"})
    assert environment["UV_DEFAULT_INDEX"] == "https://uv.example/simple"
    assert set(environment) == {"UV_DEFAULT_INDEX", "UV_INDEX_STRATEGY", "PATH"}


def test_the_listing_of_the_installed_pip_is_read(install: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "pip.conf").write_text("[install]\nextra-index-url =\n    https://a.example\n    https://b.example\n")
    environment = os.environ | {
        "PIP_CONFIG_FILE": str(tmp_path / "pip.conf"),
        "PIP_INDEX_URL": "https://c.example/simple",
    }
    command = [sys.executable, "-m", "pip", "config", "list"]
    listing = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
    settings = install.pip_settings(listing)
    assert settings["extra-index-url"].split() == ["https://a.example", "https://b.example"]
    assert settings["index-url"] == "https://c.example/simple"
