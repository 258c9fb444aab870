#!/bin/sh
# Start a command in the image: a home that any user may write, and a word on the GPU's health.
visible() { LC_ALL=C tr -c '[:print:]\n\t' '?'; } # no command to the terminal
mkdir -p "$HOME" 2>/dev/null ||
    echo "note: $HOME cannot be written; with a read-only root give --tmpfs /tmp" | visible >&2
if [ "${VARIANT:-}" = cuda ]; then
    fields=index,name,driver_version,temperature.gpu,memory.used,memory.total
    fields=$fields,ecc.errors.uncorrected.volatile.total
    gpu=$(nvidia-smi --format=csv,noheader --query-gpu=$fields 2>&1) ||
        gpu="none can be used in this container (docker run --gpus all)"
    # on standard error: standard output belongs to the command (--json)
    echo "$gpu" | visible | sed 's/^/GPU: /' >&2
fi
exec "$@"
