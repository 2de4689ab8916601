"""Nothing from outside is run: no pickle, no evaluated text, no fetched code. One hostile file for each route."""

from __future__ import annotations

import ast
import io
import json
import os
import pickle
import re
import types
from pathlib import Path

import pytest
import torch
import yaml
from corpora_fixtures import write_wav
from random_checkpoints import make_checkpoint

from s3prl_metaperser.errors import UserError
from s3prl_metaperser.s3prl_plugin import launcher, stock
from s3prl_metaperser.s3prl_stack import compat, guards, hub
from s3prl_metaperser.s3prl_stack.hub_index import hub_index, s3prl_folder

compat.apply()
pytestmark = [
    pytest.mark.filterwarnings("ignore:Detected pickle protocol:UserWarning"),  # torch, of what it then refuses
    pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning"),  # at the top of some of s3prl's modules
]
PACKAGE = Path(guards.__file__).parent
CODE = "__import__('os').mkdir('ran')"


@pytest.fixture(autouse=True)
def nothing_ran(tmp_path, monkeypatch):
    """Hostile code would make the folder ``ran``."""
    monkeypatch.chdir(tmp_path)
    yield
    assert not (tmp_path / "ran").exists()


class Hostile:
    def __reduce__(self):
        return os.mkdir, ("ran",)


def hostile_files(folder: Path) -> list[Path]:
    """The same hostile pickle as torch saves it now, as it did before 1.6, and bare."""
    content = {"model": Hostile(), "cfg": Hostile(), "Config": Hostile(), "Args": Hostile(), "model_cfg": Hostile()}
    torch.save(content, folder / "zip.pt")
    torch.save(content, folder / "old.pt", _use_new_zipfile_serialization=False)
    (folder / "bare.pt").write_bytes(pickle.dumps(content))
    return [folder / name for name in ("zip.pt", "old.pt", "bare.pt")]


def test_the_hostile_pickle_is_hostile(tmp_path):
    pickle.loads(pickle.dumps(Hostile()))
    (tmp_path / "ran").rmdir()


# ------------------------------------------------------------------ -k

TAKES_A_FILE = [n for n, entry in hub_index().items() if entry.needs == "ckpt" and not n.endswith(("_url",))]


@pytest.mark.parametrize("name", [name for name in TAKES_A_FILE if not name.startswith("hf_")])
def test_no_upstream_runs_a_hostile_checkpoint(tmp_path, name):
    for file in hostile_files(tmp_path):
        with pytest.raises(UserError):
            hub.build_upstream(name, str(file))


@pytest.mark.parametrize("name", ["hf_hubert_custom", "hf_wav2vec2_custom"])
def test_a_hugging_face_folder_runs_no_pickle_and_fetches_no_code(tmp_path, name):
    folder = make_checkpoint(name.removesuffix("_custom"), tmp_path / "hf")
    config = json.loads((folder / "config.json").read_text())
    for key, value in (("auto_map", {"AutoModel": "evil--code.Model"}), ("_attn_implementation", "evil/kernel")):
        (folder / "config.json").write_text(json.dumps({**config, key: value}))
        with pytest.raises(UserError, match="names code that would be downloaded"):
            hub.build_upstream(name, str(folder))
    (folder / "config.json").write_text("{")
    with pytest.raises(UserError, match=r"Cannot read .* as JSON"):
        hub.build_upstream(name, str(folder))
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "model.safetensors").unlink()
    for file in hostile_files(tmp_path):
        (folder / "pytorch_model.bin").write_bytes(file.read_bytes())
        with pytest.raises(UserError):
            hub.build_upstream(name, str(folder))


@pytest.mark.parametrize("kind", ["wavlm", "hubert", "wav2vec2"])
def test_layer_sizes_in_a_checkpoint_are_not_run(tmp_path, kind):
    path = make_checkpoint(kind, tmp_path / "a.pt")
    content = torch.load(path)
    content["cfg" if kind == "wavlm" else "model_cfg"]["conv_feature_layers"] = CODE
    torch.save(content, path)
    with pytest.raises(UserError, match="would run as code"):
        hub.build_upstream(f"{kind}_local", str(path))


