"""A corpus reader: the function that reads, the options that it declares, and facts about its corpora."""

from __future__ import annotations

import dataclasses
import functools
import inspect
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from s3prl_metaperser.config.validator import build
from s3prl_metaperser.corpora.base import Corpus
from s3prl_metaperser.corpora.card import Card
from s3prl_metaperser.errors import unknown_name

if TYPE_CHECKING:
    from s3prl_metaperser.corpora.exports import Export, Labels


class NamedClip(NamedTuple):
    """What the name of a file of a corpus says.

    Attributes:
        id: equal for copies in other folders.
        speaker, session: as :class:`.Utterance` has them; empty where names do not say it.
    """

    id: str
    speaker: str
    session: str = ""


@dataclass(frozen=True)
class Reader:
    """How a kind of corpus is read.

    Attributes:
        read: ``read(root, **options)``; the parameters after ``root``, their type hints and defaults are the options
            that ``datarc`` takes with this corpus; those of :attr:`find`, too, where it takes any further ones.
        home: ``home(cache, options)``: where the corpus is if no root is given, for a reader that makes it on first
            use.
        stored: ``stored(root)`` reads what is on disk whatever the options were; by default :attr:`read` does, with
            the option ``outside`` where there is one: what is there has been allowed to be where it is.
        labels_only: ``labels_only(options)``: the corpus without audio, where labels can be had without a root.
        terms: what its licence asks of who passes on a model that was trained on it.
        redistributable: whether that licence lets anybody pass on the audio; None where only its owner knows.
        card: what was published, where each utterance has one label that is no listener's.
        recognises: ``recognises(path)``: whether a file or folder is an export that :attr:`find` reads, for whoever
            has one annotator's export and not a corpus; of readers of annotation tools.
        find: ``find(path, **options)``: what an export holds.
        caveat: ``caveat(options)``: what whoever reads numbers of this corpus must know of its labels; for reports.
        clip_named: ``clip_named(path)``: what a file's name says, without the file; None where it is not the corpus's.
        write: ``write(out, labels)``: labels in the tool's form, at a path where nothing is yet.
        writes: what ``out`` is: the suffix of a file, or empty for a folder.
        drawn_by: the option that is the seed of a corpus that is drawn; corpora that differ in it alone are replicates.
    """

    read: Callable[..., Corpus]
    home: Callable[[Path, Mapping[str, Any]], Path | None] | None = None
    stored: Callable[..., Corpus] | None = None
    labels_only: Callable[[Mapping[str, Any]], Corpus] | None = None
    terms: str = ""
    redistributable: bool | None = None
    card: Card | None = None
    recognises: Callable[[Path], bool] | None = None
    find: Callable[..., Export] | None = None
    write: Callable[[Path, Labels], None] | None = None
    writes: str = ""
    drawn_by: str = ""
    caveat: Callable[[Mapping[str, Any]], str] | None = None
    clip_named: Callable[[Path], NamedClip | None] | None = None

    def __call__(self, root: Path, **options: Any) -> Corpus:
        """:attr:`read`."""
        return self.read(root, **options)

    @functools.cached_property
    def options(self) -> type:
        """The declared options, as a dataclass for :func:`.validator.build`."""
        own = _parameters(self.read)
        further = any(parameter.kind is parameter.VAR_KEYWORD for parameter in own)
        fields: list[Any] = []
        for function in (self.read, self.find) if further and self.find else (self.read,):
            hints = typing.get_type_hints(function, include_extras=True)
            for parameter in _parameters(function):
                if parameter.kind not in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL):
                    needed = parameter.default is parameter.empty
                    default = dataclasses.field() if needed else dataclasses.field(default=parameter.default)
                    fields.append((parameter.name, hints.get(parameter.name, Any), default))
        return dataclasses.make_dataclass("Options", fields, kw_only=True, frozen=True)

    def checked(self, name: str, options: Mapping[str, Any]) -> dict[str, Any]:
        """Options, given and default, as :attr:`read` takes them.

        Raises:
            UserError: an option that is not declared, or of another type.
        """
        known = [f.name for f in dataclasses.fields(self.options)]
        for option in options:
            if option not in known:
                raise unknown_name(f"option of corpus {name!r}", option, known or ["none"])
        found: Any = build(self.options, dict(options))
        return {option: getattr(found, option) for option in known}


def _parameters(function: Callable) -> list[inspect.Parameter]:
    """What a function takes besides the root."""
    return list(inspect.signature(function).parameters.values())[1:]
