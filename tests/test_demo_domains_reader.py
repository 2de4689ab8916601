"""The demo corpora as one corpus: which variant each folder is of."""

from pathlib import Path

from s3prl_metaperser.corpora import together
from s3prl_metaperser.corpora.base import Corpus
from s3prl_metaperser.corpora.emotions import FIVE
from s3prl_metaperser.demo import domain_reader, write_domains


def test_an_oracle_learns_without_the_tone_and_is_tested_with_it(monkeypatch, tmp_path):
    read, written = {}, []

    def made(place, variant, *, seed, utterances):
        written.append((place, variant, seed, utterances))
        return place

    def noted(root, *, roots=None):
        read.update(roots or {name: str(root / name) for name in read})
        return Corpus("acted_corpora", root, FIVE, (), ())

    monkeypatch.setattr(write_domains, "write_demo_corpora", made)
    monkeypatch.setattr(together, "read", noted)
    corpus = domain_reader.read(tmp_path, variant="oracle", seed=3, utterances=40)
    assert corpus.name == "demo_corpora (oracle)"
    assert written == [(tmp_path / name, name, 3, 40) for name in ("identical", "spurious")]
    misleading = {name for name, folder in read.items() if Path(folder).parent.name == "spurious"}
    assert misleading == {"cafe", "iemocap"}
    assert len(read) == 10
    assert domain_reader.read(tmp_path).name == "demo_corpora"
    assert {Path(folder).parent for folder in read.values()} == {tmp_path}
