#!/usr/bin/env bash
# Format, clippy (the extension too), shell scripts. Any warning is a failure.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

PGRX_HOME="${CARGO_TARGET_DIR:-$PWD/target}/pgrx-home"
export PGRX_HOME
newest=$(sed -n 's/^\(pg[0-9]*\) = .*/\1/p' "$PGRX_HOME/config.toml" 2>/dev/null | tail -n1)
[ -n "$newest" ] || { echo "lint: run \`make setup\` first" >&2; exit 1; }

status=0
cargo fmt --all --check || status=1
cargo clippy --locked --workspace --exclude pulso-extension --all-targets -- --deny warnings || status=1
cargo clippy --locked --package pulso-extension --no-default-features --features "$newest" -- --deny warnings || status=1
if command -v shellcheck >/dev/null; then shellcheck scripts/*.sh .ci/run || status=1
else echo "lint: shellcheck is not here; the shell scripts were not looked at"
fi
exit "$status"
