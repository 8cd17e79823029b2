"""What tests of whole daemons share."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.installed import Upstream, installed, serving_api
from tests.support.redis_server import RedisServer
from tests.support.systemd_host import SystemdHost


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    """Return a Redis of the test's own, running."""
    directory = tmp_path / "redis"
    directory.mkdir()
    server = RedisServer(directory).start()
    yield server
    server.stop()


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SystemdHost]:
    """Return a machine with swproxy installed as the guide says."""
    with installed(tmp_path_factory.mktemp("systemd")) as machine:
        yield machine


@pytest.fixture(scope="module")
def upstream(host: SystemdHost) -> Iterator[Upstream]:
    """Return an API on it."""
    with serving_api(host) as upstream:
        yield upstream
