"""``python -m tsp.store.check SETTINGS``: can a pod write to the store and read it back? ``helm test`` runs this.

SETTINGS is JSON of StoreConfig. It deletes the object that it writes; exit codes are those of ``tsp.errors``.
"""

from __future__ import annotations

from tsp.signals import end_on_sigterm

if __name__ == "__main__":
    end_on_sigterm()

import json
import secrets
import sys

from tsp.config.codec import from_dict
from tsp.config.store import StoreConfig
from tsp.errors import ConfigError, StoreError, TspError
from tsp.store.base import Store
from tsp.store.open import open_store


def check_round_trip(store: Store) -> int:
    """Write an object of random bytes, read it back, delete it.

    Returns: the number of bytes.
    Raises: StoreError saying which step failed.
    """
    key, data = f".store-check/{secrets.token_hex(8)}", secrets.token_bytes(1024)
    store.write(key, data)
    try:
        answer = store.read(key)
        if answer != data:
            raise StoreError(
                f"{store.uri}/{key} was written, but reading it returned different data: the store is not reliable"
            )
    finally:
        store.delete(key)
    return len(data)


def main(arguments: list[str]) -> int:
    """Check the store that the argument describes and print the result; returns the exit code."""
    try:
        if len(arguments) != 1:
            raise ConfigError("usage: python -m tsp.store.check SETTINGS (JSON of StoreConfig)")
        try:
            raw = json.loads(arguments[0])
        except json.JSONDecodeError as error:
            raise ConfigError(f"the store's settings are not JSON: {error}") from error
        store = open_store(from_dict(StoreConfig, raw, where="store"))
        size_bytes = check_round_trip(store)
    except TspError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    print(f"{store.uri}: wrote {size_bytes} bytes, read them back and deleted them")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
