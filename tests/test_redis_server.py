"""The redis-server of the tests keeps its data, can be stopped in several ways, and leaves nothing behind."""

from __future__ import annotations

from pathlib import Path

import pytest
import redis

from .redis_server import RedisServer
from .support import wait_until

pytestmark = pytest.mark.redis


def connected(server: RedisServer) -> redis.Redis:
    """Return a client with a short timeout and without retries."""
    return redis.Redis.from_url(server.url, socket_timeout=0.5, retry=None)


@pytest.mark.parametrize("hard", [False, True], ids=["shut down", "killed"])
def test_a_restart_keeps_the_port_and_the_data(redis_server: RedisServer, *, hard: bool) -> None:
    """Whether it was shut down or killed."""
    address, pid = redis_server.url, redis_server.pid
    with connected(redis_server) as client:
        client.set("kept", "yes")
    redis_server.restart(hard=hard)
    assert redis_server.url == address
    assert redis_server.pid != pid
    with connected(redis_server) as client:
        assert client.get("kept") == b"yes"


def test_connections_are_refused_while_it_is_stopped(redis_server: RedisServer) -> None:
    """After a start, they are accepted again."""
    redis_server.stop()
    with connected(redis_server) as client, pytest.raises(redis.ConnectionError):
        client.ping()
    redis_server.start()
    with connected(redis_server) as client:
        assert client.ping()


def test_a_suspended_server_keeps_connections_without_responding(redis_server: RedisServer) -> None:
    """It responds after it is resumed."""
    with connected(redis_server) as client:
        client.ping()
        redis_server.pause()
        with pytest.raises(redis.TimeoutError):
            client.ping()
        redis_server.resume()
        assert client.ping()


def test_a_paused_server_can_be_stopped(redis_server: RedisServer) -> None:
    """As at the end of a test that failed while the server was suspended."""
    redis_server.pause()
    redis_server.stop()


def test_clients_need_the_password() -> None:
    """The address has it; without it they are refused."""
    with RedisServer(password="of these tests") as server:
        with connected(server) as client:
            assert client.ping()
        with redis.Redis(port=server.port) as stranger, pytest.raises(redis.AuthenticationError):
            stranger.ping()


def test_it_leaves_no_process_and_no_file() -> None:
    """Also when it was paused at the end."""
    with RedisServer() as server:
        pid, home = server.pid, server.home
        server.pause()
        assert home.is_dir()
    wait_until(lambda: not Path(f"/proc/{pid}").exists(), "the end of the process")
    assert not home.exists()
