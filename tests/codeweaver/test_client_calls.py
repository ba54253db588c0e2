"""Calls of a vector store's client: what is cancelled stays cancelled."""

from __future__ import annotations

import asyncio

import pytest

from recollect.compat.codeweaver.client_calls import ClientCalls


class Answering:
    """A client whose one method answers when it is told to."""

    def __init__(self) -> None:
        self.answer: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    async def count(self) -> int:
        return await self.answer


@pytest.mark.parametrize("turns", range(4))
def test_a_cancellation_that_comes_with_the_answer_is_not_lost(turns: int) -> None:
    async def steps() -> None:
        client = Answering()
        task = asyncio.create_task(ClientCalls(client).call("count", {}, timeout_s=60))
        await asyncio.sleep(0.01)
        client.answer.set_result(1)
        for _ in range(turns):
            await asyncio.sleep(0)
        was_running = task.cancel()
        await asyncio.wait([task])

        assert task.cancelled() == was_running

    asyncio.run(steps())


def test_a_call_without_an_answer_in_time_is_an_error() -> None:
    async def steps() -> None:
        with pytest.raises(TimeoutError):
            await ClientCalls(Answering()).call("count", {}, timeout_s=0.01)

    asyncio.run(steps())
