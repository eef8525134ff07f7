"""Checks addresses: no path, URI or URL that a user gives may contain a secret.

Addresses end up in run.json, ConfigMaps, releases, logs and status, where anyone may read them. So every configuration
object, the settings and the stores check their strings here when they are created, and a release's values and manifest
are checked before they are sent. Messages of other programs may contain their input (a proxy with its password, a
signed address), so everything that is printed or logged is also masked.
"""

from __future__ import annotations

import dataclasses
import logging
import re
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import parse_qsl, urlsplit, urlunsplit

from tsp.errors import ConfigError
from tsp.wording import harmless

FETCHED = ("s3", "https", "http", "file")
"""Schemes of what is read once: weights and checkpoints, the inputs of jobs."""
STORED = ("s3", "file")
"""Schemes of stores and data sets."""

_SCHEME = re.compile(r"\s*([A-Za-z][A-Za-z0-9+.-]*):[/\\]+|\s*[/\\]{2}")
_BARE_PASSWORD = re.compile(r"[^/\\@:\s]+:[^/\\@]+@(?!sha256:)[^/\\@]")
_SECRET_NAME = re.compile(
    r"signature|^sig$|token|secret|passw|credential|api[-_]?key|access[-_]?key|^(auth|key|code|policy|jwt|sas)$", re.I
)
_SECRET_VARIABLE = re.compile(
    r"(^|_)(TOKEN|SECRET|PASSW(OR)?D|PASSPHRASE|CREDENTIALS?|API_?KEY|ACCESS_KEY(_ID)?|(SECRET|PRIVATE)_KEY)$", re.I
)
"""Names of variables, as programs document them: HF_TOKEN, WANDB_API_KEY; not TOKENIZERS_PARALLELISM."""
_CREDENTIALS = re.compile(
    r"""([A-Za-z][A-Za-z0-9+.-]*:[/\\]{1,2}|(?<![\w:/\\])//)"""
    r"""(?:[^\s/\\@"'<>]+|[^\s/\\@:"'<>]+:(?!\d+[/\\])[^\s@"'<>]*)(?:@|%40)"""
)
"""User and password at the start of an address. A password may hold a slash; what is a port is followed by one."""
_PARAMETER = re.compile(r"""([?&#;]([\w.-]+)=)[^\s&#;"'<>]+""")
_OPAQUE = re.compile(r"[A-Za-z0-9+/_=%-]{32,}")
_HINT = {
    "s3": (
        "on this machine, give credentials in AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY or in a profile; for "
        "pods, in a Secret (store.existingSecret)"
    ),
    "": "download the file first and give its path, or put it into the store and give s3://bucket/key",
}


def check_address(what: str, address: str | None, *, may_be_signed: bool = False) -> None:
    """Refuse an address that holds a user, a password or a signed query.

    Args: what, the option or key for the message; may_be_signed, for one that is used at once and not stored.
    Raises: ConfigError, which does not repeat the secret.
    """
    if not address:
        return
    match = _SCHEME.match(address)
    scheme = (match[1] or "").lower() if match else ""
    hint = _HINT["s3" if scheme == "s3" or "endpoint" in what or "store" in what else ""]
    if _has_password(address, match):
        raise ConfigError(f"{what} ({scheme or '...'}://...) contains a user name or password: {hint}")
    if match and scheme != "file" and not may_be_signed and _has_secret_query(address):
        raise ConfigError(f"{what} ({shown(address)}) contains a signature or token in its query: {hint}")


def check_scheme(what: str, address: str | None, *schemes: str) -> None:
    """Refuse an address of a kind that nothing here can read, before anything waits for a GPU to find that out.

    Args: what, the option or key for the message; schemes, those that can be read besides plain paths.
    Raises: ConfigError.
    """
    scheme, is_uri, _ = (address or "").partition("://")
    if is_uri and scheme not in schemes:
        known = " or ".join(["a path", *(f"{name}://" for name in schemes)])
        raise ConfigError(f"{what} ({shown(address or '')}) begins with {scheme}://: expected {known}")


def check_addresses(config: Any) -> None:
    """Check every string of a configuration object; nested objects have checked their own.

    Raises: ConfigError naming the key.
    """
    for item in dataclasses.fields(config):
        check_texts(item.name, getattr(config, item.name))


def shown(address: str) -> str:
    """An address without user, password, query and fragment, which may be secrets."""
    try:
        split = urlsplit(address)
    except ValueError:
        return "an address that cannot be read"
    return urlunsplit((split.scheme, split.netloc.rpartition("@")[2], split.path, "", ""))


def masked(text: str) -> str:
    """Any text with the secret parts of the addresses in it replaced by ``***``; for what others wrote.

    Their messages repeat what they were given: a proxy, a signed address. Too much is masked rather than too little.
    """
    if not any(sign in text for sign in ("@", "%40", "=")):
        return text
    text = _CREDENTIALS.sub(r"\1***@", text)
    return _PARAMETER.sub(lambda found: f"{found[1]}***" if _SECRET_NAME.search(found[2]) else found[0], text)


class MaskingFormatter(logging.Formatter):
    """Formats records with the secret parts of addresses masked and control characters escaped, tracebacks included."""

    def format(self, record: logging.LogRecord) -> str:
        """The text of a record, masked and harmless."""
        return harmless(masked(super().format(record)))


def check_variable(what: str, name: str, value: str) -> None:
    """Refuse an environment variable that holds a secret, by its name or by the address in it.

    Raises: ConfigError, which repeats nothing of the value.
    """
    check_address(f"{what} {name}", value)
    if _SECRET_VARIABLE.search(name) and value and not value.startswith("/"):
        raise ConfigError(
            f"{what} {name} looks like a secret, which anyone could read in the release: put it into a Secret, and "
            "refer to that in extraEnvFrom, or in extraEnv with valueFrom (chart values)"
        )


def check_texts(what: str, value: Any) -> None:
    """Pass every text in a tree of mappings and lists through the gate.

    Raises: ConfigError naming the key.
    """
    for key, text in _texts(what, value):
        check_address(key, text)


def _texts(key: str, value: Any) -> Iterator[tuple[str, str]]:
    if isinstance(value, str):
        yield key, value
    elif isinstance(value, Mapping):
        for name, item in value.items():
            yield from _texts(f"{key}.{name}", item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _texts(key, item)


def _has_password(address: str, match: re.Match[str] | None) -> bool:
    if match is None:
        # user:password@host without a scheme; such a path exists nowhere
        return _BARE_PASSWORD.match(address) is not None
    rest = address[match.end() :]
    # Browsers end the authority at a backslash, the standard does not: a secret may stand in either.
    if "@" in re.split(r"[/?#]", rest)[0]:
        return True
    authority = re.split(r"[/\\?#]", rest)[0]
    if "%40" in authority:
        return True
    host, colon, port = authority.rpartition(":")
    # A slash within the password hides the "@" behind text that looks like a host and an invalid port.
    return bool(colon) and not host.startswith("[") and not port.isdigit() and port != "" and "@" in rest


def _has_secret_query(address: str) -> bool:
    query = address.partition("?")[2]
    return any(
        _SECRET_NAME.search(name) or _OPAQUE.fullmatch(value)
        for name, value in parse_qsl(query.replace("#", "&"), keep_blank_values=True)
    )
