#!/bin/sh
# byte_code.sh VENV: compile what every start imports, so that the image starts quickly and is
# the same twice.
#
# The image never writes byte code (its root may be read-only). "unchecked-hash" (PEP 552) lets
# no modification time in: two builds agree, and the layers' rewritten timestamps leave the
# files valid. Everything would be three times as many files for no start that needs them.
set -eu
export PYTHONHASHSEED=0
"$1/bin/python" -I -B >/tmp/imported <<'P'
import sys, dvc.cli.parser, dvc.repo, hydra.core.plugins, hypothesis, pydantic, pytest, xdist.plugin
import safetensors.torch, torch
dvc.cli.parser.get_main_parser()  # brings every command
hydra.core.plugins.Plugins.instance()
files = {getattr(module, "__file__", None) for module in list(sys.modules.values())}
print(*sorted(name for name in files if name and name.startswith("/opt/") and name.endswith(".py")), sep="\n")
P
"$1/bin/python" -m compileall -q -f --invalidation-mode unchecked-hash -i /tmp/imported
rm /tmp/imported
