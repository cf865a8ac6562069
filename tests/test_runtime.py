"""The device policy, on machines that are not here: torch.cuda and torch's Metal back end are replaced."""

import http.server
import socket
import threading
import time
from types import SimpleNamespace

import pytest
import torch

import coursepkg
from coursepkg import runtime


@pytest.fixture
def online(monkeypatch):
    """Neither offline switch is set."""
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.delenv("TRANSFORMERS_OFFLINE", raising=False)


def pretend_cuda(monkeypatch, name: str, capability: tuple[int, int], total: int, free: int) -> None:
    """A CUDA device; like torch, it claims bfloat16 from 8.0 on, and everywhere if emulation counts."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda where: name)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda where: capability)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda where: (free, total))
    monkeypatch.setattr(
        torch.cuda,
        "is_bf16_supported",
        lambda including_emulation=True: including_emulation or capability >= (8, 0),
    )


def pretend_no_cuda(monkeypatch, mps: bool = False) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
    monkeypatch.setattr(torch.mps, "recommended_max_memory", lambda: 12 * 2**30)
    monkeypatch.setattr(torch.mps, "driver_allocated_memory", lambda: 2**30)


@pytest.mark.parametrize(
    ("name", "capability", "dtype"),
    [
        ("Tesla T4", (7, 5), torch.float16),
        ("A100", (8, 0), torch.bfloat16),
        ("L4", (8, 9), torch.bfloat16),
        ("H200", (9, 0), torch.bfloat16),
    ],
)
def test_a_gpu_computes_in_bfloat16_where_its_hardware_does(monkeypatch, name, capability, dtype):
    pretend_cuda(monkeypatch, name, capability, total=16 * 2**30, free=15 * 2**30)
    found = runtime.machine()
    assert (found.device, found.device_name, found.dtype.dtype) == ("cuda", name, dtype)
    assert found.device_memory == runtime.Memory(16 * 2**30, 15 * 2**30)
    if dtype is torch.float16:
        assert "7.5 has no bfloat16" in found.dtype.reason


def test_an_apple_gpu_computes_in_float16(monkeypatch):
    pretend_no_cuda(monkeypatch, mps=True)
    found = runtime.machine()
    assert (found.device, found.dtype.dtype) == ("mps", torch.float16)
    assert found.device_memory == runtime.Memory(12 * 2**30, 11 * 2**30)


def test_a_cpu_computes_in_float32(monkeypatch):
    pretend_no_cuda(monkeypatch)
    found = runtime.machine()
    assert (found.device, found.dtype.dtype, found.device_memory) == ("cpu", torch.float32, None)


@pytest.mark.parametrize(
    ("limit", "used"),
    [("memory.max", "memory.current"), ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes")],
)
def test_a_container_has_what_its_control_group_allows(tmp_path, limit, used):
    (tmp_path / "memory").mkdir()
    (tmp_path / limit).write_text(f"{2**20}\n")
    (tmp_path / used).write_text(f"{2**19}\n")
    assert runtime.host_memory(tmp_path) == runtime.Memory(2**20, 2**19)


def test_a_control_group_without_a_limit_changes_nothing(tmp_path):
    (tmp_path / "memory.max").write_text("max\n")
    (tmp_path / "memory.current").write_text("1\n")
    assert runtime.host_memory(tmp_path).total == runtime.psutil.virtual_memory().total


@pytest.mark.parametrize(
    ("variable", "expected"),
    [("COLAB_RELEASE_TAG", "colab"), ("BINDER_SERVICE_HOST", "binder"), ("NEITHER", "local")],
)
def test_where_the_notebook_runs(monkeypatch, variable, expected):
    monkeypatch.delenv("COLAB_RELEASE_TAG", raising=False)
    monkeypatch.delenv("BINDER_SERVICE_HOST", raising=False)
    monkeypatch.setenv(variable, "1")
    assert runtime.place() == expected


def test_versions_leave_out_what_is_not_installed():
    assert list(runtime.versions(("torch", "no-such-package"))) == ["torch"]


@pytest.mark.parametrize("variable", ["HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"])
def test_offline_asks_nothing(monkeypatch, online, variable):
    monkeypatch.setenv(variable, "1")
    monkeypatch.setattr(runtime, "_ask", lambda *_: pytest.fail("asked"))
    assert runtime.hub().reason == f"{variable} is set, so nothing asked"


@pytest.fixture
def server(monkeypatch, online):
    """A hub on this machine; gives the status it answers, to be changed."""
    answer = SimpleNamespace(status=200)

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.send_response(answer.status)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    httpd = http.server.HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=httpd.serve_forever, daemon=True).start()
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{httpd.server_port}")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    yield answer
    httpd.shutdown()
    httpd.server_close()


@pytest.mark.parametrize(("status", "reachable"), [(200, True), (401, True), (503, False)])
def test_a_hub_that_answers_is_reachable_unless_it_is_broken(server, status, reachable):
    server.status = status
    found = runtime.hub()
    assert (found.reachable, found.reason) == (reachable, f"answered {status}")


def test_a_hub_that_refuses_is_not_reachable(monkeypatch, online):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{unused.getsockname()[1]}")
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        assert not runtime.hub().reachable


def test_a_name_look_up_that_hangs_is_left_behind(monkeypatch, online):
    """socket.getaddrinfo knows no time-out: the answer must come all the same."""
    release = threading.Event()
    monkeypatch.setenv("HF_ENDPOINT", "http://hub.invalid")
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: release.wait(30) and [])
    started = time.perf_counter()
    found = runtime.hub(seconds=0.2)
    release.set()
    assert time.perf_counter() - started < 5
    assert (found.reachable, found.reason) == (False, "no answer within 0.2 s")


def test_hello_says_it_in_four_short_lines(monkeypatch, capsys):
    pretend_cuda(monkeypatch, "Tesla T4", (7, 5), total=16 * 2**30, free=15 * 2**30)
    coursepkg.hello()
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 4 and max(map(len, lines)) < 110
    assert lines[0].startswith("coursepkg 0.") and "torch" in lines[0]
    assert lines[1] == "device  cuda: Tesla T4"
    assert lines[2].startswith("dtype   float16: ")
    assert lines[3].endswith("on the host, 16.0 GiB on the device")


@pytest.mark.parametrize(
    ("capabilities", "dtype"),
    [
        ({"avx512_bf16": True}, torch.bfloat16),
        ({"amx_bf16": True}, torch.bfloat16),
        ({"avx2": True}, None),
        ({}, None),
    ],
)
def test_training_autocasts_where_a_cpu_multiplies_bfloat16(monkeypatch, capabilities, dtype):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities, raising=False)
    assert runtime.autocast(torch.device("cpu")) is dtype


@pytest.mark.parametrize(("capability", "dtype"), [((7, 5), None), ((8, 0), torch.bfloat16)])
def test_training_autocasts_where_a_gpu_has_bfloat16(monkeypatch, capability, dtype):
    pretend_cuda(monkeypatch, "any", capability, total=16 * 2**30, free=15 * 2**30)
    assert runtime.autocast(torch.device("cuda")) is dtype


def test_an_older_torch_that_says_nothing_of_its_cpu_trains_in_float32(monkeypatch):
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    assert runtime.autocast(torch.device("cpu")) is None
