"""A JupyterLab server on a free port and a headless Chromium to look at it with."""

import contextlib
import os
import secrets
import shutil
import socket
import subprocess
import sys
import sysconfig
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from playwright.sync_api import Page, sync_playwright

from tools import ROOT

SCREENSHOTS = ROOT / "build" / "screenshots"
COMMANDS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome", "msedge")
PLACES = (
    Path("/Applications/Google Chrome.app/Contents/MacOS/Google Chrome"),
    Path("/Applications/Chromium.app/Contents/MacOS/Chromium"),
    Path(os.environ.get("PROGRAMFILES", "C:/Program Files"), "Google/Chrome/Application/chrome.exe"),
)
OPTIONS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
START_SECONDS = 60


def chromium() -> str | None:
    """The path of a browser of the Chromium family, or None."""
    commands = (shutil.which(command) for command in COMMANDS)
    places = (str(place) for place in PLACES if place.exists())
    return next((path for path in (*commands, *places) if path), None)


@contextlib.contextmanager
def browser() -> Iterator[Page]:
    """An empty page in a fresh headless browser. Skips the test, with what to install, where there is no browser."""
    path = chromium()
    if path is None:
        pytest.skip(
            "NO BROWSER HERE, so nothing was checked in one: install Chromium (apt-get install chromium)"
        )
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=path, args=list(OPTIONS))
        page = started.new_page(viewport={"width": 1400, "height": 1000})
        try:
            yield page
        finally:
            started.close()


@dataclass(frozen=True)
class Lab:
    """A running server: its address, and the token that it asks for."""

    address: str
    token: str

    def url(self, path: str) -> str:
        return f"{self.address}/{path}?token={self.token}"


@contextlib.contextmanager
def jupyterlab(root: Path, private: Path) -> Iterator[Lab]:
    """JupyterLab with `root` as its folder and everything it writes about itself in the folder `private`.

    Raises RuntimeError with what it printed if it does not answer within a minute.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        lab = Lab(f"http://127.0.0.1:{free.getsockname()[1]}", secrets.token_hex(16))
    command = [
        *(sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", "--ServerApp.root_dir=."),
        *("--ip=127.0.0.1", f"--port={lab.address.rsplit(':', 1)[1]}", "--ServerApp.port_retries=0"),
        f"--IdentityProvider.token={lab.token}",
    ]
    folders = {
        name: str(private / name.lower())
        for name in ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR")
    }
    path = os.pathsep.join([sysconfig.get_path("scripts"), os.environ["PATH"]])
    environment = os.environ | folders | {"PATH": path, "HF_HUB_OFFLINE": "1"}
    log = private / "server.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as output:
        server = subprocess.Popen(
            command,
            cwd=root,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        try:
            _wait(lab, server, log)
            yield lab
        finally:
            server.terminate()
            try:
                server.wait(20)
            except subprocess.TimeoutExpired:
                server.kill()


def _wait(lab: Lab, server: subprocess.Popen, log: Path) -> None:
    """Return when the server answers."""
    until = time.monotonic() + START_SECONDS
    while time.monotonic() < until and server.poll() is None:
        with contextlib.suppress(OSError), urllib.request.urlopen(lab.url("api/status"), timeout=2):
            return
        time.sleep(0.2)
    raise RuntimeError(
        f"JupyterLab did not start:\n{log.read_text(encoding='utf-8', errors='replace')[-4000:]}"
    )
