"""Whether everything that computes a feature comes from the files that an upstream's identity names.

s3prl and transformers fill what a checkpoint lacks with random numbers or constants and go on, some with a line among
many, some with none. So an upstream is built twice, under two random states, and what differs comes from no file:

- While it is built, what a checkpoint lacks is filled with random numbers even where its initial value is a constant
  (as a layer norm's is), so that it differs, too.
- Parameters and buffers are compared by value. Names alone mislead: versions of transformers report a positional
  convolution as missing that they have loaded under its other name (``weight_g`` and ``parametrizations``).
- What differs is excused where no feature of half a second of noise changes by it (``masked_spec_embed``, which is
  used in pre-training alone).

Weights that the file holds and the model has no place for, inside a part that the model has, are another model's
(a configuration with fewer layers than its weights), and are refused as well. Heads beside it are passed over.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import random
import re
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from torch import nn

from s3prl_metaperser.errors import UserError, listed, shown
from s3prl_metaperser.s3prl_stack.hub_index import RATE
from s3prl_metaperser.s3prl_stack.replaced import replaced

#: Of the two random states.
SEEDS = (1, 2)
#: Features that differ by more than this part of their largest value are not the same: an upstream that draws.
SAME = 1e-4
_HALF = (torch.float16, torch.bfloat16)
#: How torch's two forms of weight norm name the same tensor.
_WEIGHT_NORM = {"parametrizations.weight.original0": "weight_g", "parametrizations.weight.original1": "weight_v"}
_lock = threading.RLock()  # what is patched meanwhile is the whole process's


@dataclass
class _Loading:
    """What was seen while one upstream was built.

    Attributes:
        loaded: the tensors that a state dict filled, by id; kept, so that no id serves twice.
        missing: names that transformers could not fill, and has filled itself.
        unexpected: names in the file that a part of the model has no place for.
        prefix: what stands before the model's own names in the file, e.g. ``module.``.
        half: whether a tensor of the file is in half precision.
        rates: sampling rates that the checkpoint's configuration names.
    """

    loaded: dict[int, torch.Tensor] = field(default_factory=dict)
    missing: set[str] = field(default_factory=set)
    unexpected: set[str] = field(default_factory=set)
    prefix: str = ""
    half: bool = False
    rates: set[Any] = field(default_factory=set)


@dataclass(frozen=True)
class _Snapshot:
    """A built upstream by value: hashes of its tensors, and its features of some noise, None if it fails on it."""

    tensors: dict[str, bytes]
    features: list[torch.Tensor] | None


def whole(make: Callable[[], nn.Module], name: str, file: str) -> nn.Module:
    """An upstream of which everything that computes a feature comes from its files, in float32.

    The random states of torch, NumPy and Python are as before.

    Args:
        make: builds it; called twice.
        name: after ``-u``, for messages.
        file: where its weights are, for messages; empty where it has no file.

    Raises:
        UserError: weights are missing, left over or not finite, of another sampling rate, or its features are random.
    """
    with _lock:
        one, _, _ = _made(make, SEEDS[0], name, file)
        other, loading, upstream = _made(make, SEEDS[1], name, file)
    _check_names(loading, upstream, name, file)
    if broken := [key for key, value in upstream.named_parameters() if not value.detach().sum().isfinite()]:
        raise UserError(f"-u {name}: {file} holds NaN or infinity in {listed(broken)}. Copy or download it again.")
    differing = sorted(key for key, value in one.tensors.items() if other.tensors.get(key) != value)
    if differing and not _equal(one.features, other.features):
        raise _not_whole(name, file, differing, loading)
    if not _alike(one.features, other.features):
        raise UserError(
            f"-u {name}: its features differ from one call to the next, for the same audio, although its weights do "
            "not: it draws random numbers (dither?). Switch that off in its configuration."
        )
    if loading.half or _stored_in_half(Path(file)):
        print(f"[MetaPerSER] {file}: weights in half precision, computed in float32", file=sys.stderr)
    return upstream


def _made(make: Callable[[], nn.Module], seed: int, name: str, file: str) -> tuple[_Snapshot, _Loading, nn.Module]:
    with _random_states(seed):
        with _watched() as loading:
            try:
                upstream = make()
            except RuntimeError as error:
                if loading.prefix:
                    raise _not_whole(name, file, [], loading) from error
                raise
        if other := sorted(rate for rate in loading.rates if rate != RATE):
            raise UserError(
                f"-u {name}: {file} was trained on audio at {other[0]} Hz; upstreams get {RATE} Hz here, and would "
                f"hear it at another pitch. Choose one for {RATE} Hz."
            )
        return _Snapshot(_hashes(upstream), _features(upstream)), loading, upstream


def _check_names(loading: _Loading, upstream: nn.Module, name: str, file: str) -> None:
    """What the loaders themselves say is missing or left over, after both names of weight norm are made one."""
    missing, unexpected = _renamed(loading.missing), _renamed(loading.unexpected)
    unused = {"masked_spec_embed"} & missing
    if absent := sorted(missing - unexpected - unused):
        raise _not_whole(name, file, absent, loading)
    if extra := sorted(unexpected - missing):
        raise UserError(
            f"-u {name}: {file} holds weights ({len(extra)}) that the model has no place for: {listed(extra)}. Its "
            "configuration is not that of its weights. Save both together again (save_pretrained), or copy the folder "
            "again."
        )


def _not_whole(name: str, file: str, missing: list[str], loading: _Loading) -> UserError:
    """The error for weights that are in no file."""
    counted = f"{len(missing)} parameter{'s' * (len(missing) > 1)} of the model {'are' if len(missing) > 1 else 'is'}"
    what = counted if missing else "the model's parameters are"
    names = f": {listed(missing)}" if missing else ""
    if not file:
        return UserError(
            f"-u {name}: {what} random: no file holds them{names}. Its features could not be made twice. "
            "Choose an upstream with stored weights, or write them to a file that it reads (-k)."
        )
    why = "The file is of another model, or its configuration is not that of its weights."
    if loading.prefix:
        why = (
            f"The names in the file begin with {shown(loading.prefix)}, as another trainer writes them: save the model "
            "that stands inside, without that prefix."
        )
    return UserError(f"-u {name}: {what} not in {file} and would be random{names}. {why}")


def _renamed(names: Iterable[str]) -> set[str]:
    found = set()
    for name in names:
        for new, old in _WEIGHT_NORM.items():
            name = name.removesuffix(new) + old if name.endswith(new) else name
        found.add(name)
    return found


# ------------------------------------------------------------------ by value


def _hashes(upstream: nn.Module) -> dict[str, bytes]:
    named = [*upstream.named_parameters(), *upstream.named_buffers()]
    return {key: hashlib.sha256(_bytes(value)).digest() for key, value in named}


def _bytes(value: torch.Tensor) -> Any:
    return value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()


def _features(upstream: nn.Module) -> list[torch.Tensor] | None:
    """Hidden states of half a second of noise, in evaluation mode; None if the upstream fails on it."""
    noise = 0.1 * torch.randn(RATE // 2, generator=torch.Generator().manual_seed(0))
    modes = {module: module.training for module in upstream.modules()}
    upstream.eval()
    try:
        with torch.no_grad():
            found = upstream([noise])["hidden_states"]
        return [value.detach().cpu() for value in found]
    except Exception:  # whatever is wrong will show with real audio, where the file is named
        return None
    finally:
        for module, training in modes.items():
            module.training = training


def _equal(one: list[torch.Tensor] | None, other: list[torch.Tensor] | None) -> bool:
    if one is None or other is None:
        return False
    return len(one) == len(other) and all(map(torch.equal, one, other))


def _alike(one: list[torch.Tensor] | None, other: list[torch.Tensor] | None) -> bool:
    if one is None or other is None:
        return True
    return all(
        a.shape == b.shape and bool((a - b).abs().max() <= SAME * a.abs().max())
        for a, b in zip(one, other, strict=True)
    )


def _stored_in_half(folder: Path) -> bool:
    """Whether safetensors in a folder hold half precision, by their headers."""
    for path in folder.glob("*.safetensors") if folder.is_dir() else ():
        with safe_open(path, framework="pt") as file:
            if any(file.get_slice(name).get_dtype() in ("F16", "BF16") for name in file.keys()):  # noqa: SIM118
                return True
    return False


@contextlib.contextmanager
def _random_states(seed: int) -> Iterator[None]:
    """A random state of its own for torch, NumPy and Python."""
    before, python = np.random.get_state(), random.getstate()
    with torch.random.fork_rng(devices=[]):
        torch.set_rng_state(torch.Generator().manual_seed(seed).get_state())
        np.random.set_state(np.random.RandomState(seed).get_state())
        random.setstate(random.Random(seed).getstate())
        try:
            yield
        finally:
            np.random.set_state(before)
            random.setstate(python)


# ------------------------------------------------------------------ what loaders do


@contextlib.contextmanager
def _watched() -> Iterator[_Loading]:
    """Watch everything that loads weights: torch's modules, transformers' ``from_pretrained``, ``torch.load``."""
    seen = _Loading()
    fill, read = nn.Module._load_from_state_dict, torch.load
    generator = torch.Generator().manual_seed(torch.initial_seed())

    @functools.wraps(fill)
    def filled(module: nn.Module, state: dict[str, Any], prefix: str, *rest: Any, **more: Any) -> None:
        if not prefix:
            expected = module.state_dict(keep_vars=True)
            _take_new_names(expected, state)
            _note_prefix(seen, expected, state)
        fill(module, state, prefix, *rest, **more)
        own = {**module._parameters, **module._buffers}
        for name in own.keys() - module._non_persistent_buffers_set:
            _note_tensor(seen, own[name], state.get(prefix + name), generator)
        if isinstance(module, nn.ModuleList | nn.Sequential):
            inside = {key for key in state if key.startswith(prefix)}
            first = {key: key[len(prefix) :].partition(".")[0] for key in inside}
            seen.unexpected |= {key for key, part in first.items() if part.isdigit() and part not in module._modules}

    @functools.wraps(read)
    def loaded(*args: Any, **more: Any) -> Any:
        content = read(*args, **more)
        seen.rates |= set(_rates(content))
        seen.half |= isinstance(content, dict) and any(
            getattr(value, "dtype", 0) in _HALF for value in content.values()
        )
        return content

    ours = (replaced(nn.Module, "_load_from_state_dict", filled), replaced(torch, "load", loaded))
    with ours[0], ours[1], _pretrained_watched(seen):
        yield seen


def _take_new_names(expected: Mapping[str, Any], state: Any) -> None:
    """Weight norm's new names in a file, for a model that has the old ones; torch itself takes only the reverse."""
    for name in [name for name in state if name not in expected]:
        if (old := _renamed([name]).pop()) in expected and old not in state:
            state[old] = state.pop(name)


