#!/usr/bin/env bash
# Other PostgreSQL servers for the tests: 17 and 18, of later releases of Debian than this machine's may be, with
# TimescaleDB (and pg_ivm), and with Pulso's extension built for each.
#
# They are unpacked, not installed. mmdebstrap's variant `extract` fetches the packages with all that they need, and the
# programs are told (patchelf) to load the C library that lies beside them. So they run where they are: no chroot, no
# mounts, no root, and `PULSO_PG_BINDIR=…/bin` starts one anywhere that it could start any other.
#
#   scripts/servers.sh                 makes them, brings the extension in them up to date, prints their bin directories
#   scripts/servers.sh --if-possible   the same for `make test`: a machine that cannot says why, and that is no failure.
#                                      An extension that does not build is.
#   PULSO_SERVERS=DIR                  where they are kept; `none` makes none
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# Release of Debian, major version, further packages.
readonly WANTED="
trixie 17 postgresql-17-timescaledb
forky  18 postgresql-18-timescaledb,postgresql-18-pg-ivm
"
readonly TARGET="${CARGO_TARGET_DIR:-$PWD/target}"
readonly IF_POSSIBLE="${1:-}"

# Outside of the checkout, and where the account can look that runs servers for root. tests/common looks there as well.
place() {
  if [ -n "${PULSO_SERVERS:-}" ]; then echo "$PULSO_SERVERS"
  elif [ "$(id -u)" -eq 0 ]; then echo /var/cache/pulso/servers
  else echo "${XDG_CACHE_HOME:-$HOME/.cache}/pulso/servers"
  fi
}
DIR=$(place)
readonly DIR

say() { printf 'servers: %s\n' "$*" >&2; }
# This machine cannot have them.
cannot() {
  say "PostgreSQL 17 and 18 are not here for the tests: $1"
  if [ "$IF_POSSIBLE" = --if-possible ]; then exit 0; fi
  exit 1
}
as_root() {
  if [ "$(id -u)" -eq 0 ]; then "$@"; elif command -v sudo >/dev/null; then sudo "$@"; else cannot "no root and no sudo to run: $*"; fi
}

# Where this machine's apt gets Debian from.
mirror() {
  apt-get indextargets --format '$(ORIGIN)|$(LABEL)|$(COMPONENT)|$(SITE)' 'Created-By: Packages' |
    sed -n 's/^Debian|Debian|main|//p' | head -n1
}

install_tools() {
  local missing=()
  command -v mmdebstrap >/dev/null || missing+=(mmdebstrap)
  command -v patchelf >/dev/null || missing+=(patchelf)
  [ ${#missing[@]} -eq 0 ] && return 0
  say "installs ${missing[*]}"
  as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq -o Dpkg::Use-Pty=0 --no-install-recommends "${missing[@]}" </dev/null >&2 ||
    cannot "apt does not install ${missing[*]}"
}

# The tree of one server, complete or not at all.
make_tree() {
  local release=$1 major=$2 packages="postgresql-$2,postgresql-server-dev-$2,$3" tree="$DIR/$1" new="$DIR/$1.new" site
  if [ "$(cat "$tree/pulso-packages" 2>/dev/null)" = "$packages" ]; then return 0; fi
  command -v apt-get >/dev/null || cannot "only Debian's package manager is known here"
  # Its lists may have been dropped, as images do; where it gets Debian from is only known with them.
  [ -n "$(mirror)" ] || as_root apt-get update -qq </dev/null >&2 || true
  site=$(mirror)
  [ -n "$site" ] || cannot "apt's sources name no mirror of Debian"
  install_tools
  say "unpacks PostgreSQL $major of $release into $tree"
  rm -rf "$new"
  # A mirror's copy of a release in the making may be older than the release says it is good for.
  if ! mmdebstrap --quiet --variant=extract --aptopt='Acquire::Check-Valid-Until "false"' --include="$packages" \
    "$release" "$new" "deb $site $release main" </dev/null >"$DIR/$release.log" 2>&1; then
    tail -n 5 "$DIR/$release.log" >&2
    cannot "mmdebstrap does not unpack $release (all it says is in $DIR/$release.log)"
  fi
  # Headers come with a whole compiler, which is the host's business, and nobody compiles queries in tests.
  rm -rf "$new"/usr/lib/llvm-* "$new"/usr/lib/*/libLLVM* "$new"/usr/lib/*/libclang* "$new"/usr/lib/postgresql/*/lib/llvmjit* \
    "$new"/usr/lib/postgresql/*/lib/bitcode "$new"/usr/share/{doc,man,locale,info} "$new"/usr/lib/gcc "$new"/var/cache
  chmod 755 "$new"
  rm -rf "$tree"
  mv "$new" "$tree"
  local program libraries loader
  libraries=$(dirname "$(find "$tree/usr/lib" -name libc.so.6 | head -n1)")
  for program in "$tree/usr/lib/postgresql/$major/bin"/*; do
    loader=$(patchelf --print-interpreter "$program" 2>/dev/null) || continue
    # As an rpath proper it also holds for the libraries of libraries.
    patchelf --set-interpreter "$tree/usr$loader" --force-rpath --set-rpath "$libraries" "$program"
  done
  "$tree/usr/lib/postgresql/$major/bin/postgres" --version >/dev/null || cannot "the programs of $release do not run here"
  echo "$packages" >"$tree/pulso-packages"
}

# A PgBouncer that keeps prepared statements (1.21 or newer), for the tests of the service.
make_pooler() {
  local tree="$DIR/pgbouncer" new="$DIR/pgbouncer.new" site libraries loader
  [ -x "$tree/usr/sbin/pgbouncer" ] && return 0
  site=$(mirror)
  [ -n "$site" ] || return 0
  install_tools
  say "unpacks PgBouncer of trixie into $tree"
  rm -rf "$new" "$tree"
  if ! mmdebstrap --quiet --variant=extract --include=pgbouncer trixie "$new" "deb $site trixie main" </dev/null >"$DIR/pgbouncer.log" 2>&1; then
    say "PgBouncer of trixie is not here for the tests: mmdebstrap does not unpack it"
    return 0
  fi
  rm -rf "$new"/usr/share "$new"/var
  chmod 755 "$new"
  mv "$new" "$tree"
  libraries=$(dirname "$(find "$tree/usr/lib" -name libc.so.6 | head -n1)")
  loader=$(patchelf --print-interpreter "$tree/usr/sbin/pgbouncer")
  patchelf --set-interpreter "$tree/usr$loader" --force-rpath --set-rpath "$libraries" "$tree/usr/sbin/pgbouncer"
  "$tree/usr/sbin/pgbouncer" --version >/dev/null || rm -rf "$tree"
}

[ "$DIR" != none ] || cannot "PULSO_SERVERS is none"
mkdir -p "$DIR"
exec 9>"$DIR/lock"
flock 9
while read -r release major packages <&3; do
  [ -n "$release" ] || continue
  make_tree "$release" "$major" "$packages"
  bin="$DIR/$release/usr/lib/postgresql/$major/bin"
  # pgrx is told of one server only, at a place of its own: what is told to another build would make this one start anew.
  PGRX_HOME="$TARGET/servers/pg$major" PG_CONFIG="$bin/pg_config" bash scripts/setup.sh </dev/null >&2
  echo "$bin"
done 3<<<"$WANTED"
make_pooler
