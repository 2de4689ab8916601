"""``--push_to_hf_hub``: what of an experiment goes to the Hugging Face Hub, and whom it tells about.

By default a private repository gets the trained parameters with what adapting them needs, and a page that says what
they are: no path of this machine, no name of a rater, no label, no name of a recording.
"""

from __future__ import annotations

import argparse
import contextlib
import fnmatch
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from s3prl_metaperser.errors import UserError
from s3prl_metaperser.run.experiment import BEST
from s3prl_metaperser.run.workspace import say
from s3prl_metaperser.s3prl_plugin.arguments import ALL, PUBLIC, build_parser, upload_words
from s3prl_metaperser.storage.atomic import write_text
from s3prl_metaperser.storage.checkpoints import read_checkpoint, save_checkpoint
from s3prl_metaperser.storage.disk import new_folder
from s3prl_metaperser.storage.paths import steps_of

#: Never uploaded: earlier experiments that a restart moved aside, and what is hidden.
_NEVER = ["previous-*", ".*"]
#: Entries of a checkpoint that adaptation and prediction go by; all others are about this machine and its corpus.
_ENTRIES = ("Step", "Epoch", "Best", "System", "Task", "Preprocessing", "Heard", "Training", "Adapted")
_TENSORS = ("Featurizer", "Downstream", "Upstream", "InnerRates")
_ARGUMENTS = (
    *("mode", "downstream", "downstream_variant", "seed", "upstream", "upstream_trainable"),
    *("upstream_feature_selection", "upstream_layer_selection", "upstream_feature_normalize"),
)
_FILES = ("upstream_ckpt", "upstream_model_config")  # of these the name
_DATA = ("corpus", "scenario", "fold", "smoothing")  # of what is said about data, what is no path and no name

_PAGE = """---
library_name: s3prl
tags: [audio-classification, speech-emotion-recognition, s3prl_metaperser]
---

# {title}

Parameters of {system}, trained on the corpus `{corpus}` ({scenario}, {fold}) over the upstream `{upstream}`, to be
adapted to one listener from some labelled clips with [s3prl_metaperser](https://pypi.org/project/s3prl_metaperser/):

```bash
metaperser export {file} --out MODEL
metaperser adapt MODEL --ratings my_ratings.csv --out LISTENER
```

The licences of the corpus and of the upstream apply to what was trained on them.
"""


class Upload:
    """A repository of models, and what it is to get.

    Args:
        value: of ``--push_to_hf_hub``, see :func:`.arguments.upload_words`.
        owner: ``--hf_hub_org``; by default the user who is logged in.

    Raises:
        UserError: unknown words, or nobody is logged in: before any work is done.
    """

    def __init__(self, value: object, owner: str | None):
        self.words = upload_words(value)
        from huggingface_hub import HfApi

        self._api = HfApi()
        if owner and owner.lower() != "none":
            self.owner = owner
            return
        with _failing("nobody is logged in there; try `hf auth login`, or name --hf_hub_org"):
            self.owner = self._api.whoami()["name"]

    def send(self, folder: Path, title: str) -> str:
        """List what goes, make the repository and upload.

        Args:
            folder: the experiment.
            title: of the repository; what its name cannot hold becomes ``-``.

        Returns:
            The repository's name.

        Raises:
            UserError: the upload failed, or the repository exists, is public, and nobody asked for that.
        """
        name = f"{self.owner}/{re.sub(r'[^a-zA-Z0-9_.-]+', '-', title)}"
        if ALL in self.words:
            say("everything in the folder is uploaded: this machine's paths, raters' names and their labels")
            self._send(folder, name)
        else:
            with new_folder(folder / "upload") as shareable:
                write_shareable(folder, shareable, title)
                self._send(shareable, name)
        return name

    def _send(self, folder: Path, name: str) -> None:
        private = PUBLIC not in self.words
        say(f"uploading to {name} ({'private' if private else 'public: everybody can read it'}):")
        for file, size in listed(folder):
            say(f"  {file}, {size / 1e6:.1f} MB")
        with _failing("the experiment itself is complete"):
            self._make(name, private)
            self._api.upload_folder(repo_id=name, folder_path=str(folder), ignore_patterns=_NEVER)
        say(f"uploaded to https://huggingface.co/{name}")

    def _make(self, name: str, private: bool) -> None:
        from huggingface_hub.utils import HfHubHTTPError

        try:
            self._api.create_repo(name, private=private, exist_ok=False)
        except HfHubHTTPError as error:
            if getattr(error.response, "status_code", None) != 409:
                raise
            if private and not self._api.model_info(name).private:  # making it again would leave it as it is
                raise UserError(
                    f"{name} exists and is public, so nothing was uploaded. Make it private on its settings page, or "
                    f"ask for that: --push_to_hf_hub {','.join([PUBLIC, *sorted(self.words - {PUBLIC})])}."
                ) from None


def listed(folder: Path) -> list[tuple[str, int]]:
    """What of a folder is uploaded: relative names with their sizes in bytes."""
    files = [(path.relative_to(folder).as_posix(), path) for path in sorted(folder.rglob("*")) if path.is_file()]
    return [
        (name, path.stat().st_size)
        for name, path in files
        if not any(fnmatch.fnmatchcase(name, pattern) for pattern in _NEVER)
    ]


def write_shareable(folder: Path, out: Path, title: str) -> None:
    """Write into ``out`` what of an experiment tells nothing about this machine and the people in its corpus."""
    path = folder / BEST if (folder / BEST).is_file() else steps_of(folder)[-1][1]
    content = read_checkpoint(path)
    save_checkpoint(out / path.name, shareable(content))
    training = content["Training"]
    about = {**training["split"], "corpus": training["corpus"]["name"], "upstream": content["Args"].upstream}
    write_text(out / "README.md", _PAGE.format(title=title, system=content["System"], file=path.name, **about))


def shareable(content: Mapping[str, Any]) -> dict[str, Any]:
    """A checkpoint's content without paths, names of raters and recordings, and what only resuming needs."""
    args, config = content["Args"], content["Config"]
    kept = vars(build_parser().parse_args(["-m", "train"])) | {name: getattr(args, name) for name in _ARGUMENTS}
    kept |= {name: _last_part(getattr(args, name)) for name in _FILES}
    expert = dict(config["downstream_expert"])
    expert["datarc"] = {name: expert["datarc"][name] for name in _DATA if name in expert["datarc"]}
    entries = {name: content[name] for name in (*_ENTRIES, *_TENSORS) if name in content}
    entries |= {"Optimizer": {}, "Losses": [], "Config": {**config, "downstream_expert": expert}}
    return {**entries, "Args": argparse.Namespace(**kept)}


def _last_part(place: str | None) -> str | None:
    """A file's name; of an address too, which may hold a key."""
    return None if place is None else Path(re.split(r"[?#]", place)[0]).name


@contextlib.contextmanager
def _failing(what: str) -> Iterator[None]:
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # the network's, the Hub's and its library's errors share no class
        reason = (str(error).splitlines() or [""])[0] or type(error).__name__
        raise UserError(f"--push_to_hf_hub: the Hugging Face Hub cannot be used ({reason}): {what}.") from None
