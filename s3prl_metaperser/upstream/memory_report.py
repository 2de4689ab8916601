"""What ``metaperser plan UPSTREAM`` prints: the memory plan as text or plain data."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

from s3prl_metaperser.errors import UserError
from s3prl_metaperser.upstream import memory_plan
from s3prl_metaperser.upstream.memory_plan import Measured, Setting, Shape

_PARTS = {
    "model": "model",
    "optimizer": "AdamW's moments",
    "outer_gradient": "outer gradient, summed over raters",
    "kept": "kept from the inner steps",
    "working": "copies in an adjoint step",
    "activations": "activations of one micro-batch",
}

#: Options of ``tunerc`` that are on or off.
_SWITCHES = ("train_front_end", "bf16", "activation_checkpointing")


def plan_report(
    upstream: str, gigabytes: Sequence[float] | None = None, measured: Measured | None = None, **setting: Any
) -> dict[str, Any]:
    """The plan of one upstream for devices of several sizes, as plain data.

    Args:
        upstream: a hub name.
        gigabytes: sizes of devices; 16, 32 and 80 by default.
        measured: a micro-batch as it was measured (:mod:`.measured_memory`), in place of the formula.
        setting: fields of :class:`.memory_plan.Setting`.

    Returns:
        ``upstream``, ``parameters``, ``setting``, ``basis``; ``activations_per_second`` of audio in bytes, of a
        ``gradient`` and a ``hessian_vector_product``; ``plans``, one for each device: ``gigabytes``,
        ``micro_batch_seconds`` (None: it does not fit), ``micro_batches``, and the bytes of every part of
        :class:`.memory_plan.Plan`, its ``total`` and ``unrolled`` (for the largest micro-batch that fits, or
        the longest utterance alone).

    Raises:
        UserError: as :func:`.memory_plan.shape_of`; the longest utterance is shorter than the mean; or ``top`` names
            more layers than there are.
    """
    shape = measured or memory_plan.shape_of(upstream)
    known = setting_of(setting)
    if isinstance(shape, Shape) and known.top is not None and known.top > shape.blocks:
        raise UserError(f"{upstream} has {shape.blocks} layers; cannot adapt the top {known.top}.")
    how = dataclasses.asdict(known)
    plans = []
    for size in gigabytes or memory_plan.GIGABYTES:
        fitting = memory_plan.micro_batch_seconds_for(size, shape, **how)
        plan = memory_plan.estimate(shape, fitting or known.longest, **how)
        per_batch = max(int((fitting or 1) // known.seconds), 1)
        plans.append(
            {
                **{"gigabytes": size, "micro_batch_seconds": fitting},
                "micro_batches": math.ceil(known.shots / per_batch) if fitting else None,
                "bytes": {**{part: round(getattr(plan, part)) for part in _PARTS}, "total": round(plan.total)},
                "unrolled": round(plan.unrolled),
            }
        )
    del how["second_order"]  # always exact here
    return {
        "upstream": upstream,
        "shape": dataclasses.asdict(shape),
        "parameters": shape.parameters(known.train_front_end, known.top),
        "setting": how,
        "activations_per_second": {
            kind: round(shape.activations(known.seconds, known.seconds, second_order=twice, **how) / known.seconds)
            for kind, twice in (("gradient", False), ("hessian_vector_product", True))
        },
        "plans": plans,
        "basis": memory_plan.basis(shape) + ("" if measured else _of_options(how)),
    }


def setting_of(given: dict[str, Any]) -> Setting:
    """Fields that were given, and the defaults; a mean above the default longest utterance is the longest.

    Raises:
        UserError: the longest utterance that was given is shorter than the mean.
    """
    known = Setting(**given)
    if known.longest >= known.seconds:
        return known
    if "longest" in given:
        raise UserError(f"The longest utterance ({known.longest:g} s) is shorter than the mean ({known.seconds:g} s).")
    return dataclasses.replace(known, longest=known.seconds)


def _of_options(setting: dict[str, Any]) -> str:
    """Options under which no whole outer step was measured."""
    named = [name.replace("_", " ") for name in _SWITCHES if setting[name]]
    named += [f"the top {setting['top']} layers alone"] if setting["top"] is not None else []
    return f"; computed, and not measured in a whole step: {', '.join(named)}" if named else ""


def format_plan(report: dict[str, Any]) -> str:
    """The report as text, GB of 1e9 bytes."""
    setting, activations = report["setting"], report["activations_per_second"]
    extent = "as a whole" if setting["top"] is None else f"in its top {setting['top']} layers"
    lines = [
        f"{report['upstream']}, fine-tuned {extent} (-f): {report['parameters'] / 1e6:.1f} M parameters adapt",
        f"one rater's exact second-order outer step: K={setting['shots']} utterances of {setting['seconds']:g} s on "
        f"average and {setting['longest']:g} s at most, S={setting['inner_steps']} inner steps, "
        f"{'bf16' if setting['bf16'] else 'fp32'}, convolutional front-end "
        f"{'trained' if setting['train_front_end'] else 'frozen'}"
        f"{', activation checkpointing' if setting['activation_checkpointing'] else ''}",
        f"a second of audio in a micro-batch: {activations['gradient'] / 1e6:.0f} MB in a gradient, "
        f"{activations['hessian_vector_product'] / 1e6:.0f} MB in a Hessian-vector product "
        f"(utterances of {setting['seconds']:g} s)",
        "",
        f"{'GB on a device of':<38}" + "".join(f"{plan['gigabytes']:>8g}" for plan in report["plans"]),
    ]
    rows = {**_PARTS, "total": "total"}
    for part, title in rows.items():
        lines.append(f"{title:<38}" + "".join(f"{plan['bytes'][part] / 1e9:>8.1f}" for plan in report["plans"]))
    seconds = [plan["micro_batch_seconds"] for plan in report["plans"]]
    lines.append(f"{'tunerc.micro_batch_seconds':<38}" + "".join(f"{s or 'none':>8}" for s in seconds))
    batches = [plan["micro_batches"] for plan in report["plans"]]
    lines.append(f"{'micro-batches for K utterances':<38}" + "".join(f"{b or '-':>8}" for b in batches))
    lines.append("")
    lines.append(
        f"10 % and {memory_plan.CONTEXT_BYTES / 1e9:g} GB of each device are left to its runtime. The graph of all "
        f"inner steps at once would take {report['plans'][0]['unrolled'] / 1e9:.0f} GB."
    )
    if None in seconds:
        lines.append(
            "none: the longest utterance alone does not fit. Lower tunerc.longest_seconds or metarc.inner_steps, "
            "or adapt fewer layers (tunerc.adapt: top:N, here --top N)."
        )
    lines.append(f"Basis: {report['basis']}.")
    return "\n".join(lines)
