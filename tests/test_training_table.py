"""What the report says of meta-training, from the results alone: rows that could not show a part say so."""

import json

import pytest
from test_report import write_results

from s3prl_metaperser.config.options import Options
from s3prl_metaperser.methods import facts_of
from s3prl_metaperser.methods.outer_steps import outer_steps
from s3prl_metaperser.report.gathered import gather
from s3prl_metaperser.report.result_tables import result_tables
from s3prl_metaperser.report.training_table import training_table


def config(**metarc):
    metarc = {"derivative_annealing": True, "annealed_fraction": 0.3, **metarc}
    return Options.from_config({"downstream_expert": {"metarc": metarc}, "runner": {"total_steps": 150}}).as_config()


@pytest.mark.parametrize(
    ("selected", "metarc", "second_order"),
    [
        (10, {}, 0),
        (45, {}, 0),  # 30 % of 150 are first-order
        (46, {}, 1),
        (150, {}, 105),
        (40, {"annealed_fraction": 0.2}, 10),
        (40, {"derivative_annealing": False}, 40),
        (10, {"annealing_scope": "adaptation"}, 10),  # the last inner steps of every outer step are second-order
        (0, {"derivative_annealing": False}, 0),
    ],
)
def test_second_order_steps_are_those_after_the_annealing_and_up_to_the_selected_one(selected, metarc, second_order):
    found = outer_steps(facts_of("Meta-PerSER"), config(**metarc), selected)
    assert (found.selected, found.total, found.second_order) == (selected, 150, second_order)
    assert found.vacuous == (second_order == 0 and found.annealed)
    assert outer_steps(facts_of("Linear-Few"), config(**metarc), 0) is None


def test_a_report_says_which_rows_show_nothing_of_derivative_annealing(tmp_path):
    """The made-up results are of step 7 of 150, before annealing ends; one fold is moved behind its end."""
    raters = ("C-E1", "C-E2")
    write_results(tmp_path, ("Meta-PerSER:INI", "Meta-PerSER:INI+DA", "Meta-PerSER:all"), raters=raters)
    for path in tmp_path.glob("*INI_DA*C_E2*/result_test.json"):
        content = json.loads(path.read_text())
        content |= {"selected_step": 60, "selected": {"loss": 1.5, "initial_loss": 1.25, "rates_moved": 0.125}}
        path.write_text(json.dumps(content))
    (study,) = gather(tmp_path)[0].studies()
    rows = {row[2]: tuple(map(str, row[3:])) for row in training_table(study).rows}
    assert rows == {
        "Meta-PerSER:INI": ("7, 7 of 150", "7, 7", "—", "—"),
        "Meta-PerSER:INI+DA": ("7, 60 of 150", "0, 15", "12.5", "1 of 1"),
        "Meta-PerSER:all": ("7, 7 of 150", "0, 0", "—", "—"),
    }
    (parts,) = [table for table in result_tables(study) if "DA" in [column.name for column in table.columns]]
    (note,) = [note for note in parts.notes if note.startswith("Derivative annealing")]
    assert "taken by Meta-PerSER:all in every fold; Meta-PerSER:INI+DA in 1 of 2 folds" in note
