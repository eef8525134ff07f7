"""Logging in to the API server: the only importer of the official client.

The client handles kubeconfigs, credential plugins and certificates. Importing it takes over a second, so it is imported
on first use.
"""

from __future__ import annotations

import functools
import logging
import os
import re
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from k8s.kubeconfig import (
    context_names,
    contradicts_itself,
    credential_plugin,
    current_context,
    install_hint,
    old_provider,
    proxy_url,
    token_file,
)
from k8s.proxy import proxy_for, proxy_headers
from tsp.config.address import masked
from tsp.errors import ClusterError

_FOREIGN = (TypeError, KeyError, AttributeError, ValueError, IndexError)
"""What the official client raises of a kubeconfig of another form."""
logger = logging.getLogger(__name__)

_PATIENCE_SEC = 10.0
_RENEWED_EVERY_SEC = 60.0
_NOT_CAPTURED = re.compile(r"^'NoneType' object has no attribute 'strip'$")
"""What the official client makes of a plugin that fails on a terminal, where its errors are shown, not captured."""
_SERVICE_ACCOUNT_NAMESPACE = "/var/run/secrets/kubernetes.io/serviceaccount/namespace"


class Login:
    """The official client, logged in when it is first needed, and again when the server no longer accepts that.

    Tokens and certificates of plugins need not say when they expire, and ``login`` commands rewrite kubeconfigs.
    Threads may share it.
    """

    def __init__(self, make: Callable[[], Any]) -> None:
        """Args: make, logs in."""
        self._make, self._lock = make, threading.Lock()
        self._api: Any = None
        self._made_at = 0.0

    @property
    def api(self) -> Any:
        """An ``ApiClient``. Raises: as ``log_in``."""
        with self._lock:
            return self._api or self._logged_in()

    def _logged_in(self) -> Any:
        self._api, self._made_at = self._make(), time.monotonic()
        return self._api

    def renew(self, refused: Any) -> bool:
        """Log in again, unless it was done just now: a plugin may open a browser. Returns: whether to ask once more.

        Args: refused, the client that the server did not accept. Raises: as ``log_in``.
        """
        with self._lock:
            if self._api is refused:
                if time.monotonic() - self._made_at < _RENEWED_EVERY_SEC:
                    return False
                self._logged_in()
            return True


def log_in(files: Sequence[str], context: str | None) -> Any:
    """An ``ApiClient`` as the kubeconfig says, else as this pod's service account.

    Raises: ClusterError if there is neither, or it cannot be used.
    """
    config = official().config
    context = context or current_context(files)
    settings = official().client.Configuration()
    advice = "set KUBECONFIG, give --kubeconfig or --context, or run here with --backend local"
    if not (files or context or os.environ.get("KUBERNETES_SERVICE_HOST")):
        raise ClusterError(f"no cluster to talk to: there is no kubeconfig file, and this is not a pod; {advice}")
    _refuse_unusable(files, context)
    try:
        if files or context:
            with _words_of_plugins() as words, _announced(credential_plugin(files, context)):
                config.load_kube_config(os.pathsep.join(files), context, client_configuration=settings)
            _require_credentials(files, context, settings, words)
            if path := token_file(files, context):
                settings.refresh_api_key_hook = functools.partial(_read_token, path)
        else:
            config.load_incluster_config(client_configuration=settings)
    except (config.ConfigException, OSError) as error:
        raise ClusterError(f"no cluster to talk to: {str(error).rstrip('.;')}; {advice}") from error
    except _FOREIGN as error:
        raise _not_understood(files, error) from error
    own_proxy = proxy_url(files, context)
    proxy = proxy_for(settings.host, os.environ, given=own_proxy)
    # The proxy resolves names, as with kubectl.
    settings.proxy = re.sub("^socks5:", "socks5h:", proxy) if proxy else None
    settings.no_proxy = None
    settings.proxy_headers = proxy_headers(proxy)
    import urllib3

    if not settings.verify_ssl:
        # The kubeconfig requests it; a warning with every request would add nothing.
        urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)
    try:
        return official().client.ApiClient(settings)
    except (urllib3.exceptions.HTTPError, ValueError) as error:
        where = "proxy-url of the kubeconfig" if own_proxy else "HTTPS_PROXY or HTTP_PROXY"
        raise ClusterError(
            f"the proxy in {where} cannot be used ({masked(str(error))}): give it as http://, https:// or "
            f"socks5://host:port"
        ) from error


