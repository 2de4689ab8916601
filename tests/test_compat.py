"""s3prl on this stack: what is mended is mended, and nothing is imported that is not asked for."""

from __future__ import annotations

import argparse
import http.server
import subprocess
import sys
import textwrap
import threading
from collections import defaultdict
from pathlib import Path

import pytest
import soundfile
import torch

from s3prl_metaperser.errors import UserError
from s3prl_metaperser.s3prl_stack import compat
from s3prl_metaperser.s3prl_stack.download import DownloadFailed

compat.apply()


def in_a_fresh_process(code: str) -> str:
    """The standard output of ``code``, which must succeed."""
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout.strip()


# ------------------------------------------------------------------ what is imported


def test_what_is_asked_for_is_imported_and_nothing_else():
    """Neither by a Kaldi upstream, nor by s3prl's launcher, nor by naming one family of the hub."""
    code = """
        import sys
        from s3prl_metaperser.s3prl_stack.hub import build_upstream
        build_upstream("fbank_no_cmvn")
        others = ("transformers", "huggingface_hub", "s3prl.upstream.wavlm", "s3prl.upstream.hf_hubert")
        print([name for name in others if name in sys.modules])
        import s3prl.run_downstream
        from s3prl import hub
        hub.wavlm_local
        print("transformers" in sys.modules, [name for name in sorted(sys.modules) if name.endswith("hubconf")])
    """
    families = ["s3prl.upstream.baseline.hubconf", "s3prl.upstream.wavlm.hubconf"]
    assert in_a_fresh_process(code).splitlines() == ["[]", f"False {families}"]


def test_a_torchaudio_whose_native_part_does_not_load_still_makes_features():
    code = """
        import sys
        class Broken:
            def find_spec(self, name, path=None, target=None):
                if name == "torchaudio._extension":
                    raise OSError("libtorch_cuda.so: cannot open shared object file")
        sys.meta_path.insert(0, Broken())
        from s3prl_metaperser.s3prl_stack.hub import build_upstream
        import torch
        print(tuple(build_upstream("fbank_no_cmvn")([torch.zeros(16000)])["hidden_states"][0].shape))
    """
    assert in_a_fresh_process(code) == "(1, 98, 240)"


# ------------------------------------------------------------------ the hub


def test_the_lazy_hub_offers_exactly_the_functions_of_the_real_one():
    code = """
        import importlib.util, inspect, warnings
        warnings.simplefilter("ignore")
        from s3prl_metaperser.s3prl_stack import compat
        from s3prl_metaperser.s3prl_stack.hub_index import s3prl_folder
        compat.apply()
        from s3prl import hub
        spec = importlib.util.spec_from_file_location("the_real_hub", s3prl_folder() / "hub.py")
        real = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(real)
        functions = {
            name: value for name, value in vars(real).items()
            if inspect.isfunction(value) and value.__module__.endswith("hubconf") and name[0] != "_"
        }
        assert len(functions) > 150
        own = {"whisper_local", "emotion2vec_local", "embeddings", "logmel", "logmel_resnet18"}
        assert set(functions) | own == set(hub.options()), (set(functions) | own) ^ set(hub.options())
        assert all(getattr(hub, name) is value for name, value in functions.items())
        assert {"options", *functions, *own} == set(dir(hub))
        ours = hub.options(only_registered_ckpt=True)
        assert set(ours) - own == set(real.options(only_registered_ckpt=True)) & set(functions)
        print("same")
    """
    assert in_a_fresh_process(code) == "same"


def test_of_a_name_defined_twice_the_last_one_counts():
    from s3prl import hub

    # vq_wav2vec's hubconf defines wav2vec2_local, too; wav2vec2's comes later in hub.py
    assert hub.wav2vec2_local.__module__ == "s3prl.upstream.wav2vec2.hubconf"


def test_an_unknown_upstream_is_an_attribute_error():
    from s3prl import hub

    with pytest.raises(AttributeError, match="wavlm_bass"):
        _ = hub.wavlm_bass
    assert not hasattr(hub, "_constants")


# ------------------------------------------------------------------ torch and torchaudio


def test_apply_does_nothing_the_second_time():
    import torchaudio

    before = (torchaudio.load, torch.load, list(sys.meta_path))
    compat.apply()
    assert before == (torchaudio.load, torch.load, list(sys.meta_path))


def test_audio_is_loaded_as_float32_channels_first(tmp_path):
    import torchaudio

    samples = torch.linspace(-0.5, 0.5, 200).reshape(100, 2).numpy()
    soundfile.write(tmp_path / "a.wav", samples, 16000)
    wav, rate = torchaudio.load(str(tmp_path / "a.wav"), frame_offset=10, num_frames=30)
    assert rate == 16000
    assert wav.shape == (2, 30)
    assert wav.dtype == torch.float32
    assert torch.allclose(wav, torch.from_numpy(samples[10:40].T).float(), atol=1e-4)
    assert torchaudio.info(str(tmp_path / "a.wav")).num_frames == 100
    torchaudio.set_audio_backend("sox_io")


def test_torchaudios_own_loader_is_used_where_torchcodec_works(monkeypatch):
    from s3prl_metaperser.s3prl_stack import stand_ins

    load = stand_ins.with_soundfile_fallback(lambda uri: "torchcodec")
    monkeypatch.setattr(stand_ins, "_torchcodec_works", lambda: True)
    assert load("a.wav") == "torchcodec"
    monkeypatch.setattr(stand_ins, "_torchcodec_works", lambda: False)
    with pytest.raises(soundfile.LibsndfileError):
        load("/nowhere/a.wav")


