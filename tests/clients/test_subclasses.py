"""Classes that applications derive from the clients: their own constructor makes them, embedded runtime or not."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from inferencesh import AsyncInference, ConfigurationError, Inference
from inferencesh.local import BackgroundRuntime
from tests.support import Kind


class Plain(Inference):
    """One that passes everything on."""

    def __init__(self, *arguments: Any, tenant: str = "nobody", **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.tenant = tenant


class Own(Inference):
    """One that knows a few arguments only, and has its own key."""

    def __init__(self, tenant: str = "nobody", *, api_key: str | None = None, base_url: Any = None) -> None:
        super().__init__(api_key or "inf_tenant", base_url=base_url, max_retries=0, proxy="http://127.0.0.1:1")
        self.tenant = tenant


class AsyncPlain(AsyncInference):
    """As Plain."""

    def __init__(self, *arguments: Any, tenant: str = "nobody", **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.tenant = tenant


class AsyncOwn(AsyncInference):
    """As Own."""

    def __init__(self, tenant: str = "nobody", *, api_key: str | None = None, base_url: Any = None) -> None:
        super().__init__(api_key or "inf_tenant", base_url=base_url, max_retries=0, proxy="http://127.0.0.1:1")
        self.tenant = tenant


@pytest.mark.parametrize("cls", [Plain, Own])
def test_a_blocking_subclass_is_made_by_its_constructor(cls: type[Plain | Own]) -> None:
    """Its attributes are there, its arguments count, and the runtime answers."""
    with cls.local(pace=0) as client:
        assert type(client) is cls
        assert client.tenant == "nobody"
        assert repr(client) == f"{cls.__name__}(local)"
        assert "Hello" in client.agent({"name": "t"}).send_message("Hello").text


@pytest.mark.parametrize("cls", [AsyncPlain, AsyncOwn])
async def test_an_async_subclass_is_made_by_its_constructor(cls: type[AsyncPlain | AsyncOwn]) -> None:
    """The same."""
    async with cls.local(pace=0) as client:
        assert type(client) is cls
        assert client.tenant == "nobody"
        assert repr(client) == f"{cls.__name__}(local)"
        assert "Hello" in (await client.agent({"name": "t"}).send_message("Hello")).text


def test_a_client_is_made_for_a_runtime_with_other_options(kind: Kind) -> None:
    """It starts the runtime, and stops it when it is closed."""
    runtime = BackgroundRuntime(pace=0)
    if kind == "sync":
        with Inference(base_url=runtime, max_parallel_tools=1) as client:
            text = client.agent({"name": "t"}).send_message("Hello").text
    else:

        async def main() -> str:
            async with AsyncInference(base_url=runtime, max_parallel_tools=1) as client:
                return (await client.agent({"name": "t"}).send_message("Hello")).text

        text = asyncio.run(main())
    assert "Hello" in text
    with pytest.raises(RuntimeError, match="stopped"):
        runtime.start()


@pytest.mark.parametrize("cls", [Inference, AsyncInference])
def test_a_base_url_of_another_type_is_refused(cls: Any) -> None:
    """With what it may be."""
    with pytest.raises(ConfigurationError, match="text or a BackgroundRuntime, not int"):
        cls("key", base_url=8000)
