"""The command line is s3prl's: compared with s3prl's own parser, option by option."""

from __future__ import annotations

import argparse

import pytest

from s3prl_metaperser.s3prl_plugin.arguments import build_parser
from s3prl_metaperser.s3prl_stack import compat


class _Captured(Exception):
    pass


@pytest.fixture(scope="module")
def s3prls_parser():
    compat.apply()
    from s3prl import run_downstream

    kept = []

    def parse_args(parser, *_):
        kept.append(parser)
        raise _Captured

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(argparse.ArgumentParser, "parse_args", parse_args)
        with pytest.raises(_Captured):
            run_downstream.get_downstream_args()
    return kept[0]


def options(parser: argparse.ArgumentParser) -> dict:
    """What decides how a command line is read: everything but the help texts and metavars."""
    return {
        tuple(action.option_strings): {
            "kind": type(action).__name__,
            **{key: getattr(action, key) for key in ("dest", "type", "default", "choices", "required", "nargs")},
            "const": action.const,
        }
        for action in parser._actions
    }


def test_every_option_of_s3prls_launcher_is_there_with_the_same_meaning(s3prls_parser):
    assert options(build_parser()) == options(s3prls_parser)


def test_a_command_line_is_read_as_s3prl_reads_it(s3prls_parser):
    line = ["-m", "train", "-u", "wavlm_local", "-k", "a.pt", "-d", "emotion", "-f", "-l", "3", "-n", "x", "-a"]
    assert vars(build_parser().parse_args(line)) == vars(s3prls_parser.parse_args(line))


def test_every_option_has_a_help_text():
    assert [action.dest for action in build_parser()._actions if not action.help] == []
    assert "wavlm_base" in build_parser().format_help()
