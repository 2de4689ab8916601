"""Systems that answer the questions of a task: floors, our own models, and a local audio language model.

A responder of your own is any class with ``respond(audios, instruction) -> str``: the clips at 16 kHz, each float32
[n], in the order in which the instruction counts them. Another package registers one by an entry point in the group
``s3prl_metaperser.responders``. Its constructor takes what ``--option NAME=VALUE`` says. One that goes by more than
clips and an instruction has ``ask(question)`` instead, and may have ``doubts(part)``: what speaks against its answers
to a fold's episodes, for their results.
"""

from __future__ import annotations

import importlib
from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from s3prl_metaperser.errors import UserError, shown
from s3prl_metaperser.exchange.prompts import AND
from s3prl_metaperser.exchange.task_files import Question
from s3prl_metaperser.registry import Registry
from s3prl_metaperser.seeding import seed_from

if TYPE_CHECKING:
    from s3prl_metaperser.exchange.folder import Part
    from s3prl_metaperser.listener.recognizer import PersonalizedEmotionRecognizer


class Majority:
    """The most frequent of the labels that are shown, of equally frequent ones the first; without any, what the
    training raters answer most often: nothing of who is tested. A ``UserError`` where the task does not say what.
    """

    def ask(self, question: Question) -> str:
        """A class."""
        shown_ones = Counter(name for label in question.shown for name in label.split(AND))
        if not shown_ones and not question.usual:
            raise UserError(
                f"{question.id}: no labelled clip is shown, and nothing says what training raters answer (usual), as "
                "tasks and episodes of version 0.2.0 do not. Write them again, or ask --responder random."
            )
        return shown_ones.most_common(1)[0][0] if shown_ones else question.usual


class Chance:
    """A class drawn by the question's id."""

    def __init__(self, seed: str = "0"):
        self.seed = seed

    def ask(self, question: Question) -> str:
        """A class."""
        return question.choices[seed_from("chance", self.seed, question.id) % len(question.choices)]


class ZeroShot:
    """An exported model's most probable class, before it has heard of any listener.

    Args:
        model: the folder of ``metaperser export``.
        upstream_ckpt, upstream_model_config: the upstream's weights and configuration, where needed.
    """

    adapts = False

    def __init__(
        self,
        model: str,
        upstream_ckpt: str | None = None,
        upstream_model_config: str | None = None,
        device: str = "cpu",
    ):
        from s3prl_metaperser.listener.recognizer import PersonalizedEmotionRecognizer
        from s3prl_metaperser.run.cell import fit_for_this_machine

        fit_for_this_machine()
        self.model = PersonalizedEmotionRecognizer.load(
            model, upstream_ckpt=upstream_ckpt, upstream_model_config=upstream_model_config, device=device
        )
        self._known: tuple[Any, PersonalizedEmotionRecognizer] = (None, self.model)

    def ask(self, question: Question) -> str:
        """A class."""
        (probabilities,) = self._listener(question).predict_proba([question.paths[question.query]])
        return self.model.classes[int(probabilities.argmax())]

    def doubts(self, part: Part) -> tuple[str, ...]:
        """That the episodes are of another fold than the model's own: it may have been trained on these listeners."""
        training = self.model.model.card.training
        if part.fold == training.fold or training.fingerprint not in {one.corpus for one in part.lists}:
            return ()
        return (
            f"the model is of {training.scenario}/{training.fold}, where the listeners of {part.scenario}/{part.fold} "
            "may be training or validation raters: what it answers there is no test",
        )

    def _listener(self, question: Question) -> PersonalizedEmotionRecognizer:
        if not (self.adapts and question.shown):
            return self.model
        draw = question.listener, question.episode, question.shown
        if self._known[0] != draw:  # the questions of one draw stand together
            labels = [label.replace(AND, ";") for label in question.shown]
            self._known = draw, self.model.adapt(list(question.support), labels, seed=question.episode)
        return self._known[1]


class Adapted(ZeroShot):
    """The same, adapted to the labelled clips as in the benchmark, by the model's own system."""

    adapts = True


def _answers(found: Any) -> bool:
    return any(callable(getattr(found, name, None)) for name in ("respond", "ask"))


RESPONDERS: Registry[type] = Registry(
    "responder",
    "s3prl_metaperser.responders",
    expected=("a class with respond(audios, instruction)", lambda _, found: _answers(found)),
)
for _name, _where, _summary in (
    ("majority", "responders:Majority", "the most frequent of the labels that are shown: a floor"),
    ("random", "responders:Chance", "a class drawn by the question's id: a floor"),
    ("zero-shot", "responders:ZeroShot", "an exported model without a listener (model=MODEL)"),
    ("meta-perser", "responders:Adapted", "an exported model, adapted to the labelled clips (model=MODEL)"),
    ("huggingface", "huggingface:HuggingFace", "a local audio language model (model=FOLDER)"),
):
    RESPONDERS.register(_name, f"s3prl_metaperser.exchange.{_where}", _summary)


def open_responder(name: str, options: Mapping[str, str]) -> Any:
    """A responder by its registered name, or by ``module:Class``.

    Raises:
        UserError: there is none, it cannot be imported, or does not take these options.
    """
    if ":" in name:
        module, _, attribute = name.partition(":")
        try:
            found = getattr(importlib.import_module(module), attribute)
        except (ImportError, AttributeError, ValueError) as error:
            raise UserError(
                f"--responder {name}: {error}. Expected module:Class, with the module on PYTHONPATH."
            ) from error
        if not _answers(found):
            raise UserError(f"--responder {name} has no respond(audios, instruction).")
    else:
        found = RESPONDERS.get(name)
    try:
        return found(**options)
    except TypeError as error:
        said = ", ".join(f"{key}={value}" for key, value in options.items()) or "none"
        raise UserError(
            f"--responder {name} does not take these options ({said}): {error}. Give them by --option."
        ) from None


def asked(responder: Any, question: Question) -> str:
    """A responder's answer.

    Raises:
        UserError: it is no text.
    """
    ask = getattr(responder, "ask", None)
    found = ask(question) if callable(ask) else responder.respond(question.audios(), question.instruction)
    if not isinstance(found, str):
        raise UserError(f"The responder answered {shown(found)} to {question.id}, expected a text.")
    return found
