"""What must be true of result files that are compared with each other."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from s3prl_metaperser.audit.findings import Findings
from s3prl_metaperser.errors import UserError
from s3prl_metaperser.evaluation.collect import Cell, check_compatible

Content = Mapping[str, Any]


def check_together(results: Sequence[Content], findings: Findings) -> None:
    """Check files against each other; each is of the right shape and has its path under ``file``.

    In every (corpus, scenario, fold, K, split) all systems, upstreams and scopes are tested on the same episodes of the
    same rater, or a paired comparison would not be one.
    """
    before = len(findings.found)
    _each_with_first(results, _where, _paired, findings)
    _each_with_first(results, lambda c: (Cell.of(c), c["cell"]["fold"], c["cell"]["split"]), _second, findings)
    _each_with_first(results, lambda c: (Cell.of(c), c["raters"]["test"], c["cell"]["split"]), _other_fold, findings)
    if len(findings.found) == before:  # what a report would refuse, with a message of its own
        for split in ("test", "dev"):
            for protocol in ("paper", "tuned"):
                chosen = [c for c in results if c["cell"]["split"] == split and c["cell"]["protocol"] == protocol]
                _compatible(chosen, findings)


def _where(content: Content) -> tuple:
    cell = content["cell"]
    return cell["corpus"], cell["scenario"], cell["fold"], cell["shots"], cell["split"]


def _each_with_first(results: Sequence[Content], by: Callable, compare: Callable, findings: Findings) -> None:
    first: dict[Any, Content] = {}
    for content in results:
        known = first.setdefault(by(content), content)
        if known is not content:
            findings.file = content["file"]
            compare(content, known, findings)


def _paired(content: Content, first: Content, findings: Findings) -> None:
    of = f"that of {first['file']}, with which it is compared,"
    for section, key in (("hashes", "corpus"), ("raters", "test"), ("cell", "queries"), ("cell", "seeds")):
        findings.equal(content[section][key], first[section][key], f"{section}.{key}", of)
    findings.equal(content["hashes"]["episodes"], first["hashes"]["episodes"], "hashes.episodes", of)
    known = {episode["seed"]: episode for episode in first["episodes"]}
    for index, episode in enumerate(content["episodes"]):
        other = known.get(episode["seed"], episode)
        for name in ("support", "query"):
            findings.equal(episode[name], other[name], f"episodes[{index}].{name}", of)
        same = dict(zip(other["query"], other["ticks"], strict=False))
        mine = dict(zip(episode["query"], episode["ticks"], strict=False))
        findings.check(
            all(mine[u] == same[u] for u in mine.keys() & same.keys()), f"episodes[{index}].ticks", f"differ from {of}"
        )


def _second(content: Content, first: Content, findings: Findings) -> None:
    findings.check(False, "cell", f"{first['file']} is of the same cell and fold: {Cell.of(content)}")


def _other_fold(content: Content, first: Content, findings: Findings) -> None:
    findings.equal(
        content["cell"]["fold"], first["cell"]["fold"], "cell.fold", f"the fold of this test rater in {first['file']}"
    )


def _compatible(results: Sequence[Content], findings: Findings) -> None:
    findings.file, findings.checks = "", findings.checks + len(results)
    try:
        check_compatible(results)
    except UserError as error:
        findings.check(False, "", str(error))