def test_what_newer_torchaudio_lacks_says_so_when_it_is_used():
    import torchaudio
    from torchaudio.sox_effects import apply_effects_file

    if hasattr(torchaudio, "list_audio_backends"):
        pytest.skip("this torchaudio still has sox_effects")
    with pytest.raises(UserError, match=r"sox_effects\.apply_effects_file .* torchaudio<2\.9"):
        apply_effects_file("a.wav", [])


def test_a_checkpoint_of_s3prls_runner_loads(tmp_path):
    torch.save({"Args": argparse.Namespace(seed=7), "Config": {"runner": {}}}, tmp_path / "states-1.ckpt")
    assert torch.load(tmp_path / "states-1.ckpt", map_location="cpu")["Args"].seed == 7


# ------------------------------------------------------------------ s3prl


def test_override_does_not_run_what_is_typed(tmp_path, capsys):
    from s3prl.utility.helper import override

    args, config = argparse.Namespace(seed=1), {"optimizer": {"lr": 1.0}}
    override(f"config.optimizer.name=open('{tmp_path}/ran', 'w'),,args.seed=2", args, config)
    assert config["optimizer"]["name"] == f"open('{tmp_path}/ran', 'w')"
    assert args.seed == 2
    assert not (tmp_path / "ran").exists()
    assert "[Override] - args.seed = 2" in capsys.readouterr().err


def test_pythons_isinstance_stays_pythons():
    import builtins

    from s3prl.utility.helper import hack_isinstance

    before = builtins.isinstance
    hack_isinstance()
    assert builtins.isinstance is before
    assert isinstance(defaultdict(list), (dict, list))


def test_evaluation_on_a_cpu_with_cuda_beside_it_does_not_touch_cuda(monkeypatch):
    from s3prl.downstream.runner import Runner

    seen = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device", lambda device: seen.append(device))

    class Downstream(torch.nn.Module):
        def get_dataloader(self, split):
            return []

        def log_records(self, split, **_):
            return ["dev-best.ckpt"]

    class Stub:
        args = argparse.Namespace(device="cpu", seed=3)
        config = {"runner": {}}  # noqa: RUF012
        all_entries = ()
        downstream = argparse.Namespace(model=Downstream())

    assert Runner.evaluate(Stub(), split="dev", global_step=1) == ["dev-best.ckpt"]
    assert seen == []
    assert torch.cuda.is_available()


# ------------------------------------------------------------------ downloads


@pytest.fixture
def server(monkeypatch):
    """A web server on this machine: /whole, /broken (ends too early), anything else is not found."""
    requests_seen = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            requests_seen.append(self.path)
            if self.path not in ("/whole.pt", "/broken.pt"):
                self.send_error(404)
                return
            self.send_response(200)
            self.send_header("Content-Length", "4000000")
            self.end_headers()
            self.wfile.write(b"x" * (4_000_000 if self.path == "/whole.pt" else 1_000_000))

        def log_message(self, *_):
            pass

    monkeypatch.setenv("no_proxy", "127.0.0.1")
    running = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=running.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{running.server_port}", requests_seen
    running.shutdown()
    running.server_close()
    thread.join()


@pytest.fixture
def folder(monkeypatch, tmp_path):
    import s3prl.util.download

    monkeypatch.setattr(s3prl.util.download, "_download_dir", tmp_path / "download")
    return tmp_path / "download"


def test_a_download_is_kept_and_not_asked_for_again(server, folder):
    from s3prl.util.download import _urls_to_filepaths

    address, seen = server
    path = Path(_urls_to_filepaths(f"{address}/whole.pt"))
    assert path.parent == folder
    assert path.name.endswith(".whole.pt")
    assert path.stat().st_size == 4_000_000
    assert [file.name for file in folder.iterdir()] == [path.name]
    assert _urls_to_filepaths(f"{address}/whole.pt") == str(path)
    assert seen == ["/whole.pt"]


@pytest.mark.parametrize(("file", "reason"), [("broken.pt", "IncompleteRead|1000000 of 4000000"), ("gone.pt", "404")])
def test_a_failed_download_leaves_nothing_behind(server, folder, file, reason):
    from s3prl.util.download import _urls_to_filepaths

    with pytest.raises(DownloadFailed, match=reason) as failure:
        _urls_to_filepaths(f"{server[0]}/{file}")
    assert str(failure.value.path) in str(failure.value)
    assert list(folder.iterdir()) == []


def test_refresh_downloads_again_but_keeps_the_old_file_if_that_fails(server, folder):
    from s3prl.util.download import _download

    folder.mkdir()
    old = folder / "old.pt"
    old.write_bytes(b"old")
    with pytest.raises(DownloadFailed):
        _download(old, f"{server[0]}/gone.pt", refresh=True, new_enough_secs=-1.0)
    assert old.read_bytes() == b"old"
    _download(old, f"{server[0]}/whole.pt", refresh=True, new_enough_secs=-1.0)
    assert old.stat().st_size == 4_000_000


def test_the_download_folder_can_be_moved(folder, tmp_path):
    before = torch.hub.get_dir()
    try:
        compat.set_download_dir(tmp_path / "elsewhere")
        from s3prl.util.download import get_dir

        from s3prl_metaperser.s3prl_stack.hub_index import download_folder

        assert get_dir() == download_folder() == tmp_path / "elsewhere"
        assert torch.hub.get_dir() == str(tmp_path / "elsewhere")
    finally:
        torch.hub.set_dir(before)