def test_torch_grants_no_caller_an_unsafe_load(tmp_path):
    assert os.environ["TORCH_FORCE_WEIGHTS_ONLY_LOAD"] == "1"
    assert "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD" not in os.environ
    for file in hostile_files(tmp_path):
        with pytest.raises(pickle.UnpicklingError):
            torch.load(file, weights_only=False)


# ------------------------------------------------------------------ -g


@pytest.mark.parametrize(
    "change",
    [
        {"kaldi": {"feat_type": f"fbank if {CODE} else 0"}},
        {"kaldi": {"feat_type": "torch.hub.load"}},
        {"kaldi": {"feat_type": "fbank.__globals__"}},
    ],
)
def test_a_model_configuration_is_not_run(tmp_path, change):
    (tmp_path / "g.yaml").write_text(yaml.safe_dump({**change, "delta": {"order": 1}, "cmvn": {"use_cmvn": False}}))
    with pytest.raises(UserError, match="would run as code"):
        hub.build_upstream("baseline_local", model_config=str(tmp_path / "g.yaml"))


@pytest.mark.parametrize("tag", ["!!python/object/apply:os.mkdir [ran]", "!!python/name:os.mkdir ''"])
@pytest.mark.parametrize("name", ["baseline_local", "stft_mag"])
def test_a_model_configuration_with_objects_is_refused(tmp_path, name, tag):
    (tmp_path / "g.yaml").write_text(f"kaldi: {tag}\n")
    with pytest.raises(UserError, match=r"g\.yaml is not valid YAML"):
        hub.build_upstream(name, model_config=str(tmp_path / "g.yaml"))


def test_the_shipped_model_configuration_still_builds_through_g():
    config = s3prl_folder() / "upstream" / "baseline" / "fbank.yaml"
    assert hub.build_upstream("baseline_local", model_config=str(config)).get_downsample_rates("") == 160


# ------------------------------------------------------------------ -e, -i, -a; ours and stock


def started(capsys, *arguments: str) -> str:
    assert launcher.main([str(argument) for argument in arguments]) == 2
    said = capsys.readouterr().err
    assert "Traceback" not in said
    return said


@pytest.mark.parametrize("downstream", ["personalized_emotion", "emotion"])
def test_no_hostile_checkpoint_is_opened_by_e_i_or_a(tmp_path, capsys, downstream):
    config = tmp_path / "c.yaml"
    config.write_text("{}\n" if downstream == "personalized_emotion" else "downstream_expert: {}\nrunner: {}\n")
    for file in hostile_files(tmp_path):
        folder = tmp_path / "exp"
        folder.mkdir(exist_ok=True)
        (folder / "states-1.ckpt").write_bytes(file.read_bytes())
        for option in (["-e", file], ["-e", folder], ["-a", "-p", folder]):
            said = started(capsys, "-m", "train", "-d", downstream, "-u", "fbank_no_cmvn", "-c", config, *option)
            assert "cannot be read safely" in said.replace("not a checkpoint that can", "cannot")
        run = ["-m", "train", "-d", downstream, "-u", "fbank_no_cmvn", "-c", config, "-p", tmp_path / "x"]
        assert "that can be read safely" in started(capsys, *run, "-i", file)


def checkpoint(folder: Path, *, config: dict | None = None, **arguments) -> Path:
    """A checkpoint that torch opens, whose arguments and configuration are hostile."""
    from s3prl_metaperser.s3prl_plugin.arguments import build_parser

    args = build_parser().parse_args(["-m", "train", "-u", "fbank_no_cmvn"])
    for key, value in {"downstream": "emotion", "expdir": str(folder), **arguments}.items():
        setattr(args, key, value)
    torch.save({"Args": args, "Config": config or {}, "Step": 1, "Epoch": 0, "Optimizer": {}}, folder / "states-1.ckpt")
    return folder / "states-1.ckpt"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"hub": "huggingface", "upstream": "evil/code"}, "would run downloaded code"),
        ({"push_to_hf_hub": "True"}, "would publish the folder"),
        ({"downstream": "../evil"}, "Unknown downstream in the checkpoint"),
        ({"downstream": "personalized_emotion", "upstream": ["x"]}, "its argument upstream is"),
        ({"downstream": "personalized_emotion", "seed": "1"}, "its argument seed is '1'"),
    ],
)
def test_a_checkpoint_cannot_fetch_code_publish_or_name_another_module(tmp_path, capsys, arguments, message):
    path = checkpoint(tmp_path, **arguments)
    assert message in started(capsys, "-m", "train", "-e", path)
    if arguments.get("downstream") != "personalized_emotion":
        assert message in started(capsys, "-m", "train", "-a", "-d", "emotion", "-p", tmp_path)


