#!/usr/bin/env bash
# From a fresh checkout to the running demo: installs venv if it is missing, swproxy into .venv,
# and starts. Arguments go to `swproxy demo`.
set -euo pipefail
cd "$(dirname "$0")/../.."

if ! python3 -c 'import ensurepip, venv' 2>/dev/null; then
    as_root=()
    [ "$(id -u)" = 0 ] || as_root=(sudo)
    "${as_root[@]}" apt-get -qq update
    DEBIAN_FRONTEND=noninteractive "${as_root[@]}" apt-get -qq -y --no-install-recommends \
        install python3-venv >/dev/null
fi

export PIP_DISABLE_PIP_VERSION_CHECK=1
if [ ! -x .venv/bin/python ]; then
    echo "Installing swproxy into .venv, which takes half a minute."
    python3 -m venv .venv
fi
.venv/bin/pip install --quiet .
exec .venv/bin/swproxy demo "$@"
