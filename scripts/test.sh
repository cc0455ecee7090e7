#!/usr/bin/env bash
# Runs every test and ends with one line: N passed, N failed, N skipped. Where this machine can have other versions of
# PostgreSQL (scripts/servers.sh), the quick tests of the engine run on each of them as well.
# A test that cannot run here says `SKIPPED: …` and returns; cargo counts it as passed, this line does not.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# Tests make their own servers: one that happens to be set must not be touched.
unset DATABASE_URL PULSO_DATA_DIR
log=$(mktemp)
trap 'rm -f "$log"' EXIT

# What some tests talk to. Without it they say so and are skipped. RUNLEVEL=1: installed, it is not to be started.
missing=()
[ -x /usr/sbin/pgbouncer ] || missing+=(pgbouncer)      # through which the service's reads are tested
[ -x /usr/bin/redis-server ] || missing+=(redis-server) # in which nodes of the service share answers
if [ ${#missing[@]} -gt 0 ] && command -v apt-get >/dev/null && [ "$(id -u)" -eq 0 ]; then
  echo "test: installs ${missing[*]}, for the tests of the service"
  RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive apt-get install -y -qq -o Dpkg::Use-Pty=0 --no-install-recommends "${missing[@]}" </dev/null >/dev/null ||
    echo "test: apt does not install ${missing[*]}"
fi

status=0
# Only for a run of everything.
servers=
if [ $# -eq 0 ]; then servers=$(bash scripts/servers.sh --if-possible); fi
# The extension is a library for the inside of a server, where cargo cannot run tests; tests/ drives it from outside.
cargo test --locked --workspace --exclude pulso-extension --no-fail-fast "$@" </dev/null 2>&1 | tee "$log" || status=$?
for bin in $servers; do
  printf '\nthe engine on %s\n' "$("$bin/postgres" --version)"
  PULSO_TEST_LONG='' PULSO_PG_BINDIR="$bin" cargo test --locked --test engine --no-fail-fast -- \
    statements:: partitions:: joins:: refusals:: install:: restore:: upgrade:: </dev/null 2>&1 | tee -a "$log" || status=$?
done

awk '
  /^test result: / { for (i = 2; i <= NF; i++) { if ($i ~ /^passed/) passed += $(i-1); if ($i ~ /^failed/) failed += $(i-1); if ($i ~ /^ignored/) ignored += $(i-1) } }
  /SKIPPED: /      { skipped++ }
  END { if (skipped) print ""; printf "%d passed, %d failed, %d skipped\n", passed - skipped, failed, skipped + ignored }
' "$log" >"$log.sum"
if grep -q 'SKIPPED: ' "$log"; then printf '\nskipped:\n'; grep 'SKIPPED: ' "$log" | sed 's/.*SKIPPED: /  /' | sort | uniq -c | sed 's/^ *1  / /'; fi
if [ "$status" -ne 0 ] && ! grep -q '^test result: ' "$log"; then echo "the tests did not build"; fi
cat "$log.sum"
rm -f "$log.sum"
exit "$status"
