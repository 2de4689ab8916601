"""Upstreams by name: known before anything heavy is imported, built by s3prl; one clear error a mistake."""

from __future__ import annotations

import dataclasses
import hashlib
import pickle
from pathlib import Path

import pytest
import requests
import torch
from random_checkpoints import KINDS, UPSTREAM, make_checkpoint

from s3prl_metaperser.errors import UserError
from s3prl_metaperser.s3prl_stack import compat, download, hub, hub_index
from s3prl_metaperser.s3prl_stack.hub import (
    build_upstream,
    check_upstream,
    checkpoint_hash,
    load_upstream_config,
    upstream_names,
)
from s3prl_metaperser.storage import resources

compat.apply()
# s3prl's WavLM hands torch a boolean and a float mask
pytestmark = pytest.mark.filterwarnings("ignore:Support for mismatched key_padding_mask:UserWarning")
CONFIGS = sorted(path.stem for path in resources.folder("upstream_configs").glob("*.yaml"))


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    folder = tmp_path_factory.mktemp("checkpoints")
    return {kind: make_checkpoint(kind, folder / (kind if kind.startswith("hf_") else f"{kind}.pt")) for kind in KINDS}


@pytest.fixture
def download_folder(monkeypatch, tmp_path):
    """An empty download folder and no network: every request meets a closed port of this machine."""
    import s3prl.util.download

    monkeypatch.setattr(s3prl.util.download, "_download_dir", tmp_path / "download")
    for name in ("https_proxy", "http_proxy", "HTTPS_PROXY", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path / "download"


# ------------------------------------------------------------------ names and configurations


def test_an_unknown_name_is_answered_with_the_nearest_three_and_where_all_are():
    check_upstream("wavlm_base")
    with pytest.raises(UserError, match=r"Unknown upstream 'wavlm_bse'\. Did you mean 'wavlm_base'\? Or .*list up"):
        check_upstream("wavlm_bse")
    assert {"fbank_no_cmvn", "hf_hubert_custom", "hubert_local"} <= set(upstream_names())


@pytest.mark.parametrize("name", CONFIGS)
def test_a_shipped_configuration_is_what_s3prl_would_download(name):
    config = load_upstream_config(name)
    assert config.hub_name == name
    urls = hub_index.checkpoint_urls(name)
    assert urls == ([config.checkpoint] if config.checkpoint else [])
    assert config.learned or not config.checkpoint
    assert config.checkpoint_file == (hub_index.download_name(urls[0]) if urls else None)


def test_the_papers_upstreams_and_the_demos_are_shipped():
    assert {"wavlm_base", "hubert_base", "wav2vec2_base_960", "wavlm", "fbank_no_cmvn"} <= set(CONFIGS)
    assert "Base-Plus" in load_upstream_config("wavlm").notes
    assert load_upstream_config("mfcc") is None


def test_the_shipped_sizes_are_what_s3prl_returns():
    config, upstream = load_upstream_config("fbank_no_cmvn"), build_upstream("fbank_no_cmvn")
    states = upstream([torch.zeros(16000)])["hidden_states"]
    assert len(states) == config.layers
    assert states[0].shape[-1] == config.dim
    assert upstream.get_downsample_rates("hidden_states") == config.rate


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"dimm": 3}, r"mine\.yaml:\d+: Unknown key dimm\. Did you mean 'dim'"),
        ({"dim": "240"}, r"Bad value '240' for dim, expected a whole number"),
        ({"learned": 1}, r"for learned, expected true or false"),
        ({"checkpoint": 3}, "Bad value 3 for checkpoint, expected text or null"),
        ({"hub_name": "fbnk"}, "Did you mean 'fbank'"),
        ({"rate": None}, "Bad value None for rate"),
    ],
)
def test_a_wrong_configuration_names_file_and_key(monkeypatch, tmp_path, change, message):
    import yaml

    config = {**dataclasses.asdict(load_upstream_config("fbank_no_cmvn")), **change}
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(config))
    monkeypatch.setattr(resources, "folder", lambda name: tmp_path)
    with pytest.raises(UserError, match=message):
        load_upstream_config("mine")


# ------------------------------------------------------------------ building


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_of_checkpoint_builds_and_runs(checkpoints, kind):
    upstream = build_upstream(UPSTREAM[kind], str(checkpoints[kind])).eval()
    with torch.no_grad():
        states = upstream([torch.zeros(3200)])["hidden_states"]
    assert len(states) == 3
    assert states[0].shape == (1, 9, 16)


