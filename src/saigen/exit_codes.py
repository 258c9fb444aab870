"""The exit codes of every verb, as README.md and docs/design.md list them."""

DONE = 0  # or: the same, held, equivalent, better
FAILED = 1  # or: differs, broken, worse
REFUSED = 2  # nothing was done
INCONCLUSIVE = 3  # neither: too few runs to compare, or a claim that could not be tried
INTERRUPTED = 130  # by Ctrl-C, as shells count it
STOPPED = 143  # by SIGTERM or SIGHUP, in training at a checkpoint
