#!/usr/bin/env bash
# bench/session.sh [--quick] [PART]...: measures what README.md and docs/ tell, and writes it there.
#
# Without parts it is all of them, and takes three quarters of an hour on a machine that has nothing
# else to do. What each has measured stays in .bench/, so one of them can be measured anew.
set -euo pipefail
cd "$(dirname "$0")/.."

quick=()
if [ "${1-}" = --quick ]; then
    quick=(--quick)
    shift
fi
[ $# -gt 0 ] || set -- first_byte streams requests beside bodies silent over_http ours workers store limits \
    metering
mkdir -p .bench

measure() { bench/run "$@" "${quick[@]}" --json ".bench/$part.json"; }
https=(--only upstream=https)

first_byte() { measure ttfb "${https[@]}" --only concurrency=1; }
streams() { measure sse "${https[@]}" --only streams=5,20,60,150; }
requests() { measure small "${https[@]}" --only concurrency=1,64,512 --rounds 2; }
bodies() { measure bulk "${https[@]}" --rounds 5; }
beside() { measure beside --subjects direct,swproxy,nginx,go; }
silent() { measure idle "${https[@]}" --only streams=200,1000 --rounds 1; }
over_http() { measure bulk --only upstream=http --rounds 3 --subjects direct,swproxy,nginx; }
ours() {
    measure idle slow sign import --only streams=0,5000 --rounds 2 --subjects direct,swproxy,nginx
}
workers() { measure workers accept --subjects swproxy,nginx; }
store() { measure store fleet; }
limits() { measure limits judge --rounds 5; }
metering() { measure meter --rounds 6; }

for part; do
    echo "== $part"
    "$part"
done
.venv-bench/bin/python -m bench.publish .bench/*.json
