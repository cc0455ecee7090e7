#!/usr/bin/env bash
# Measures `pulso serve` beside the stack that the shops had planned (bench/peers/node), and the time from a commit to its event.
# Further arguments go to pulso-bench: --sales, --seconds.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

missing=()
command -v node >/dev/null || missing+=(nodejs)              # runs the peer
command -v npm >/dev/null || missing+=(npm)                  # installs what the peer needs, by its lock file
command -v wrk >/dev/null || missing+=(wrk)                  # the load
command -v redis-server >/dev/null || missing+=(redis-server) # the peer's cache
if [ ${#missing[@]} -gt 0 ]; then
  if ! command -v apt-get >/dev/null || [ "$(id -u)" -ne 0 ]; then
    echo "bench-api: ${missing[*]} must be installed first" >&2
    exit 1
  fi
  echo "bench-api: installs ${missing[*]}, for the peer and the load"
  RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive apt-get install -y -qq -o Dpkg::Use-Pty=0 --no-install-recommends "${missing[@]}" </dev/null >/dev/null
fi
npm ci --prefix bench/peers/node --omit=dev --ignore-scripts --no-audit --no-fund --loglevel=error </dev/null
cargo build --release --locked --package pulso --package pulso-bench
exec target/release/pulso-bench live api --record "$@"