def test_a_stock_downstream_uploads_only_where_the_whole_folder_is_asked_for(tmp_path, capsys):
    from s3prl.downstream.runner import Runner

    (tmp_path / "c.yaml").write_text("downstream_expert: {}\nrunner: {}\n")
    run = ["-m", "train", "-d", "emotion", "-u", "fbank_no_cmvn", "-c", "c.yaml", "-p", "x", "--push_to_hf_hub"]
    assert "uploads the whole folder" in started(capsys, *run, "True")
    for answer in ("False", "no"):  # s3prl would take any text for yes
        assert stock._upload(launcher.build_parser().parse_args([*run, answer])) is None
        assert Runner.push_to_huggingface_hub(None) is None
    asked = launcher.build_parser().parse_args([*run, "all", "--hf_hub_org", "lab"])
    assert stock._upload(asked).words == {"all"}


def test_what_our_own_runs_never_take_from_a_checkpoint(tmp_path):
    given = {"hub": "huggingface", "push_to_hf_hub": True, "hf_hub_org": "evil", "bad": 1}
    content = torch.load(checkpoint(tmp_path, downstream="personalized_emotion", **given))
    args = launcher.build_parser().parse_args(["-m", "evaluate"])
    merged, _ = launcher._resumed(args, ["-m", "evaluate"], content, tmp_path / "states-1.ckpt")
    assert (merged.hub, merged.push_to_hf_hub, merged.hf_hub_org) == ("torch", False, None)
    assert not hasattr(merged, "bad")


def test_a_stock_configuration_is_not_run(tmp_path):
    from s3prl.downstream.emotion import model

    with pytest.raises(UserError, match="would run as code"):
        model.DeepModel(8, 4, CODE, pooling="MeanPooling")
    for name in ("torch.hub.load", "os.system", "nn.Module.__init__"):
        with pytest.raises(UserError):
            model.DeepModel(8, 4, name, pooling="MeanPooling")


def test_a_stock_run_with_hostile_text_in_its_configuration_stops(tmp_path, capsys):
    config = {
        "runner": {"total_steps": 1},
        "optimizer": {"name": "AdamW", "lr": 1e-3},
        "downstream_expert": {
            "datarc": {"root": str(tmp_path), "meta_data": str(tmp_path / "meta"), "test_fold": "fold1"},
            "modelrc": {"select": CODE, "projector_dim": 8},
        },
    }
    meta = tmp_path / "meta" / "Session1"
    meta.mkdir(parents=True)
    write_wav(tmp_path / "a.wav", seconds=0.5)
    entries = [{"path": "a.wav", "label": "sad"}] * 8
    for split in ("train", "test"):
        (meta / f"{split}_meta_data.json").write_text(json.dumps({"labels": {"sad": 0}, "meta_data": entries}))
    for key, value in (("valid_ratio", 0.2), ("pre_load", False), ("num_workers", 0)):
        config["downstream_expert"]["datarc"][key] = value
    config["downstream_expert"]["datarc"] |= {"train_batch_size": 1, "eval_batch_size": 1}
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(config))
    said = started(
        capsys, *("-m", "train", "-d", "emotion", "-u", "fbank_no_cmvn", "-c", "c.yaml", "-p", "exp", "--device", "cpu")
    )
    assert "would run as code" in said


@pytest.mark.parametrize("text", [CODE, f"[{CODE}]", "().__class__.__base__.__subclasses__()", "open('x','w')"])
def test_what_is_typed_after_o_is_not_run(tmp_path, capsys, text):
    from s3prl_metaperser.config.override import parse_override

    [(_, value)] = parse_override(f"config.x={text}")
    assert value in (text, [CODE])
    assert not (tmp_path / "x").exists()


# ------------------------------------------------------------------ s3prl's modules


