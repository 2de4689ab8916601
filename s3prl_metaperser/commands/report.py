"""``metaperser report``: tables, figures and one HTML page from result files."""

from __future__ import annotations

import argparse

from s3prl_metaperser.commands.common import add_corpus_options, label_options
from s3prl_metaperser.storage.paths import user_path


def add(commands) -> None:
    parser = commands.add_parser("report", help="tables, figures and one HTML page from result files")
    parser.add_argument("results", metavar="RESULTS", help="a folder; all result_test.json files below it are read")
    parser.add_argument("--out", required=True, metavar="DIR", help="output folder; an earlier report is replaced")
    parser.add_argument("--protocol", help="paper or tuned, if RESULTS has both")
    parser.add_argument("--corpus", help="the evaluated corpus, for its label statistics (the demo corpus is found)")
    parser.add_argument("--root", help="the corpus's folder")
    parser.add_argument(
        "--traits", metavar="FILE", help="a table of the raters' traits, for F1 by trait: rater,age,..."
    )
    add_corpus_options(parser.add_argument_group("how the corpus was read", "the options that training had, if any"))
    parser.add_argument(
        "--if-changed",
        action="store_true",
        help="leave a report alone that was made from the same results by this code",
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    from s3prl_metaperser.evaluation.collect import said_of_other_results
    from s3prl_metaperser.report.further_tables import read_traits
    from s3prl_metaperser.report.write import PAGE, open_evaluated_corpus, write_report

    corpus = open_evaluated_corpus(arguments.corpus, arguments.root, label_options(arguments))
    results, out = user_path(arguments.results), user_path(arguments.out)
    traits = read_traits(user_path(arguments.traits)) if arguments.traits else None
    given = {"traits": traits, "if_changed": arguments.if_changed}
    written = write_report(results, out, corpus=corpus, protocol=arguments.protocol, **given)
    if written is None:
        print(f"{out / PAGE}: up to date")
        return 0
    files = "result file" if written.results == 1 else "result files"
    print(f"{written.results} {files}; {written.missing} of {written.rows} table rows have no result yet")
    if said := said_of_other_results(results):
        print(said)
    print(f"{out / PAGE}: everything on one page; tables/ (Markdown, CSV, LaTeX) and figures/ (SVG, PNG) beside it")
    return 0
