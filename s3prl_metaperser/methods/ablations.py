"""The six rows of Table 2 by name: Meta-PerSER with its four parts switched on and off (sections 2.3 and 4.3).

A row sets ``metarc``'s four switches, whatever the configuration says, and leaves everything else as it is; the
options of runs, checkpoints and results are those in force. The first row is MAML from a random head: a support and a
query set, second-order gradients throughout, one fixed inner rate. Rows two to five are in the order in which the
paper's prose names the parts; which published row is which part cannot be read from it (the tick marks are lost).
"""

from __future__ import annotations

import dataclasses

from s3prl_metaperser.config.options import Options
from s3prl_metaperser.methods import DEFAULT_SYSTEM, facts_of, table2_rows
from s3prl_metaperser.methods.base import System
from s3prl_metaperser.methods.meta_perser import MetaPerSER
from s3prl_metaperser.methods.meta_perser_entire import MetaPerSEREntire

#: Part of the method, as Table 2 abbreviates it -> its switch in ``metarc``.
SWITCHES = {part: option.rpartition(".")[2] for part, option in facts_of(DEFAULT_SYSTEM).parts.items()}
#: Row -> the parts that are on.
ROWS = table2_rows()


def row(base: type[System], name: str) -> type[System]:
    """``base`` as a row of Table 2.

    Args:
        base: Meta-PerSER in one of the scopes.
        name: of ``ROWS``.
    """
    switches = {option.rpartition(".")[2]: on for option, on in facts_of(name).fixed.items()}

    class Row(base):
        __doc__ = f"{base.__name__} with {', '.join(ROWS[name]) or 'none of its parts'} switched on."

        @classmethod
        def options_in_force(cls, options: Options) -> Options:
            expert = options.downstream_expert
            metarc = dataclasses.replace(expert.metarc, **switches)
            return dataclasses.replace(options, downstream_expert=dataclasses.replace(expert, metarc=metarc))

    Row.name = name
    Row.__name__ = Row.__qualname__ = f"{base.__name__}_{'_'.join(ROWS[name]) or 'none'}"
    return Row


NONE, INI, INI_CSMT, INI_DA, INI_LSLR, ALL = (row(MetaPerSER, name) for name in ROWS)
ENTIRE_NONE, ENTIRE_INI, ENTIRE_INI_CSMT, ENTIRE_INI_DA, ENTIRE_INI_LSLR, ENTIRE_ALL = (
    row(MetaPerSEREntire, name) for name in ROWS
)