def _not_understood(files: Sequence[str], error: Exception) -> ClusterError:
    return ClusterError(
        f"no cluster to talk to: {', '.join(files)} is not a valid kubeconfig ({type(error).__name__}): check it "
        "with 'kubectl config view'"
    )


def _refuse_unusable(files: Sequence[str], context: str | None) -> None:
    """Refuse a context that is not there, and one that kubectl and Helm no longer accept.

    Raises: ClusterError.
    """
    names = context_names(files)
    if files and str(context) not in names:
        what = f"has no context {context!r}" if context else "names no current context"
        there = f"it has {', '.join(names)}: give one with --context" if names else "check KUBECONFIG and --kubeconfig"
        raise ClusterError(f"no cluster to talk to: {', '.join(files)} {what}; {there}")
    provider = old_provider(files, context)
    if provider is not None:
        raise ClusterError(
            f"the kubeconfig's user has the credential provider {provider}, which kubectl and Helm have removed: have "
            "your cluster's tool write the kubeconfig again"
        )
    if contradicts_itself(files, context):
        raise ClusterError(
            "the kubeconfig's cluster has both certificate-authority and insecure-skip-tls-verify, which kubectl and "
            "Helm refuse: remove insecure-skip-tls-verify"
        )


def _read_token(path: Path, settings: Any) -> None:
    """Called before each request, since such files are replaced when their token expires."""
    with suppress(OSError):
        settings.api_key["BearerToken"] = f"Bearer {path.read_text().strip()}"


def _require_credentials(files: Sequence[str], context: str | None, settings: Any, words: list[str]) -> None:
    """The official client continues anonymously if a credential plugin has failed.

    Raises: ClusterError with what the plugin said.
    """
    plugin = credential_plugin(files, context)
    if plugin is not None and not settings.api_key and not settings.cert_file:
        said = "; ".join(" ".join(text.split()) for text in words) or "it returned neither a token nor a certificate"
        said += f"; {hint}" if (hint := install_hint(files, context)) else ""
        raise ClusterError(f"the credential plugin {plugin} of the kubeconfig failed: {said}")


def official() -> Any:
    """The official client, imported on first use."""
    import kubernetes.client
    import kubernetes.config
    import kubernetes.stream

    return kubernetes


@contextmanager
def _words_of_plugins() -> Iterator[list[str]]:
    """The messages of the official client about failing credential plugins; it does not raise errors."""
    words: list[str] = []
    root = logging.getLogger()
    kept = root.handlers[:]

    class Listener(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if record.name == __name__:
                for handler in kept:
                    handler.handle(record)
            elif record.levelno >= logging.ERROR:
                words.append(_NOT_CAPTURED.sub("see its message above", record.getMessage()))

    listener = Listener()
    root.handlers[:] = [listener]
    try:
        yield words
    finally:
        root.handlers[:] = kept


@contextmanager
def _announced(plugin: str | None) -> Iterator[None]:
    """Say what is waited for if a credential plugin takes long: it may wait for somebody to log in, for ever."""
    said = "waiting for the credential plugin %s of the kubeconfig: if it hangs, run it by hand to see what it asks"
    timer = threading.Timer(_PATIENCE_SEC, logger.warning, (said, plugin))
    timer.daemon = True
    if plugin is not None:
        timer.start()
    try:
        yield
    finally:
        timer.cancel()


def own_namespace() -> str | None:
    """The namespace of the pod that this runs in; None outside a cluster."""
    try:
        with open(_SERVICE_ACCOUNT_NAMESPACE) as file:
            return file.read().strip() or None
    except OSError:
        return None
