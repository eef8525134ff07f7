"""Local paths in a configuration, made absolute: ranks run in folders of their own."""

from __future__ import annotations

from cli.options.store import absolute_unless_uri
from tsp.config.codec import from_dict, set_dotted, to_dict
from tsp.config.run import RunConfig, local_paths


def with_absolute_paths(config: RunConfig) -> RunConfig:
    """The configuration, independent of the current folder; URIs are unchanged."""
    tree = to_dict(config)
    for key, path in local_paths(config).items():
        set_dotted(tree, key, absolute_unless_uri(path))
    return from_dict(RunConfig, tree)
