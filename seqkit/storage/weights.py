"""The state of modules and optimizers as flat, named tensors, and its strict restoration.

A weight that is tied under several names is one tensor under its first name, and names do not contain the prefixes of
`torch.compile` and data parallelism: plain, compiled and distributed models write the same file.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from seqkit.errors import ModelError
from seqkit.parallel.parameters import named_tensors
from seqkit.parallel.shards import shard_like

__all__ = ["check_shapes", "load_strictly", "optimizer_tensors", "restore_optimizer"]

# Options of how an update is computed, which depend on the machine and are not restored from a checkpoint.
EXECUTION = frozenset({"capturable", "foreach", "fused"})
SHOWN = 5  # differences in one message
LONGEST = 200  # characters of a difference: names come from the file


def load_strictly(module: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Copy tensors into a module whose `named_tensors` have exactly these names, shapes and types, all of them finite.

    Raises ModelError, listing up to five differences, and then leaves the module as it was.
    """
    expected = named_tensors(module)
    _compare(expected, tensors)
    problems = [
        f"{name} holds {_type(tensors[name])} instead of {_type(tensor)}"
        if tensors[name].dtype != tensor.dtype
        else f"{name} has numbers that are not finite"
        for name, tensor in expected.items()
        if tensors[name].dtype != tensor.dtype or not tensors[name].isfinite().all()
    ]
    if problems:
        raise ModelError(f"the weights cannot be used: {_some(problems)}", "put a good copy of the weights back")
    with torch.no_grad():
        for name, tensor in expected.items():
            tensor.copy_(shard_like(tensors[name], tensor))


def check_shapes(module: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Check the names and shapes that `load_strictly` needs; the module may be on the meta device.

    Raises ModelError, listing up to five differences.
    """
    # On the meta device `named_tensors`, which compares memory, cannot recognise tied weights.
    buffers = ((name, buffer) for name, buffer in module.named_buffers() if name in module.state_dict())
    _compare({**dict(module.named_parameters()), **dict(buffers)}, tensors)


def _compare(expected: Mapping[str, Tensor], tensors: Mapping[str, Tensor]) -> None:
    problems = [f"{name} is missing" for name in expected if name not in tensors]
    problems += [f"{name} is unknown" for name in tensors if name not in expected]
    problems += [
        f"{name} has shape {_shape(tensors[name])} instead of {_shape(tensor)}"
        for name, tensor in expected.items()
        if name in tensors and tensors[name].shape != tensor.shape
    ]
    if problems:
        raise ModelError(f"the weights do not fit the model: {_some(problems)}", "the recipe describes another model")


def _shape(tensor: Tensor) -> str:
    return f"({', '.join(map(str, tensor.shape))})"


def _type(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def _some(problems: list[str]) -> str:
    more = f" and {len(problems) - SHOWN} more" if len(problems) > SHOWN else ""
    return "; ".join(" ".join(problem.split())[:LONGEST] for problem in problems[:SHOWN]) + more


def optimizer_tensors(
    optimizer: torch.optim.Optimizer, names: Mapping[nn.Parameter, str]
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The state of an optimizer: tensors named `parameter/key`, and the rest of it as facts for JSON.

    `names`: parameter -> name, for all parameters of the optimizer; its learning rates are plain numbers. Tensors share
    the optimizer's memory. The tensors of several optimizers over different parameters can be kept in one file.
    """
    tensors: dict[str, Tensor] = {}
    values: dict[str, dict[str, object]] = {}
    for parameter in (parameter for group in optimizer.param_groups for parameter in group["params"]):
        name = names[parameter]
        for key, value in optimizer.state.get(parameter, {}).items():
            if isinstance(value, Tensor):
                tensors[f"{name}/{key}"] = value
            else:
                values.setdefault(name, {})[key] = value
    groups = [
        {
            "parameters": [names[parameter] for parameter in group["params"]],
            "options": {key: value for key, value in group.items() if key not in {"params", *EXECUTION}},
        }
        for group in optimizer.param_groups
    ]
    kind = type(optimizer).__name__
    return tensors, {"kind": kind, "groups": groups, "tensors": sorted(tensors), "values": values}


def restore_optimizer(
    optimizer: torch.optim.Optimizer,
    names: Mapping[nn.Parameter, str],
    *,
    tensors: Mapping[str, Tensor],
    facts: Mapping[str, Any],
) -> None:
    """Give an optimizer over the same parameters in the same groups the state that `optimizer_tensors` described.

    Options of the groups are restored too, except `fused` and the like. Tensors that the facts do not name belong to
    other optimizers and are ignored. Raises ModelError, and then leaves the optimizer as it was, if kind or parameters
    differ.
    """
    kind = type(optimizer).__name__
    if facts["kind"] != kind:
        raise ModelError(f"the saved optimizer state is {facts['kind']}'s, not {kind}'s", "keep train.optimizer")
    groups_of_names = [[names[parameter] for parameter in group["params"]] for group in optimizer.param_groups]
    if [group["parameters"] for group in facts["groups"]] != groups_of_names:
        raise ModelError("the saved optimizer state belongs to other parameters", "the recipe describes another model")
    missing = [f"{name} is missing" for name in facts["tensors"] if name not in tensors]
    if missing:
        raise ModelError(f"the saved optimizer state is not complete: {_some(missing)}")
    positions = {name: position for position, name in enumerate(name for group in groups_of_names for name in group)}
    parameters = {name: parameter for parameter, name in names.items()}
    state: dict[int, dict[str, object]] = {positions[name]: dict(values) for name, values in facts["values"].items()}
    for label in facts["tensors"]:
        name, _, key = label.rpartition("/")
        value, parameter = tensors[label].clone(), parameters[name]  # the tensor may be mapped from a file
        value = shard_like(value, parameter) if value.shape == parameter.shape else value
        state.setdefault(positions[name], {})[key] = value
    current = optimizer.state_dict()["param_groups"]
    groups = [
        group | {key: _like(value, group[key]) for key, value in saved["options"].items() if key in group}
        for group, saved in zip(current, facts["groups"], strict=True)
    ]
    optimizer.load_state_dict({"state": state, "param_groups": groups})


def _like(value: object, current: object) -> object:
    """A saved value as a tuple where the current one is a tuple: JSON has none."""
    return tuple(value) if isinstance(current, tuple) and isinstance(value, list) else value