def test_every_evaluated_text_pickle_and_yaml_of_s3prl_is_guarded():
    """What s3prl calls by a name that the guards replace is safe; anything else of the kind would be found here."""
    dangerous = re.compile(
        r"^(exec|compile|__import__|(?:\w*pickle\w*|dill|joblib|cloudpickle|marshal|shelve)\.\w*load\w*)$"
    )
    guarded = re.compile(r"^(pickle\.loads?|pickle\.Unpickler)$")
    found = []
    for path in sorted(s3prl_folder().rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        inner = {  # an import inside a function would bring the real module back
            alias.name
            for function in ast.walk(tree)
            if isinstance(function, ast.FunctionDef)
            for node in ast.walk(function)
            if isinstance(node, ast.Import)
            for alias in node.names
        }
        loads_by_itself = path.name == "Fairseq_SpeechToTextDataset.py"  # with FullLoader; see the next test
        assert not inner & {"pickle", "yaml", "builtins", "pickle5"} or loads_by_itself, path
        for node in ast.walk(tree):
            if isinstance(node, ast.Call):
                name = ast.unparse(node.func)
                if dangerous.match(name) and not guarded.match(name):
                    found.append(f"{path.name}: {name}")
            if isinstance(node, ast.ImportFrom) and node.module in ("yaml", "pickle", "builtins"):
                found.append(f"{path.name}: from {node.module}")
    assert found == []


@pytest.mark.parametrize("tag", ["object/apply:os.mkdir [ran]", "object/new:os.mkdir [ran]"])
def test_the_one_yaml_loader_that_is_left_to_s3prl_calls_nothing(tag):
    with pytest.raises(yaml.YAMLError):
        yaml.load(f"a: !!python/{tag}", Loader=yaml.FullLoader)


def test_s3prls_modules_see_the_guards_and_other_modules_do_not():
    from s3prl.upstream.baseline import expert, extracter

    assert extracter.eval is guards.look_up
    assert expert.yaml is guards.YAML
    module = types.ModuleType("s3prl.some")
    module.pickle = pickle
    guards.after_import(module)
    assert module.pickle is guards.PICKLE
    assert isinstance(yaml, types.ModuleType)
    assert yaml is not guards.YAML


def test_a_cache_file_of_a_stock_downstream_is_plain_data_or_refused():
    plain = {"a": [1, 2.5, "x", None, True], "b": {Path("x/y.wav"), "z"}, "c": (b"x", 1j)}
    assert guards.PICKLE.loads(pickle.dumps(plain)) == plain
    assert guards.PICKLE.load(io.BytesIO(guards.PICKLE.dumps(plain))) == plain
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        with pytest.raises(UserError, match="can run code"):
            guards.PICKLE.loads(pickle.dumps(Hostile(), protocol))


class Model:
    layers = (1, 2)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("[(512, 10, 5)] + [(512, 3, 2)] * 2", [(512, 10, 5), (512, 3, 2), (512, 3, 2)]),
        ("{'a': [1, -2.5]}", {"a": [1, -2.5]}),
        ("model.layers[1]", 2),
        ("math.inf", float("inf")),
        ("torch.nn.Linear", torch.nn.Linear),
        (" 'x' ", "x"),
    ],
)
def test_what_s3prl_looks_up_is_found(text, value):
    import math

    assert guards.look_up(text, {"math": math, "torch": torch}, {"model": Model()}) == value
    model = Model()
    assert guards.look_up("model.layers") == model.layers


@pytest.mark.parametrize(
    "text",
    [
        *(
            "os.system",
            "os",
            "torch.hub.load",
            "torch.load",
            "len",
            "print(1)",
            "[x for x in 'a']",
            "lambda: 1",
            "a if b",
        ),
        *(
            "model.__class__",
            "_private",
            "[0] * 99999999",
            "'a' * 99999999",
            "2 ** 9999",
            "1 < 2",
            "f'{os}'",
            "(yield)",
        ),
        *("unknown", "model.layers[7]", "{**{}}", "", "((((", "[" * 5000, "not 1", "-'a'", "x := 1"),
    ],
)
def test_what_is_no_look_up_is_refused(text):
    with pytest.raises(UserError, match="would run as code"):
        guards.look_up(text, {"os": os, "torch": torch, "_private": 1}, {"model": Model(), "b": 1, "a": 1})


