"""The nodes that a run is limited to, and the downscale factor that follows from their GPU memory. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from k8s.nodes import GpuNode, explain_cards, nodes_with
from tsp.config.run import DOWNSCALES, Precision
from tsp.config.sizing import DOWNSCALE_MIN_MIB, downscale_for
from tsp.errors import ConfigError

_SHOWN_NODES = 4


@dataclass(frozen=True, kw_only=True, slots=True)
class NodePlan:
    """What follows from the nodes."""

    downscale: int | None
    """None: the pods decide from the GPUs they find."""
    memory_values: tuple[str, ...] = ()
    """Values of the memory label on nodes that ranks may use; empty: any node."""
    compute_majors: tuple[str, ...] = ()
    """Major compute capabilities that ranks may use, if a number format requires some; empty: any."""
    nodes: tuple[GpuNode, ...] = ()
    """The nodes that ranks may use, if known."""
    gpus: int | None = None
    """Allocatable GPUs on the nodes that ranks may use; None: the nodes cannot be listed, or no GPU is requested."""
    ranks: int = 0
    """Ranks of the run that fit on those nodes when they are empty."""
    explanation: tuple[str, ...] = ()


def plan_nodes(nodes: Sequence[GpuNode], *, gpus: int, downscale: str, precision: Precision = "auto") -> NodePlan:
    """The factor, the nodes that match it and the number format, and the explanation.

    Args and errors: as plan_sizes; precision, as asked for.
    """
    able = nodes_with(precision, nodes)
    plan = plan_sizes(able, gpus=gpus, downscale=downscale)
    lines = explain_cards(precision, plan.nodes)
    majors: tuple[str, ...] = ()
    if len(able) < len(nodes):
        lines = (*lines, f"for {precision}, ranks avoid {_shown([node for node in nodes if node not in able])}")
        majors = tuple(sorted({str(node.card.compute[0]) for node in able if node.card and node.card.compute}))
    return replace(plan, compute_majors=majors, explanation=(*plan.explanation, *lines))


def plan_sizes(nodes: Sequence[GpuNode], *, gpus: int, downscale: str) -> NodePlan:
    """The factor and the nodes that match it.

    Args: nodes, those that ranks can use; gpus, ranks; downscale, ``auto`` or a factor.
    Returns: with ``auto`` the factor of the smallest GPU that ranks can use. Nodes whose memory is unknown are left
        out, unless the others have too few GPUs: then nothing is narrowed and the pods decide.
    Raises: ConfigError if no GPU is large enough, or two ranks could meet on one time-sliced card.
    """
    shared = [node for node in nodes if node.slots > 1]
    if shared and gpus > 1:
        raise ConfigError(
            f"the GPUs of {_shown(shared)} are time-sliced, and NCCL refuses two ranks on one GPU: keep ranks off "
            "these nodes (nodeSelector or affinity of the chart), or request one GPU"
        )
    asked = None if downscale == "auto" else int(downscale)
    least_mib = _least_mib(asked)
    fitting = [node for node in nodes if node.memory_mib is not None and node.memory_mib >= least_mib]
    unknown = [node for node in nodes if node.memory_mib is None]
    if not nodes:
        line = "no node with GPUs is visible that ranks can use: the pods decide"
        return NodePlan(downscale=asked, gpus=0, explanation=(line,))
    if unknown and sum(node.gpus for node in fitting) < gpus:
        line = f"GPU memory of {_shown(unknown)} is unknown (no usable label): the pods decide"
        gpus_there, ranks = sum(node.gpus for node in nodes), sum(node.ranks for node in nodes)
        return NodePlan(downscale=asked, gpus=gpus_there, ranks=ranks, nodes=tuple(nodes), explanation=(line,))
    if not fitting:
        advice = "use other nodes, or set --downscale yourself" if asked is None else "choose a larger --downscale"
        raise ConfigError(f"no GPU that ranks can use has {least_mib} MiB: {_shown(nodes)}; {advice}")
    return _narrowed(nodes, fitting, gpus=gpus, asked=asked)


def _narrowed(nodes: Sequence[GpuNode], fitting: Sequence[GpuNode], *, gpus: int, asked: int | None) -> NodePlan:
    smallest_mib = min(node.memory_mib or 0 for node in fitting)
    factor = asked or downscale_for(smallest_mib)
    lines = [f"downscale factor {factor}: {_reason(fitting, smallest_mib, asked)}"]
    left_out = [node for node in nodes if node not in fitting]
    if left_out:
        lines.append(f"ranks avoid {_shown(left_out)}")
    if asked is None:
        lines += _better(fitting, gpus, factor)
    return NodePlan(
        downscale=factor,
        memory_values=tuple(sorted({str(node.label) for node in fitting})),
        nodes=tuple(fitting),
        gpus=sum(node.gpus for node in fitting),
        ranks=sum(node.ranks for node in fitting),
        explanation=tuple(lines),
    )


def _least_mib(asked: int | None) -> int:
    factor = asked or max(DOWNSCALES)
    return next(least for least, d in DOWNSCALE_MIN_MIB if d == factor)


def _reason(fitting: Sequence[GpuNode], smallest_mib: int, asked: int | None) -> str:
    if asked is not None:
        return f"as requested; ranks run on {_shown(fitting)}"
    deciders = [node for node in fitting if node.memory_mib == smallest_mib]
    return f"the smallest GPU that ranks can use has {smallest_mib} MiB: {_shown(deciders)}"


def _better(fitting: Sequence[GpuNode], gpus: int, factor: int) -> list[str]:
    """A hint if the larger GPUs would be enough."""
    for least_mib, smaller in DOWNSCALE_MIN_MIB:
        large = [node for node in fitting if (node.memory_mib or 0) >= least_mib]
        if smaller < factor and sum(node.gpus for node in large) >= gpus:
            return [f"with --downscale {smaller}, ranks would run only on {_shown(large)}"]
    return []


def _shown(nodes: Sequence[GpuNode]) -> str:
    """``a (4 x 16384 MiB), b (...) and 3 more nodes``."""
    texts = [
        f"{node.name} ({node.gpus} x {node.memory_mib} MiB)" if node.memory_mib else f"{node.name} ({node.gpus} GPUs)"
        for node in nodes[:_SHOWN_NODES]
    ]
    more = len(nodes) - _SHOWN_NODES
    return ", ".join(texts) + (f" and {more} more node{'s' if more > 1 else ''}" if more > 0 else "")