def test_the_same_seed_makes_the_same_checkpoint(tmp_path):
    one, other, third = (make_checkpoint("wavlm", tmp_path / f"{i}.pt", seed=i // 2) for i in (0, 1, 2))
    name = "encoder.layers.0.fc1.weight"
    assert torch.equal(torch.load(one)["model"][name], torch.load(other)["model"][name])
    assert not torch.equal(torch.load(one)["model"][name], torch.load(third)["model"][name])


def raw_fairseq(folder: Path) -> str:
    import argparse

    torch.save({"args": argparse.Namespace(), "model": {"w": torch.zeros(1)}}, folder / "raw.pt")
    return str(folder / "raw.pt")


class _NotPlain:
    pass


def with_objects(folder: Path) -> str:
    torch.save({"model": {}, "task_state": {"dictionaries": [_NotPlain()]}}, folder / "objects.pt")
    return str(folder / "objects.pt")


def text_file(folder: Path) -> str:
    (folder / "readme.pt").write_text("not a checkpoint")
    return str(folder / "readme.pt")


def empty_folder(folder: Path) -> str:
    (folder / "hf").mkdir()
    return str(folder / "hf")


@pytest.mark.parametrize(
    ("name", "ckpt", "message"),
    [
        ("wavlm_local", None, r"-u wavlm_local needs a checkpoint: add -k FILE"),
        ("hubert_custom", None, r"add -k FILE"),
        ("hf_hubert_custom", None, r"add -k FOLDER"),
        ("baseline_local", None, r"add -g FILE"),
        ("wavlm_local", lambda _: "/nowhere/a.pt", r"/nowhere/a\.pt: file not found"),
        ("wavlm_local", lambda folder: str(folder), r"this is a folder"),
        ("wavlm_local", lambda _: "https://a.b/c.pt", r"use -u wavlm_url"),
        ("wavlm_url", lambda _: "c.pt", r"takes a URL.*-u wavlm_local -k c\.pt"),
        ("wavlm_base", lambda _: "mine.pt", r"would ignore -k mine\.pt.*-u wavlm_local -k mine\.pt"),
        ("hubert_local", raw_fairseq, r"raw\.pt.*task_cfg.*python -m s3prl\.upstream\.hubert\.convert"),
        ("wav2vec2_local", raw_fairseq, r"python -m s3prl\.upstream\.wav2vec2\.convert"),
        ("hubert_local", with_objects, r"objects\.pt.*more than tensors.*python -m s3prl\.upstream\.hubert\.convert"),
        ("wavlm_local", raw_fairseq, r"raw\.pt .*KeyError: 'cfg'"),
        ("wavlm_local", text_file, r"readme\.pt"),
        ("hf_hubert_custom", empty_folder, r"no config\.json and no preprocessor_config\.json"),
        ("hf_wav2vec2_custom", lambda _: "/nowhere/hf", r"/nowhere/hf: folder not found"),
        ("hf_wav2vec2_custom", text_file, r"folder not found"),
        ("wavlm_bass", None, r"Did you mean 'wavlm_base'"),
    ],
)
def test_a_mistake_is_one_clear_error(tmp_path, download_folder, name, ckpt, message):
    with pytest.raises(UserError, match=message):
        build_upstream(name, ckpt(tmp_path) if ckpt else None)


def test_a_folder_without_feature_extractor_does_not_borrow_another_models(tmp_path, checkpoints, download_folder):
    import shutil

    folder = shutil.copytree(checkpoints["hf_hubert"], tmp_path / "copy")
    (folder / "preprocessor_config.json").unlink()
    with pytest.raises(UserError, match=r"copy: the folder has no preprocessor_config\.json\."):
        build_upstream("hf_hubert_custom", str(folder))


def test_a_repository_that_cannot_be_reached_is_an_error_at_once(download_folder):
    with pytest.raises(UserError, match=r"no-such/repository: .*preprocessor_config\.json cannot be read"):
        build_upstream("hf_hubert_custom", "no-such/repository")


def test_one_familys_checkpoint_is_refused_by_another(checkpoints):
    with pytest.raises(UserError, match=r"-u wavlm_local: cannot load .*hubert\.pt"):
        build_upstream("wavlm_local", str(checkpoints["hubert"]))


def test_a_missing_package_is_named(monkeypatch, checkpoints):
    import s3prl.hub

    def needs_fairseq(**_):
        raise ModuleNotFoundError("No module named 'fairseq'", name="fairseq")

    monkeypatch.setattr(s3prl.hub, "hubert_local", needs_fairseq, raising=False)
    with pytest.raises(UserError, match="pip install fairseq"):
        build_upstream("hubert_local", str(checkpoints["hubert"]))


# ------------------------------------------------------------------ downloads and hashes


@pytest.mark.parametrize("name", ["wavlm_base", "hubert_base", "wav2vec2_base_960", "wavlm"])
@pytest.mark.parametrize("function", [build_upstream, checkpoint_hash])
def test_a_failed_download_says_where_from_where_to_and_what_else(download_folder, name, function):
    config = load_upstream_config(name)
    with pytest.raises(UserError) as failure:
        function(name)
    text = str(failure.value)
    assert config.checkpoint in text
    assert str(download_folder / config.checkpoint_file) in text
    assert f"-u {name.partition('_')[0]}_local -k FILE" in text
    assert "\n" not in text
    assert list(download_folder.iterdir()) == []


def test_an_address_that_does_not_answer_is_waited_for_once(download_folder, monkeypatch):
    asked = []

    def silent(url, path):
        asked.append(url)
        raise requests.exceptions.ConnectTimeout("no answer")

    monkeypatch.setattr(download, "_transfer", silent)
    monkeypatch.setattr(download, "_silent", {})
    for url in ("https://a.invalid/x", "https://a.invalid/x", "https://a.invalid/y"):
        with pytest.raises(download.DownloadFailed, match="ConnectTimeout: no answer"):
            download.fetch(download_folder / "x", url)
    assert asked == ["https://a.invalid/x", "https://a.invalid/y"]


def test_a_cached_download_is_used_without_a_network(download_folder, checkpoints):
    file = download_folder / load_upstream_config("wavlm_base").checkpoint_file
    download_folder.mkdir()
    file.write_bytes(checkpoints["wavlm"].read_bytes())
    assert len(build_upstream("wavlm_base").model.encoder.layers) == 2
    assert checkpoint_hash("wavlm_base") == checkpoint_hash("wavlm_local", str(checkpoints["wavlm"]))
    assert [path.name for path in download_folder.iterdir()] == [file.name]


def test_a_damaged_download_says_how_to_renew_it(download_folder):
    file = download_folder / load_upstream_config("hubert_base").checkpoint_file
    download_folder.mkdir()
    file.write_bytes(b"half of it")
    with pytest.raises(UserError, match=r"hubert_base_ls960\.pt .*download it again with -r"):
        build_upstream("hubert_base")


def test_the_hash_of_a_checkpoint_file_is_its_sha256(checkpoints):
    content = checkpoints["hubert"].read_bytes()
    assert checkpoint_hash("hubert_local", str(checkpoints["hubert"])) == hashlib.sha256(content).hexdigest()


def test_the_hash_of_a_folder_covers_its_weights_and_its_feature_extractor(tmp_path, checkpoints):
    import shutil

    folder = shutil.copytree(checkpoints["hf_hubert"], tmp_path / "copy")
    hashes = [checkpoint_hash("hf_hubert_custom", str(folder))]
    assert hashes[0] == checkpoint_hash("hf_hubert_custom", str(checkpoints["hf_hubert"]))
    for name in ("preprocessor_config.json", "model.safetensors"):
        with open(folder / name, "ab") as file:
            file.write(b" ")
        hashes.append(checkpoint_hash("hf_hubert_custom", str(folder)))
    assert len(set(hashes)) == 3


def test_the_hash_of_an_upstream_without_weights_covers_its_yaml(tmp_path):
    assert checkpoint_hash("fbank") != checkpoint_hash("fbank_no_cmvn")
    [source] = hub_index.bundled_configs("fbank_no_cmvn")
    mine = tmp_path / "mine.yaml"
    mine.write_text(source.read_text())
    before = checkpoint_hash("baseline_local", model_config=str(mine))
    mine.write_text(source.read_text().replace("80", "40"))
    assert checkpoint_hash("baseline_local", model_config=str(mine)) != before


def test_errors_that_are_not_the_users_pass_unchanged():
    error = ZeroDivisionError("a bug")
    assert hub.explain_failure(error, "wavlm_local", "a.pt") is error
    unpickling = hub.explain_failure(pickle.UnpicklingError("x"), "wavlm_local", "a.pt")
    assert "more than tensors" in str(unpickling)
