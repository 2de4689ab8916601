"""One form, written: a registered one, or labels as the reader of a labelling tool writes them."""

from __future__ import annotations

import functools
from pathlib import Path

from s3prl_metaperser.corpora import writers
from s3prl_metaperser.errors import unknown_name
from s3prl_metaperser.exchange.publishing import FORMS, Form, Told
from s3prl_metaperser.exchange.ratings_forms import write_labels
from s3prl_metaperser.listener.folder import check_new
from s3prl_metaperser.storage.paths import user_path


def publish(source: str, form: str, out: Path, told: Told) -> list[str]:
    """Write one form into a new folder.

    Returns:
        Lines that say what was written and what to do with it.

    Raises:
        UserError: an unknown form, a source that is not what it is made of, a fact that it needs, or ``out`` is in use.
    """
    chosen = form_of(form)
    check_new(out)
    return chosen.write(user_path(source), out, told)


def form_of(name: str) -> Form:
    """The form of that name: a registered one, or labels as the corpus reader of that name writes them.

    Raises:
        UserError: there is none.
    """
    if FORMS.knows(name):
        return FORMS.get(name)
    if name not in (known := writers()):
        raise unknown_name("form", name, [*FORMS.names(), *known])
    return Form("corpus", functools.partial(write_labels, known[name]))
