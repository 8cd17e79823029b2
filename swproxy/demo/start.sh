#!/usr/bin/env bash
# From a fresh checkout to the running demo: installs venv if it is missing, swproxy into .venv,
# and starts. Arguments go to `swproxy demo`.
set -euo pipefail
trap 'exit 130' INT
cd "$(dirname "$0")/../.."

.ci/venv
exec .venv/bin/swproxy demo "$@"