def test_our_own_code_neither_evaluates_nor_unpickles():
    allowed = {("guards.py", "pickle.Unpickler")}
    found = set()
    for path in [*PACKAGE.rglob("*.py"), *PACKAGE.parent.glob("*.py"), *(PACKAGE.parent / "downstream").rglob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                name = ast.unparse(node.func)
                keywords = {k.arg: ast.unparse(k.value) for k in node.keywords}
                unsafe = name in ("eval", "exec", "pickle.load", "pickle.loads", "yaml.unsafe_load", "yaml.full_load")
                unsafe |= name == "yaml.load" and keywords.get("Loader") not in ("yaml.SafeLoader", "_FlowLoader")
                unsafe |= name == "torch.load" and keywords.get("weights_only") != "True"
                unsafe |= keywords.get("allow_pickle") == "True" or keywords.get("trust_remote_code") == "True"
                unsafe |= keywords.get("shell") == "True" or name == "os.system"
                if unsafe:
                    found.add((path.name, name))
    assert found - allowed == set()


# ------------------------------------------------------------------ what the report shows

HOSTILE_NAMES = [
    "=cmd|' /C calc'!A0",
    "+1",
    "-1+1",
    "@SUM(A1)",
    "\t=1",
    "\r=1",
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    r"\input{/etc/passwd}",
    "$x$ & % # _ { } ~ ^",
    "a|b\n| c",
    "[x](javascript:alert(1))",
    "\x1b[31mred",
]


@pytest.mark.parametrize("name", HOSTILE_NAMES)
def test_no_name_of_a_rater_means_anything_in_a_report(name):
    import csv

    from s3prl_metaperser.report.cite import Copy
    from s3prl_metaperser.report.page import Section, Words, page
    from s3prl_metaperser.report.tables import Column, Table, Value
    from s3prl_metaperser.report.writers import comma_separated, latex, markdown

    columns = (Column("rater"), Column(name, group=name, interval=True), Column("words"))
    rows = ((name, Value(1.0, 0.5, 1.5, note=name), name),)
    table = Table("key", name, name, columns, rows, grouped=1, notes=(name,))
    said = [table, Words([(name, name)]), Copy("key-copy", name, name)]
    html = page(
        name, [(name, name)], [Section(name, name, [name], [(name, [(name, [name])])], said, headline=name)], name
    )
    assert html.count("<script") == 1, "the page's own"
    assert "<img" not in html
    assert "\x1b" not in html
    for line in csv.reader(io.StringIO(comma_separated(table))):
        for cell in line:
            number = re.fullmatch(r"-?\d+(\.\d+)?(e-?\d+)?", cell)
            assert number or not cell.startswith(("=", "+", "-", "@", "\t", "\r")), cell
            assert "\x1b" not in cell
    text = latex(table)
    assert r"\input{" not in text
    assert "\x1b" not in text
    assert not re.search(r"(?<!\\)[&%$#_]", re.sub(r" & |\\&|\$\\checkmark\$|^%.*", "", text).replace("key", ""))
    plain = markdown(table)
    assert "<script" not in plain
    assert not re.search(r"(?<!\\)\]\(javascript", plain)
    assert "\x1b" not in plain
    assert len(plain.splitlines()) == len(markdown(Table("key", "t", "c", columns, rows, 1, ("n",))).splitlines())


@pytest.mark.parametrize("name", HOSTILE_NAMES)
@pytest.mark.filterwarnings("ignore:Glyph:UserWarning")
def test_no_name_means_anything_in_a_figure(name):
    import xml.etree.ElementTree as ElementTree

    from s3prl_metaperser.report.drawing import finished, legend_below, new_figure, style
    from s3prl_metaperser.report.tables import Table

    with style():
        figure, ((axis,),) = new_figure(1, 1, 2.0)
        (line,) = axis.plot([0, 1], label="x")
        axis.set_title(name)
        axis.set_xticks([0], [name])
        legend_below(figure, [line], [name])
        drawing = finished(figure, "key", name, name, Table("key", name, name, (), ()))
    inside = {element.tag.rpartition("}")[2] for element in ElementTree.fromstring(drawing.svg).iter()}
    assert not inside & {"script", "img", "image", "foreignObject", "a"}
    assert "\x1b" not in drawing.inline()
