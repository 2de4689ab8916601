"""``metaperser audit-split``: every published form is read, and the known faults of others' splits are found."""

import dataclasses
import itertools
import json

import pytest
from corpora_fixtures import write_wav
from small_demo import train_command

import s3prl_metaperser
from s3prl_metaperser.cli import main
from s3prl_metaperser.errors import UserError
from s3prl_metaperser.exchange.split_files import Item, read_part, read_splits
from s3prl_metaperser.report.write import write_report
from s3prl_metaperser.s3prl_plugin import launcher
from s3prl_metaperser.s3prl_stack import trained_on as facts
from s3prl_metaperser.s3prl_stack.hub_index import load_upstream_config
from s3prl_metaperser.s3prl_stack.trained_on import heard_before, trained_on


def audited(capsys, *arguments):
    """Exit status and the JSON."""
    status = main(["audit-split", *map(str, arguments), "--json"])
    return status, json.loads(capsys.readouterr().out)


def shared(found, split=0):
    return {each["kind"]: each for each in found["splits"][split]["shared"]}


def emobox(folder, dataset, parts):
    """EmoBox's folder of one fold: JSONL and the same as JSON, beside a map of labels."""
    fold = folder / dataset / "fold_1"
    fold.mkdir(parents=True)
    (folder / dataset / "label_map.json").write_text('{"ANG": "Angry"}')
    for part, files in parts.items():
        rows = [
            {"key": f"{dataset}-{file.rpartition('/')[2][:-4].replace('_', '-')}", "dataset": dataset, "wav": file}
            | {"type": "raw", "sample_rate": 16000, "num_frame": 1e4, "task": "category", "length": 0.6, "emo": "ANG"}
            for file in files
        ]
        (fold / f"{dataset}_{part}_fold_1.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        others = {row.pop("key"): row for row in rows}
        (fold / f"{dataset}_{part}_fold_1.json").write_text(json.dumps(others))
    return folder / dataset


def test_emoboxs_crema_d_has_all_91_test_speakers_in_training(tmp_path, capsys):
    actors = range(1001, 1092)
    test = [f"downloads/cremad/AudioWAV/{actor}_IEO_ANG_HI.wav" for actor in actors]
    train = [f"downloads/cremad/AudioWAV/{actor}_DFA_{label}_XX.wav" for actor in actors for label in ("SAD", "NEU")]
    folder = emobox(tmp_path, "cremad", {"train": train, "test": test})
    status, found = audited(capsys, folder)
    assert (status, found["leaks"]) == (1, 1)
    leak = shared(found)["speakers"]
    assert (leak["parts"], len(leak["names"]), leak["of"], leak["items"]) == (["train", "test"], 91, 91, 91)
    assert leak["names"][:2] == ["1001", "1002"]
    assert main(["audit-split", str(folder)]) == 1
    assert "LEAK: train and test: 91 of 91 in test speakers are in both (91 of 91 files of test)" in (
        capsys.readouterr().out
    )
    assert audited(capsys, folder, "--allow", "speakers")[0] == 0


def test_a_ravdess_that_was_unpacked_twice_is_found_in_one_part_and_across_two(tmp_path, capsys):
    names = [f"Actor_{a:02d}/03-01-{e:02d}-01-01-01-{a:02d}.wav" for a, e in itertools.product((1, 2), (3, 4))]
    again = [f"audio_speech_actors_01-24/{name}" for name in names]
    (tmp_path / "train.txt").write_text("\n".join([*names[:2], *again[:2], *names[2:]]))
    (tmp_path / "test.txt").write_text("\n".join(again[2:]))
    status, found = audited(capsys, tmp_path)
    kinds = shared(found)
    assert status == 1
    assert set(kinds) == {"doubles", "recordings", "speakers"}
    assert kinds["doubles"]["parts"] == ["train"]
    assert kinds["doubles"]["names"] == ["03-01-03-01-01-01-01", "03-01-04-01-01-01-01"]
    assert kinds["recordings"]["names"] == ["03-01-03-01-01-01-02", "03-01-04-01-01-01-02"]


@pytest.mark.parametrize(
    ("corpus", "one", "other"),
    [("savee", "DC/{}.wav", "JE/{}.wav"), ("emov_db", "bea_Amused/{}.wav", "sam_Amused/{}.wav")],
)
def test_equal_names_in_the_folders_of_two_speakers_are_two_recordings(tmp_path, capsys, corpus, one, other):
    names = {"savee": ["a01", "a02", "h03"], "emov_db": ["amused_1-15_0001", "amused_1-15_0002"]}[corpus]
    for part, form in (("train", one), ("test", other)):
        (tmp_path / f"{part}.txt").write_text("".join(f"{form.format(name)}\n" for name in names))
    status, found = audited(capsys, tmp_path / "train.txt", tmp_path / "test.txt")
    assert (status, found["splits"][0]["corpus"], shared(found)) == (0, corpus, {})
    assert {part["speakers"] for part in found["splits"][0]["parts"].values()} == {1}
    with open(tmp_path / "test.txt", "a", encoding="utf-8") as file:
        file.write(f"elsewhere/{one.format(names[0])}\n")
    status, found = audited(capsys, tmp_path / "train.txt", tmp_path / "test.txt")
    assert (status, set(shared(found))) == (1, {"recordings", "speakers"})
    assert shared(found)["recordings"]["items"] == 1


def test_equal_sound_under_other_names_is_found_where_the_audio_is_at_hand(tmp_path, capsys):
    for number in range(4):
        write_wav(tmp_path / "audio" / f"clip{number}.wav", seconds=0.2 + 0.05 * number)
    (tmp_path / "audio" / "copy.wav").write_bytes((tmp_path / "audio" / "clip1.wav").read_bytes())
    train, test = tmp_path / "a.txt", tmp_path / "b.txt"
    train.write_text("clip0.wav\nclip1.wav\n")
    test.write_text("clip2.wav\nother/place/copy.wav\nnowhere.wav\n")
    assert audited(capsys, f"train={train}", f"test={test}")[0] == 0
    status, found = audited(capsys, f"train={train}", f"test={test}", "--audio", tmp_path / "audio")
    assert status == 1
    assert shared(found)["audio"]["names"] == ["other/place/copy.wav"]
    assert found["splits"][0]["unknown"]["audio"] == 1, "the file that is not there is counted"


def test_lewidis_items_and_annotators_are_read(tmp_path, capsys):
    item = {"annotation task": "irony", "text": {}, "soft_label": {"0": 1.0, "1": 0.0}, "lang": "en"}
    for part, first in (("train", 1), ("dev", 3), ("test", 10)):
        items = {
            str(100 * first + number): item
            | {"annotators": f"Ann{first + number},Ann{first + number + 1}", "split": part}
            | {"annotations": {f"Ann{first + number}": "1", f"Ann{first + number + 1}": "0"}}
            for number in range(2)
        }
        (tmp_path / f"MP_{part}.json").write_text(json.dumps(items))
    (tmp_path / "MP_annotators_meta.json").write_text('{"Ann1": {"Age": "30"}}')
    status, found = audited(capsys, tmp_path)
    assert status == 1
    (leak,) = found["splits"][0]["shared"]
    assert (leak["kind"], leak["parts"], leak["names"], leak["of"]) == ("raters", ["train", "valid"], ["Ann3"], 3)
    assert found["splits"][0]["passed_over"] == ["MP_annotators_meta.json"]
    assert audited(capsys, tmp_path, "--allow", "raters")[0] == 0


def test_emo_superbs_table_is_a_split_of_its_own_and_sessions_are_told(tmp_path, capsys):
    rows = [
        f"Ses0{s}F_impro01_{sex}00{s}.wav,0.9,0.1,{s:02d},{part}"
        for s, part in ((1, "Train"), (2, "Development"), (3, "Test"))
        for sex in "FM"
    ]
    table = tmp_path / "labels_consensus_1.csv"
    table.write_text("FileName,angry,sad,SpkrID,Split_Set\n" + "\n".join(rows) + "\n")
    status, found = audited(capsys, table)
    assert status == 0
    counted = {"files": 2, "speakers": 2, "sessions": 1, "raters": 0}
    assert found["splits"][0]["parts"] == dict.fromkeys(("train", "valid", "test"), counted)
    table.write_text(table.read_text() + "Ses01F_impro02_F000.wav,0.9,0.1,01,Test\n")
    status, found = audited(capsys, table)
    assert status == 1
    assert {kind: each["names"] for kind, each in shared(found).items()} == {
        "speakers": ["Ses01F"],
        "sessions": ["Ses01"],
    }


def test_a_corpus_at_hand_says_who_speaks_and_who_rated(tmp_path, capsys):
    for name in "abc":
        write_wav(tmp_path / "corpus" / f"{name}.wav")
    (tmp_path / "corpus" / "ratings.csv").write_text(
        "file,rater,label\na.wav,anna,angry\nb.wav,anna,sad\nc.wav,ben,sad\n"
    )
    (tmp_path / "corpus" / "files.csv").write_text("file,speaker\na.wav,s1\nb.wav,s2\nc.wav,s3\n")
    (tmp_path / "train.json").write_text(json.dumps({"a": {"wav": "{data_root}/a.wav", "length": 1, "emo": "ang"}}))
    (tmp_path / "test.json").write_text(json.dumps({n: {"wav": f"{{data_root}}/{n}.wav"} for n in "bc"}))
    given = (tmp_path / "train.json", tmp_path / "test.json")
    assert audited(capsys, *given)[0] == 0
    status, found = audited(capsys, *given, "--corpus", "ratings_csv", "--root", tmp_path / "corpus")
    assert (status, shared(found)["raters"]["names"]) == (1, ["anna"])
    assert found["splits"][0]["parts"]["test"] == {"files": 2, "speakers": 2, "sessions": 0, "raters": 2}


def test_lists_name_files_with_blanks_and_kaldis_have_a_name_before_the_path(tmp_path):
    (tmp_path / "x.txt").write_text("my clip 1.wav\nutt1 /data/a b.wav\nplain\n\n")
    assert [item.file for item in read_part(tmp_path / "x.txt", "test")] == ["my clip 1.wav", "/data/a b.wav", "plain"]
    (tmp_path / "both.json").write_text('{"training": ["a.wav"], "dev": [{"path": "b.wav", "spk_id": 3}]}')
    (split,) = read_splits([str(tmp_path / "both.json")])
    assert split.items == [Item("train", "a.wav"), Item("valid", "b.wav", "3")]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("train.jsonl", '{"wav": "a.wav"}\n{"wav": \n', r"train\.jsonl:2: not JSON"),
        ("train.jsonl", '{"emo": "ang"}\n', r"train\.jsonl:1: nothing says which file it is \(emo\)"),
        ("train.json", '{"a": {"wav": "x"}, "b": 3}', r"train\.json: 'b': 3 is no object"),
        ("train.csv", "file,split\na.wav\n", r"train\.csv:2: 1 fields"),
        ("train.txt", "a.wav\n", r"No split with two parts is here \(train alone\)"),
        ("list.txt", "a.wav\n", "train=FILE test=FILE"),
    ],
)
def test_damaged_files_and_a_part_alone_are_one_error(tmp_path, name, content, message):
    (tmp_path / name).write_text(content)
    with pytest.raises(UserError, match=message):
        read_splits([str(tmp_path)])


