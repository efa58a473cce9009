"""Running a batch on a Dask cluster (the extra `imgconv[cluster]`).

Every worker must reach the disks under the same paths. A worker offers the resource `appliance`,
the number of guests that it takes at once (`dask worker ... --resources appliance=2`). A worker
that dies loses its task to another one; the process that converted the guest ends with it, and
what it has left half-written is completed by the next attempt.
"""

from __future__ import annotations

import os
import queue
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from imgconv import __version__
from imgconv.batch import tasks
from imgconv.batch.runner import Begun, Lost, Message, Messages, Phase
from imgconv.batch.tasks import Children, Outcome, State, Stopped, Task, from_json
from imgconv.errors import ImgconvError, UsageError

RESOURCE = "appliance"

_CONNECT = 20.0  # seconds
_STOP = 60.0  # seconds that the workers have to end what they do

#: What works for which batch in this process, which is a worker of the cluster.
_children: dict[str, Children] = {}


# --- on the workers -------------------------------------------------------------------------------


def perform(text: str, batch: str) -> Outcome:
    """`tasks.perform` on a worker, which tells the batch how far it is by way of the scheduler."""
    from distributed import get_worker

    worker = get_worker()
    where = f"{worker.name}@{os.uname().nodename}" if worker.name != worker.address else str(
        worker.address)
    task = from_json(text)
    last = ("", -1.0)

    # (Dask itself sets "worker" in each event, to the address.)
    def tell(phase: str, fraction: float) -> None:
        nonlocal last
        if phase != last[0] or fraction - last[1] >= 0.1:  # the scheduler serves thousands
            last = (phase, fraction)
            worker.log_event(_topic(batch), {"name": task.name, "by": where, "phase": phase,
                                             "fraction": fraction})

    worker.log_event(_topic(batch), {"name": task.name, "by": where, "began": time.time()})
    # This may be the second try of the cluster's own, after a worker that died.
    return tasks.perform(task, batch, _children.setdefault(batch, Children()), tell, where,
                         tasks.PATIENCE)


def stop(batch: str) -> None:
    """End what this worker does for the batch."""
    _children.setdefault(batch, Children()).stop()


def resume(batch: str) -> None:
    """Let this worker work for a batch that was stopped."""
    _children.pop(batch, None)


def version() -> str:
    return __version__


def _topic(batch: str) -> str:
    return f"imgconv-{batch}"


# --- where the batch runs -------------------------------------------------------------------------


@contextmanager
def connected(address: str, batch: str, tls: tuple[Path | None, Path | None, Path | None],
              ) -> Iterator[tuple[ClusterPool, Messages]]:
    """The cluster of the scheduler at `address`, with CA, certificate and key for tls://.

    Raises ImgconvError when it cannot be reached, has no worker for this, or has another version
    of imgconv.
    """
    try:
        from distributed import Client
    except ImportError as error:
        raise ImgconvError("Dask is not installed", hint="pip install 'imgconv[cluster]', here and "
                                                         "on every worker's host") from error
    messages: Messages = queue.SimpleQueue()
    try:
        client = Client(address, timeout=_CONNECT, security=_security(address, tls),
                        set_as_default=False)
    except (OSError, ValueError, TypeError) as error:
        raise ImgconvError(f"the scheduler {address} cannot be reached: {error}",
                           hint="start it: dask scheduler; tls:// needs --tls-ca, --tls-cert and "
                                "--tls-key") from error
    try:
        _check(client, address)
        yield ClusterPool(client, batch, messages.put), messages
    finally:
        with suppress(Exception):
            client.close(timeout=10)


def _security(address: str, tls: tuple[Path | None, Path | None, Path | None]) -> Any:  # noqa: ANN401
    from distributed.security import Security

    if not any(tls):
        return None
    if not address.startswith("tls://") or not all(tls):
        raise UsageError("TLS needs a scheduler at tls://, and all three files",
                         hint="--scheduler tls://HOST:8786 --tls-ca FILE --tls-cert FILE "
                              "--tls-key FILE")
    ca, certificate, key = (str(path) for path in tls)
    return Security(require_encryption=True, tls_ca_file=ca, tls_client_cert=certificate,
                    tls_client_key=key)


def _check(client: Any, address: str) -> None:  # noqa: ANN401 - Dask has no types
    workers = client.scheduler_info(n_workers=-1)["workers"].values()
    if not any(worker["resources"].get(RESOURCE) for worker in workers):
        raise ImgconvError(
            f"no worker of {address} takes guests" if workers else f"{address} has no worker",
            hint=f"start some: dask worker {address} --nthreads 2 --resources {RESOURCE}=2")
    try:
        found = set(client.run(version).values())
    except Exception as error:
        raise ImgconvError(f"imgconv does not work on the workers of {address}: {error}",
                           hint="install the same version there: imgconv[cluster]") from error
    if found != {__version__}:
        raise ImgconvError(f"the workers of {address} have imgconv {', '.join(sorted(found))}, "
                           f"and this is {__version__}", hint="install the same version everywhere")


class ClusterPool:
    """Tasks on the cluster's workers."""

    size = 0

    def __init__(self, client: Any, batch: str, put: Callable[[Message], None]) -> None:  # noqa: ANN401
        self._client = client
        self._batch = batch
        self._put = put
        self._futures: dict[str, Any] = {}
        client.run(resume, batch)
        client.subscribe_topic(_topic(batch), self._heard)

    def submit(self, task: Task, attempts: int) -> None:
        future = self._client.submit(
            perform, task.as_json(), self._batch, pure=False, resources={RESOURCE: 1},
            key=f"imgconv-{task.name}-{self._batch[:8]}-{attempts}-{time.monotonic_ns()}")
        self._futures[task.name] = future
        future.add_done_callback(lambda done, name=task.name: self._done(name, done))

    def stop(self) -> None:
        futures = list(self._futures.values())
        self._futures.clear()
        with suppress(Exception):  # a scheduler that is gone has stopped everything
            self._client.cancel([future for future in futures if not future.done()])
            self._client.run(stop, self._batch)
            deadline = time.monotonic() + _STOP
            while time.monotonic() < deadline and any(self._client.run(busy,
                                                                       self._batch).values()):
                time.sleep(0.2)

    def _heard(self, event: tuple[float, dict[str, Any]]) -> None:
        _, said = event
        if "began" in said:
            self._put(Begun(said["name"], said["by"], said["began"]))
        else:
            self._put(Phase(said["name"], said["by"], said["phase"], said["fraction"]))

    def _done(self, name: str, future: Any) -> None:  # noqa: ANN401
        if not any(future is current for current in self._futures.values()):
            return  # it was cancelled
        if future.status == "finished":
            self._put(future.result())
        elif future.status == "cancelled":
            self._put(Lost(ImgconvError("the scheduler is gone",
                                        hint="start it again, and go on with --resume")))
        else:
            error = future.exception()
            now = time.time()
            message = (f"each worker that took it died: {error}" if "KilledWorker" in repr(
                type(error)) else f"{type(error).__name__}: {error}")
            self._put(Outcome(name, State.QUEUED if isinstance(error, Stopped) else State.FAILED,
                              1, message, began=now, ended=now, where="cluster"))


def busy(batch: str) -> bool:
    """Whether this worker has processes that work for the batch."""
    return bool(_children.get(batch)) and _children[batch].running > 0
