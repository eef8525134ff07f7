"""All errors that users can see, with their exit codes.

Libraries raise these; only the two mains (``cli.main`` and ``tsp.entrypoint``) turn them into exit codes.
A message states the problem, its place (file, row, option, object) and what to do next.
"""


class TspError(Exception):
    """Something a user can act on; any other exception that escapes is a bug."""

    exit_code = 1
    pod_exit_code: int | None = None
    """Exit code of a pod, where it differs."""


class ConfigError(TspError):
    """Bad usage or configuration; the message names the option, file and key."""

    exit_code = 2


class DataError(TspError):
    """A video or table cannot be used; the message names file, row or clip."""

    exit_code = 3


class ClusterError(TspError):
    """The cluster refused or cannot do what was requested; the message names the object."""

    exit_code = 4


class UnreachableError(ClusterError):
    """The API server did not answer within the retries, or is temporarily unavailable."""


class StoreError(TspError):
    """The store cannot be read or written; the message names its URI and key."""

    exit_code = 5


class MissingKeyError(StoreError):
    """The store answered: there is no such key."""


class DeniedError(StoreError):
    """The credentials lack a permission in the store; the message names it."""


class GpuMemoryError(TspError):
    """The GPU has too little memory for the batch; permanent in a pod."""

    exit_code = 6


class NotPlacedError(TspError):
    """Ranks of a run waited too long for others without a GPU; permanent, so that their own GPUs are released."""

    exit_code = 7


class NonFiniteLossError(DataError):
    """The loss became NaN or infinite; the message names epoch, step and clips."""


class TerminatedError(TspError):
    """SIGTERM or SIGINT was received; state is saved. Retried by the operator."""

    exit_code = 143


class PeerLostError(TspError):
    """Another rank was lost or never joined. Retried by the operator."""

    exit_code = 150


class GpuLostError(TspError):
    """A GPU failed or was lost. Retried by the operator."""

    exit_code = 152


class StalledError(TspError):
    """The run made no progress within a deadline; the message names what it waited for. Retried by the operator."""

    exit_code = 153


class StoreUnreachableError(StoreError):
    """The store did not answer within the retries. Retried by the operator inside a pod.

    On a laptop this is exit code 5 like every store error; the pod's entrypoint ends with ``pod_exit_code``.
    """

    pod_exit_code = 151


class NoSuchRunError(TspError):
    """No run of that name exists in the store or backend."""

    exit_code = 102


def exit_code_of(error: BaseException) -> int:
    """Exit code of a pod: 1-127 permanent, 128 and above worth another attempt; 1 for a bug."""
    if not isinstance(error, TspError):
        return TspError.exit_code
    return error.exit_code if error.pod_exit_code is None else error.pod_exit_code


def interruption(error: BaseException) -> KeyboardInterrupt | None:
    """What interrupted the program whose error this is, if anything did.

    click raises Abort from it, and Python up to 3.11 a RuntimeError where a class is just being made, as in imports.
    """
    if isinstance(error, KeyboardInterrupt):
        return error
    return None if error.__cause__ is None else interruption(error.__cause__)


INTERRUPTED_EXIT_CODE = 130
"""Of a command that Ctrl-C ended, as a shell has it."""
OUTCOME_EXIT_CODES = {"succeeded": 0, "failed": 100, "timeout": 101, "missing": 102, "cancelled": 103}
"""What ``submit --follow``, ``logs -f`` and ``wait`` end with."""
FIRST_RETRIED_CODE = 128
"""Pods that exit with this code or a higher one are restarted."""
POD_EXIT_MEANINGS = {
    0: "done",
    TspError.exit_code: "unexpected error",
    ConfigError.exit_code: "bad configuration",
    DataError.exit_code: "bad data",
    StoreError.exit_code: "store refused",
    GpuMemoryError.exit_code: "out of GPU memory",
    NotPlacedError.exit_code: "not all ranks were placed in time",
    137: "killed (out of memory, or by force)",
    TerminatedError.exit_code: "terminated, state saved",
    PeerLostError.exit_code: "another rank was lost",
    exit_code_of(StoreUnreachableError()): "store unreachable",
    GpuLostError.exit_code: "a GPU failed",
    StalledError.exit_code: "stalled",
}
"""Exit codes of ``tsp.entrypoint``: 1-127 are permanent, 128 and above are retried."""
