"""Serve a model over HTTP: requests that come together share a run, and what comes too fast is refused.

DYNQ_MODEL=model.dynq uvicorn serve:app --workers 4   # each with OMP_NUM_THREADS=1, or another share of the CPUs
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import numpy as np
from fastapi import FastAPI, HTTPException
from pydantic import BaseModel

import dynq

MOST_ROWS = 16  # of one run
MOST_WAITING = 64  # requests; further ones get status 503 at once, which a load balancer understands
WAIT_SECONDS = 0.002  # for others to share a run with, once one has come


class Busy(Exception):
    """Too many requests wait."""


class Batcher:
    """Runs the rows of requests together, one run at a time, in a thread: C runs without Python's lock."""

    def __init__(self, model: dynq.Model) -> None:
        self._model = model
        self._waiting: asyncio.Queue[tuple[np.ndarray, asyncio.Future[np.ndarray]]] = asyncio.Queue(MOST_WAITING)
        self.sizes: list[int] = []  # of the last runs

    async def __call__(self, row: np.ndarray) -> np.ndarray:
        future: asyncio.Future[np.ndarray] = asyncio.get_running_loop().create_future()
        try:
            self._waiting.put_nowait((row, future))
        except asyncio.QueueFull:
            raise Busy from None
        return await future

    async def serve(self) -> None:
        while True:
            batch = [await self._waiting.get()]
            await asyncio.sleep(WAIT_SECONDS)
            while len(batch) < MOST_ROWS and not self._waiting.empty():
                batch.append(self._waiting.get_nowait())
            self.sizes = [*self.sizes[-99:], len(batch)]
            try:
                results = await asyncio.to_thread(self._model, np.stack([row for row, _ in batch]))
            except Exception as error:
                results = [error] * len(batch)
            for (_, future), result in zip(batch, results, strict=True):
                if future.cancelled():
                    continue
                if isinstance(result, Exception):
                    future.set_exception(result)
                else:
                    future.set_result(result)


class Row(BaseModel):
    x: list[float]


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    model = dynq.load(os.environ["DYNQ_MODEL"])  # mapped: all workers share its pages
    app.state.batcher = Batcher(model)
    app.state.width = model.inputs[0].shape[1]
    task = asyncio.create_task(app.state.batcher.serve())
    yield
    task.cancel()


app = FastAPI(lifespan=lifespan)


@app.post("/predict")
async def predict(row: Row) -> dict[str, list[float]]:
    if len(row.x) != app.state.width:
        raise HTTPException(422, f"x has {len(row.x)} numbers; expected {app.state.width}")
    try:
        y = await app.state.batcher(np.array(row.x, np.float32))
    except Busy:
        raise HTTPException(503, "too many requests wait", {"Retry-After": "1"}) from None
    return {"y": y.tolist()}
