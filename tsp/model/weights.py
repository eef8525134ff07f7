"""Weights from files: published encoders, and checkpoints of ours or of the original system.

A file is never unpickled without restrictions: only tensors, plain containers and the few harmless classes in
checkpoints of the original system are allowed.
"""

from __future__ import annotations

import argparse
import pickle
from collections import Counter
from collections.abc import Mapping
from pathlib import Path, PosixPath
from typing import Any

import torch
from torch import Tensor, nn

from tsp.errors import ConfigError
from tsp.model.backbone import BACKBONES, build_backbone
from tsp.wording import first_few

SAFE_CLASSES = (argparse.Namespace, Counter, PosixPath)
"""Classes besides tensors and plain containers that a checkpoint may hold."""

NAMES_SHOWN = 3


def read_file(path: Path) -> dict[str, Any]:
    """The mapping in a ``.pth`` file, with its tensors on the CPU.

    Raises: ConfigError if the file is unreadable, truncated, not a mapping, or would run code when loaded.
    """
    try:
        with torch.serialization.safe_globals(list(SAFE_CLASSES)):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise ConfigError(f"there is no file {path}") from error
    except pickle.UnpicklingError as error:
        raise ConfigError(
            f"{path} was refused: it is not a checkpoint, or it contains Python objects beyond tensors and plain "
            f"values, which could run code ({_first_line(error)})"
        ) from error
    except MemoryError:
        raise
    except Exception as error:  # torch and pickle raise nearly every kind of a damaged file
        raise ConfigError(
            f"{path} cannot be read as a checkpoint ({_first_line(error)}): it may be truncated; fetch it again"
        ) from error
    if not isinstance(content, dict):
        raise ConfigError(f"{path} contains a {type(content).__name__}, not a state dict or a checkpoint")
    return content


def load_pretrained(model: nn.Module, path: Path) -> None:
    """Set the encoder's weights (``model.features``) from a file; the heads stay as they are.

    Raises: ConfigError as ``read_file`` and ``load_encoder``.
    """
    load_encoder(model, read_file(path), where=str(path))


def load_encoder(model: nn.Module, content: Mapping[str, Any], *, where: str) -> None:
    """Set the encoder's weights (``model.features``) from what a file contains; the heads stay as they are.

    Takes torchvision's and IG65M's form (bare names, with ``fc.``) and checkpoints of TSP and TAC (``features.``).
    Raises: ConfigError naming the file and the names that are missing, unexpected or of another shape.
    """
    weights = encoder_weights(content)
    features = model.get_submodule("features")
    own = features.state_dict()
    # Files older than the batch counters lack them; nothing here reads them.
    missing = [name for name in own if name not in weights and not name.endswith("num_batches_tracked")]
    unexpected = [name for name in weights if name not in own]
    if missing or unexpected:
        raise ConfigError(
            f"{where} does not fit the backbone: {_some(missing)} missing, {_some(unexpected)} unexpected; "
            f"choose the --backbone it was made with"
        )
    misshapen = [name for name, value in weights.items() if value.shape != own[name].shape]
    if misshapen:
        name = misshapen[0]
        raise ConfigError(
            f"{where} does not fit the backbone: {name} has shape {list(weights[name].shape)}, not "
            f"{list(own[name].shape)}; choose the --backbone it was made with"
        )
    features.load_state_dict(weights, strict=False)


def encoder_weights(content: Mapping[str, Any]) -> dict[str, Tensor]:
    """Bare-named encoder tensors out of a state dict or checkpoint, heads left out."""
    for wrapper in ("model", "state_dict"):
        if isinstance(content.get(wrapper), Mapping):
            content = content[wrapper]
    weights = {name.removeprefix("module."): value for name, value in content.items() if isinstance(value, Tensor)}
    if any(name.startswith("features.") for name in weights):
        weights = {name: value for name, value in weights.items() if name.startswith("features.")}
    weights = {name.removeprefix("features."): value for name, value in weights.items()}
    return {name: value for name, value in weights.items() if name.split(".")[0] not in ("fc", "fc1", "fc2")}


def training_args(content: Mapping[str, Any]) -> dict[str, Any]:
    """The options that a checkpoint was trained with, of ours or of the original code; empty if it has none."""
    return vars(content["args"]) if hasattr(content.get("args"), "__dict__") else {}


def recognise(content: Mapping[str, Any], *, where: str) -> str:
    """The backbone whose parameters have the names and shapes of a state dict or checkpoint.

    Raises: ConfigError naming ``where`` if there is none.
    """
    shapes = _shapes(encoder_weights(content))
    for name in reversed(BACKBONES):  # the tiny one first, which needs no torchvision
        with torch.device("meta"):
            if shapes == _shapes(build_backbone(name).state_dict()):
                return name
    raise ConfigError(
        f"{where} does not contain the weights of any of the backbones {', '.join(BACKBONES)}: is it a checkpoint "
        "of TSP or TAC? give --backbone to see which weights do not fit"
    )


def _shapes(weights: Mapping[str, Tensor]) -> dict[str, torch.Size]:
    """Without the batch counters, which older files lack and nothing here reads."""
    return {name: value.shape for name, value in weights.items() if not name.endswith("num_batches_tracked")}


def load_model_state(model: nn.Module, state: Mapping[str, Tensor], *, where: str) -> None:
    """Set all weights, heads included, from the ``model`` part of a checkpoint.

    Raises: ConfigError naming ``where`` and what does not fit.
    """
    try:
        model.load_state_dict(dict(state))
    except RuntimeError as error:
        detail = str(error).splitlines()
        raise ConfigError(
            f"{where} was made by another model ({(detail[1:] or detail)[0].strip()[:300]}): give the same "
            "--backbone, --heads and --gvf, or use only its encoder with --pretrained"
        ) from error


def _some(names: list[str]) -> str:
    return f"{len(names)} names ({first_few(names, NAMES_SHOWN)})" if names else "0 names"


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]
