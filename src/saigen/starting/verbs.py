"""The verbs that make a project of a clone. Each imports what it needs when it runs."""

from saigen import exit_codes
from saigen.command_line import ROOT, Chosen, Verb


def _init(chosen: Chosen) -> None:
    from saigen.starting.init import QUESTIONS, init

    given = {key: value for key in QUESTIONS if (value := getattr(chosen, key)) is not None}
    template = (chosen.source or "", chosen.commit or "") if chosen.source else None
    init(ROOT, given, print, fresh=chosen.fresh_history, template=template)


def _remove_example(chosen: Chosen) -> None:  # noqa: ARG001
    from saigen.starting.example import remove

    remove(ROOT, print)


def _init_data(chosen: Chosen) -> None:
    from saigen.starting.init_data import init_data

    given = {key: getattr(chosen, key) for key in ("name", "target", "task")}
    init_data(ROOT, chosen.table, given, print)


def _update(chosen: Chosen) -> int:
    from saigen.starting.update import update

    whole = update(ROOT, chosen.source, chosen.commit, print)
    return exit_codes.DONE if whole else exit_codes.FAILED


def _provenance(chosen: Chosen) -> None:
    from saigen.starting.provenance import write

    write(ROOT, {"source": chosen.source, "conditions": chosen.conditions}, print)


VERBS: tuple[tuple[Verb, str, str], ...] = (
    (_init, "make a project of this clone: its name, licence, README, defaults",
     "--name --description --author --license --reproducibility --hardware --remote "
     "--source --commit --fresh-history"),
    (_remove_example, "take the example away, for data and code of your own", ""),
    (_init_data, "a table -> snapshot, configs and source of a first training",
     "table --target --task --name"),
    (_provenance, "write what the snapshot in use is: digest, rows, when, and what you say of it",
     "--source --conditions"),
    (_update, "bring a newer instrument from the template", "--source --commit"),
)  # fmt: skip
