"""``metaperser check-task``: what the editors of Dynamic-SUPERB would say of a task."""

from __future__ import annotations

import argparse

from s3prl_metaperser.storage.paths import user_path


def add(commands) -> None:
    parser = commands.add_parser("check-task", help="the checks of Dynamic-SUPERB's editors")
    parser.add_argument("task", metavar="TASK", help="the folder of a task, or of one of its instances")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    from s3prl_metaperser.exchange.task_check import check_task

    checked = check_task(user_path(arguments.task))
    for each in checked:
        said = f"{len(each.faults)} fault(s)" if each.faults else "nothing is wrong"
        print(f"{each.name}: {each.rows} rows, {each.instructions} different instructions: {said}")
        for fault in each.faults:
            print(f"  {fault}")
        for note in each.notes:
            print(f"  note: {note}")
    return 1 if any(each.faults for each in checked) else 0
