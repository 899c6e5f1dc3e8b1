"""A Ray cluster of two machines, on this one: two raylets with a core each, on the loopback interface only.

    python -m tests.two_nodes FOLDER

Prints the address and the raylets' process ids as JSON, and ends with its standard input. The environment must hold
``environment()``, as that of whoever joins the cluster.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

TOKEN = "0123456789abcdef" * 4


def environment() -> dict[str, str]:
    """What a process needs to start this cluster, or to join it."""
    here = str(Path(sys.executable).parent)
    return os.environ | {
        "PATH": f"{here}{os.pathsep}{os.environ['PATH']}",  # a job's "python" is that of Ray's environment
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # loopback only
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": TOKEN,
        "RAY_USAGE_STATS_ENABLED": "0",
    }


@dataclass(frozen=True)
class TwoNodes:
    """A running cluster."""

    address: str
    client: str
    raylets: list[int]
    job_server: str | None


@contextmanager
def two_nodes(dashboard: bool = False) -> Iterator[TwoNodes]:
    """A cluster that ends with the ``with`` statement."""
    folder = tempfile.mkdtemp(prefix="nas-two-")  # a short one: the path of a socket has 107 bytes
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.two_nodes", folder, *(["--dashboard"] if dashboard else [])],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=environment(),
    )
    assert process.stdin
    assert process.stdout
    try:
        yield TwoNodes(**json.loads(process.stdout.readline()))
    finally:
        process.stdin.close()
        process.wait(60)
        shutil.rmtree(folder, ignore_errors=True)


def main(folder: str, dashboard: bool) -> None:
    os.environ["RAY_TMPDIR"] = folder  # where Ray notes a cluster's address, in a folder "ray" that it does not make
    (Path(folder) / "ray").mkdir()
    from ray.cluster_utils import Cluster

    client_port = 20_000 + os.getpid() % 3_000  # Ray Client takes those from 23,000 on for itself
    common = {"num_cpus": 1, "object_store_memory": 100_000_000, "node_ip_address": "127.0.0.1"}
    common["dashboard_agent_listen_port"] = 0  # any: several clusters may run here
    cluster = Cluster(
        initialize_head=True,
        head_node_args=common
        | {
            "temp_dir": folder,
            "include_dashboard": dashboard,
            "dashboard_host": "127.0.0.1",
            "dashboard_port": 0,
            "ray_client_server_port": client_port,
        },
    )
    nodes = [cluster.head_node, cluster.add_node(**common)]
    found = {
        "address": cluster.address,
        "client": f"ray://127.0.0.1:{client_port}",
        "job_server": f"http://{cluster.head_node.webui_url}" if dashboard else None,
        "raylets": [node.all_processes["raylet"][0].process.pid for node in nodes],
    }
    print(json.dumps(found), flush=True)
    sys.stdin.read()
    cluster.shutdown()


if __name__ == "__main__":
    main(sys.argv[1], "--dashboard" in sys.argv)
