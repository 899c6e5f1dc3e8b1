"""Starting the dashboard: what is wrong is one sentence, and exit code 2."""

from __future__ import annotations

import re
import socket
import subprocess
import sys
import urllib.request

import pytest

from nas.dashboard.serve import HOST, DashboardError, _listening, check_runs, serve
from tests.nas.dashboard.studies import made


def test_it_listens_on_this_machine_only():
    with _listening(0) as listener:
        assert listener.getsockname()[0] == HOST == "127.0.0.1"


def test_a_port_that_is_taken(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(DashboardError, match=f"port {port} cannot be used .* --port 0"):
            serve([made(tmp_path)], port, False, print)


def test_what_holds_no_study(tmp_path):
    with pytest.raises(DashboardError, match="no directory"):
        check_runs([tmp_path / "nothing"])
    check_runs([tmp_path])  # empty: a study may come
    (tmp_path / "photos").mkdir()
    with pytest.raises(DashboardError, match=r"no study\.db"):
        check_runs([tmp_path])
    made(tmp_path)
    check_runs([tmp_path, tmp_path / "tiny"])


def test_a_process_serves_until_it_is_told_to_stop(tmp_path):
    command = [sys.executable, "-m", "nas", "dashboard", str(made(tmp_path)), "--port", "0", "--no-open"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        address = re.search(r"http://127\.0\.0\.1:\d+/", process.stderr.readline())
        with urllib.request.urlopen(address.group(), timeout=20) as answer:
            assert answer.status == 200
    finally:
        process.terminate()
        out, err = process.communicate(timeout=20)
    assert (process.returncode, out, err) == (0, "", "")


def test_it_ends_when_told_to_even_if_its_shell_ignores_interrupts_for_it(tmp_path):
    command = [sys.executable, "-m", "nas", "dashboard", str(made(tmp_path)), "--port", "0", "--no-open"]
    in_background = ["bash", "-c", 'trap "" INT; exec "$@"', "bash", *command]
    process = subprocess.Popen(in_background, stderr=subprocess.PIPE, text=True)
    try:
        assert "http://127.0.0.1" in process.stderr.readline()
        process.terminate()
        assert process.wait(timeout=20) == 0
    finally:
        process.kill()
        process.communicate()


def test_without_dash_it_says_what_to_install(tmp_path):
    program = "import sys; sys.modules['dash'] = None; from nas.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", program, "dashboard", str(tmp_path)], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 2
    assert done.stderr.splitlines() == ["error: the dashboard needs Dash; install it with: pip install 'dash>=4.4'"]


def test_the_program_starts_without_dash():
    program = "import sys, nas.cli; print('dash' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "False"
