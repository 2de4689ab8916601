"""The commands of ``metaperser``, one file each.

A command's module has ``add(commands)``, which adds its parser, and ``run(arguments)``, which returns the exit status.
Slow imports happen inside ``run``, so that help is instant.
"""

from s3prl_metaperser.commands import (
    adapt,
    audit_split,
    card,
    cell,
    convert_labels,
    demo,
    demo_corpora,
    demo_corpus,
    doctor,
    episodes,
    export,
    fetch_upstream,
    leaderboard,
    listen,
    listing,
    plan,
    predict,
    pretrain,
    publish,
    report,
    run,
    score,
    status,
    validate,
)

#: in the order of the help text
COMMANDS = (
    demo,
    doctor,
    cell.TRAIN,
    cell.EVALUATE,
    validate,
    audit_split,
    card,
    demo_corpus,
    demo_corpora,
    plan,
    run,
    status,
    report,
    leaderboard,
    publish,
    export,
    adapt,
    predict,
    pretrain,
    listen,
    convert_labels,
    episodes,
    score,
    fetch_upstream,
    listing,
)