def _note_tensor(seen: _Loading, own: torch.Tensor | None, stored: Any, generator: torch.Generator) -> None:
    if own is None or not own.is_floating_point():
        return
    if isinstance(stored, torch.Tensor):
        seen.loaded[id(own)] = own
        seen.half |= stored.dtype in _HALF
    elif id(own) not in seen.loaded and own.device.type == "cpu":
        with torch.no_grad():
            own.normal_(generator=generator)


def _note_prefix(seen: _Loading, expected: Iterable[str], found: Iterable[str]) -> None:
    """What stands in the file before the model's own names."""
    names = set(found)
    for name in sorted(set(expected) - names):
        before = {other.removesuffix(name) for other in names if other.endswith(f".{name}")}
        if len(before) == 1:
            seen.prefix = before.pop()
            return


def _rates(content: Any, depth: int = 0) -> Iterator[Any]:
    """Sampling rates in the configuration of a checkpoint."""
    if not isinstance(content, dict) or depth > 3:
        return
    for key, value in content.items():
        if key in ("sample_rate", "sampling_rate") and isinstance(value, int | float) and value > 0:
            yield value
        yield from _rates(value, depth + 1)


@contextlib.contextmanager
def _pretrained_watched(seen: _Loading) -> Iterator[None]:
    """Have transformers' ``from_pretrained`` say what it could not fill; nothing where transformers is not imported."""
    modeling = sys.modules.get("transformers.modeling_utils")
    if modeling is None:
        yield
        return
    model = modeling.PreTrainedModel
    plain = model.__dict__["from_pretrained"]

    def from_pretrained(cls: Any, *args: Any, **more: Any) -> Any:
        # in float32 whatever the configuration says, which versions of transformers read differently
        more |= {"output_loading_info": True, "torch_dtype": torch.float32}
        made, found = plain.__func__(cls, *args, **more)
        seen.missing |= {re.sub(f"^{made.base_model_prefix}\\.", "", key) for key in found["missing_keys"]}
        parts = dict(made.named_children())
        for key in map(str, found["unexpected_keys"]):
            bare = key.removeprefix(f"{made.base_model_prefix}.")
            if bare.partition(".")[0] in parts:
                seen.unexpected.add(bare)
        _note_prefix(seen, seen.missing, map(str, found["unexpected_keys"]))
        return made

    with replaced(model, "from_pretrained", classmethod(from_pretrained)):
        yield
