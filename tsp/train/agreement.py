"""The ranks agree before training on batch, learning rates and number format, from all their GPUs."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence

from tsp.config.cards import Card, explain_precision
from tsp.config.run import RunConfig, to_json
from tsp.config.sizing import EffectiveSizes, downscale_for, effective_sizes
from tsp.errors import ConfigError, GpuMemoryError
from tsp.model.device import card_of
from tsp.train.distributed import Group
from tsp.train.precision import Numerics, choose_numerics
from tsp.wording import counted

logger = logging.getLogger(__name__)


def agree(config: RunConfig, group: Group) -> tuple[EffectiveSizes, Numerics]:
    """What all ranks train with: batch and learning rates follow the smallest card, the number format the weakest.

    Raises: ConfigError if ranks were started with different configurations, if only some have a GPU, or for a format
        that a card lacks; GpuMemoryError.
    """
    digest = hashlib.sha256(to_json(config).encode()).hexdigest()
    found = group.gather((card_of(group.device), digest))
    if len({other for _, other in found}) > 1:
        raise ConfigError("the ranks were started with different configurations: delete the run and submit it again")
    on_cpu = [rank for rank, (card, _) in enumerate(found) if card is None]
    if 0 < len(on_cpu) < len(found):
        raise ConfigError(f"ranks {on_cpu} found no GPU, but the others did: check the driver and limits of their pods")
    cards = [card for card, _ in found if card is not None]
    numerics = choose_numerics(group.device, config.model, cards)
    if group.is_main and cards:
        logger.info("%s", explain_precision(config.model.precision, cards))
    return _agree_on_sizes(config, group, cards), numerics


def _agree_on_sizes(config: RunConfig, group: Group, cards: Sequence[Card]) -> EffectiveSizes:
    smallest_mib = min((card.memory_mib for card in cards), default=None)
    wanted = 1 if smallest_mib is None else _downscale_or_none(smallest_mib)
    if config.downscale == "auto":
        downscale = downscale_for(smallest_mib) if smallest_mib is not None else 1
    else:
        downscale = int(config.downscale)
        if wanted is None or wanted > downscale:
            logger.warning("the smallest GPU has %s MiB, which is little for --downscale %d", smallest_mib, downscale)
    if group.world_size != config.gpus:
        logger.warning(
            "%s started, but --gpus is %d: learning rates follow the ranks",
            counted(group.world_size, "rank"),
            config.gpus,
        )
    sizes = effective_sizes(config, downscale=downscale, world_size=group.world_size)
    where = "the CPU" if smallest_mib is None else f"GPUs of at least {smallest_mib} MiB"
    if group.is_main:
        logger.info("%s on %s, downscale factor %d: %s", counted(group.world_size, "rank"), where, downscale, sizes)
    return sizes


def _downscale_or_none(memory_mib: int) -> int | None:
    try:
        return downscale_for(memory_mib)
    except GpuMemoryError:
        return None