def test_options_that_do_not_fit_are_one_error(tmp_path, capsys):
    (tmp_path / "train.txt").write_text("a.wav\n")
    for arguments, message in (
        (["nowhere"], "no such file or folder"),
        ([tmp_path, "--allow", "spekers"], "Did you mean 'speakers'"),
        ([tmp_path, "--corpus", "iemocap"], "--root DIR"),
        ([tmp_path, "--audio", "nowhere"], "no such folder"),
        ([f"train={tmp_path / 'train.txt'}", tmp_path], "all files are named with their part"),
    ):
        assert main(["audit-split", *map(str, arguments)]) == 2
        assert message in capsys.readouterr().err


# ------------------------------------------------------------------ what an upstream was trained on


def test_an_upstreams_yaml_and_the_file_beside_a_checkpoint_say_what_it_heard(tmp_path):
    assert "speech" in trained_on("emotion2vec_local")["iemocap"]
    assert heard_before("emotion2vec_local", None, ["crema_d"]) == ()
    (doubt,) = heard_before("emotion2vec_local", None, ["iemocap", "crema_d"])
    assert doubt.startswith("the upstream emotion2vec_local was trained on iemocap (its speech, without labels)")
    (tmp_path / "own.pt.yaml").write_text("trained_on:\n  crema_d: emotion labels\n")
    (doubt,) = heard_before("hubert_local", str(tmp_path / "own.pt"), ["crema_d"])
    assert "trained on crema_d (emotion labels)" in doubt
    (tmp_path / "own.pt.yaml").write_text("traind_on: {}\n")
    with pytest.raises(UserError, match=r"own\.pt\.yaml:1: Unknown key traind_on"):
        trained_on("hubert_local", str(tmp_path / "own.pt"))


def test_a_result_on_what_its_upstream_was_trained_on_is_marked_in_its_file_and_in_the_report(tmp_path, monkeypatch):
    pinned = dataclasses.replace(load_upstream_config("fbank_no_cmvn"), trained_on={"demo": "emotion labels"})
    monkeypatch.setattr(facts, "load_upstream_config", lambda name: pinned)
    assert launcher.main(train_command(tmp_path / "in" / "cell", "-v", "Random")) == 0
    assert launcher.main(["-m", "evaluate", "-e", str(tmp_path / "in" / "cell")]) == 0
    result = s3prl_metaperser.Result.read(tmp_path / "in" / "cell" / "result_test.json")
    assert result.doubts == heard_before("fbank_no_cmvn", None, ["demo"])
    write_report(tmp_path / "in", tmp_path / "out")
    page = (tmp_path / "out" / "report.html").read_text()
    assert "Mind that the upstream fbank_no_cmvn was trained on demo (emotion labels)" in page
