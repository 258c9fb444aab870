"""Kills: at each change of a file, and by signals at any time; then the same command, and the same
outcome, with an audit that is intact."""

import contextlib
import os
import random
import signal
import time

import pytest

from trust.workshop import COMMANDS, whole_so_far

SIGNALS = [signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGSTOP]
ALIKE = (signal.SIGINT, signal.SIGHUP)  # to SIGTERM: in the long lists


def changes(workshop, name: str, kill_at: int) -> bool:
    """Kill a command just before its change number `kill_at`, and go on; whether it came so far."""
    project = workshop.project(COMMANDS[name].state)
    attempt = workshop.start(project, COMMANDS[name].argv, hurt={"kill_at": kill_at})
    (code,) = attempt.codes()
    assert code in (0, -signal.SIGKILL), attempt.log()
    if code:
        workshop.finish(name, project, code)
    return bool(code)


@pytest.mark.parametrize("name", ["evaluate stage", "restore", "repair"])
def test_a_command_killed_at_a_change_of_a_file_is_ended_by_the_same_command(workshop, name):
    assert changes(workshop, name, 7)


@pytest.mark.timeout(3000)
@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.faults if name == "train stage" else pytest.mark.slow)
        for name in COMMANDS
    ],
)
def test_a_command_killed_at_any_change_of_a_file_is_ended_by_the_same_command(workshop, name):
    """Each of the first changes, then ever fewer: those of a training are alike."""
    kill_at = 1
    while changes(workshop, name, kill_at):
        kill_at += 1 + kill_at // 6
    assert kill_at > 2


@pytest.mark.timeout(3000)
@pytest.mark.parametrize(
    "number",
    [
        pytest.param(n, id=n.name, marks=pytest.mark.faults if n in ALIKE else pytest.mark.slow)
        for n in SIGNALS
    ],
)
@pytest.mark.parametrize("name", COMMANDS)
def test_a_signal_at_any_time_to_the_leader_or_the_group_leaves_no_mark(workshop, name, number):
    workshop.expected(name)
    for whom in (os.kill, os.killpg):
        project = workshop.project(COMMANDS[name].state)
        # `hurt` also makes the command lead a group
        attempt = workshop.start(project, COMMANDS[name].argv, hurt={})
        (pid,) = attempt.pids
        time.sleep(random.Random(f"{name} {number} {whom.__name__}").uniform(0.01, 0.6))
        with contextlib.suppress(ProcessLookupError):
            whom(pid, number)
            if number == signal.SIGSTOP:
                time.sleep(0.1)
                whole_so_far(project)
                whom(pid, signal.SIGCONT)
        (code,) = attempt.codes()
        if not attempt.log().endswith("KeyboardInterrupt\n"):  # else it had not begun
            assert "Traceback" not in attempt.log(), attempt.log()
        workshop.finish(name, project, code)
