"""Install fergen-bench and the tested versions of its dependencies into the environment of this Python.

`make install` calls it. uv installs in a fraction of pip's time. It does not read pip's configuration, so the indexes,
links, constraints, certificates and proxy in there are passed on. Where uv cannot be had or fails, pip installs.
"""

from __future__ import annotations

import ast
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).parent
PIP = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
UV_NAMES = {  # pip's name of a setting → uv's variable
    "index-url": "UV_DEFAULT_INDEX",
    "extra-index-url": "UV_INDEX",
    "find-links": "UV_FIND_LINKS",
    "no-index": "UV_NO_INDEX",
    "trusted-host": "UV_INSECURE_HOST",
    "timeout": "UV_HTTP_TIMEOUT",
    "default-timeout": "UV_HTTP_TIMEOUT",
    "cert": "SSL_CERT_FILE",
    "client-cert": "SSL_CLIENT_CERT",
    "proxy": "ALL_PROXY",
}
COMMA_SEPARATED = {"UV_FIND_LINKS"}  # where pip and uv's other variables put spaces


def main() -> int:
    """Install with uv, or with pip where that fails, and return the exit status."""
    start = time.monotonic()
    request = ["install", *([] if sys.stderr.isatty() else ["--quiet"]), "-c", "constraints.txt", "-e", ".[dev]"]
    print(f"Installing the versions of constraints.txt into {sys.prefix}; torch is most of it.", flush=True)
    if subprocess.run([*PIP, "install", "--quiet", "uv"], cwd=ROOT).returncode != 0:
        print("uv cannot be installed here. pip installs instead: some minutes.", flush=True)
    elif (status := _install_with_uv(request)) != 0:
        print(f"uv failed with exit status {status}. pip installs instead: some minutes.", flush=True)
    else:
        print(f"Installed by uv in {time.monotonic() - start:.0f} s.")
        return 0
    if (status := subprocess.run([*PIP, *request], cwd=ROOT).returncode) == 0:
        print(f"Installed by pip in {time.monotonic() - start:.0f} s.")
    return status


def _install_with_uv(request: list[str]) -> int:
    listing = subprocess.run([*PIP, "config", "list"], cwd=ROOT, capture_output=True, text=True).stdout
    settings = pip_settings(listing)
    constraints = [part for path in settings.get("constraint", "").split() for part in ("-c", path)]
    command = [sys.executable, "-m", "uv", "pip", *request, "--python", sys.executable, *constraints]
    return subprocess.run(command, cwd=ROOT, env=uv_environment(settings, os.environ)).returncode


def pip_settings(listing: str) -> dict[str, str]:
    """Return the settings in the output of `pip config list` that hold for `pip install`.

    Args:
        listing: Lines such as `global.index-url='https://…'`; variables of the environment are in the section `:env:`.

    Returns:
        The settings by their names. A variable wins over the section `install`, which wins over `global`, as in pip.
    """
    settings = {}
    for section in ("global.", "install.", ":env:."):
        for line in listing.splitlines():
            key, separator, value = line.partition("=")
            if separator and key.startswith(section):
                settings[key.removeprefix(section)] = str(ast.literal_eval(value))
    return settings


def uv_environment(settings: Mapping[str, str], environment: Mapping[str, str]) -> dict[str, str]:
    """Return the environment in which uv installs from the places that pip is configured with.

    Args:
        settings: Settings of pip by their names.
        environment: The present environment; what it sets for uv stays.
    """
    passed = {"UV_INDEX_STRATEGY": "unsafe-best-match"}  # as pip: an index does not hide another's versions
    for name, value in settings.items():
        if (variable := UV_NAMES.get(name)) is not None and value:
            passed[variable] = (",".join if variable in COMMA_SEPARATED else " ".join)(value.split())
    return passed | dict(environment)


if __name__ == "__main__":
    sys.exit(main())
