#!/usr/bin/env bash
# Installs what Pulso needs on this machine, builds its extension and installs that into every PostgreSQL 15 to 18
# found here. Safe to run again: when all is there and nothing changed it only looks, which takes a second.
#
#   PG_CONFIG=/path/to/pg_config   looks at that PostgreSQL only
#   PULSO_SETUP_FORCE=1            builds and installs although nothing changed
#
# cargo-pgrx is not needed. It does three things: it tells pgrx where each pg_config is (two lines in
# $PGRX_HOME/config.toml, written below), it generates the extension's SQL from the library (ours is written by hand,
# in extension/sql; `create extension` looks up each function in the library, so the tests notice any that is
# missing), and it copies three files. Building cargo-pgrx takes longer than everything here.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

readonly RUST_NEEDED=1.92
readonly MAJORS="15 16 17 18"
readonly TARGET="${CARGO_TARGET_DIR:-$PWD/target}"

say() { printf 'setup: %s\n' "$*"; }
die() { printf 'setup: %s\n' "$1" >&2; shift; for line in "$@"; do printf '       %s\n' "$line" >&2; done; exit 1; }

# Runs a command as root: directly, or through sudo.
as_root() {
  if [ "$(id -u)" -eq 0 ]; then "$@"
  elif command -v sudo >/dev/null; then sudo "$@"
  else die "this needs root: $*" "There is no sudo here; run it as root, then \`make setup\` again."
  fi
}

# ---- what is here -----------------------------------------------------------------------------------------------

# The pg_config of each PostgreSQL server found, one a line.
pg_configs() {
  if [ -n "${PG_CONFIG:-}" ]; then echo "$PG_CONFIG"; return; fi
  local path
  for path in /usr/lib/postgresql/*/bin/pg_config /usr/pgsql-*/bin/pg_config "$(command -v pg_config || true)"; do
    [ -x "$path" ] && [ -x "$("$path" --bindir)/postgres" ] && echo "$("$path" --bindir)/pg_config"
  done | sort -u
}

major_of() { "$1" --version | sed -E 's/^PostgreSQL ([0-9]+).*/\1/'; }

# Headers of another minor version than the server's would build a library for a server that is not there.
headers_fit() {
  local header; header="$("$1" --includedir-server)/pg_config.h"
  local server; server="$("$("$1" --bindir)/postgres" --version | sed -E 's/^postgres \(PostgreSQL\) ([^ ]+).*/\1/')"
  # Some distributions keep the real one beside it, under the name of the architecture.
  grep -qsF -e "#define PG_VERSION \"$server\"" -e "#define PG_VERSION \"$server " \
    "$header" "$(dirname "$header")"/pg_config_*.h
}

# Servers to build for: "major pg_config" a line, supported and with fitting headers, one per major.
servers() {
  local config major
  pg_configs | while read -r config; do
    major=$(major_of "$config")
    case " $MAJORS " in *" $major "*) if headers_fit "$config"; then echo "$major $config"; fi ;; esac
  done | sort -un -k1,1
}

# bindgen needs the library and the compiler's own headers (stddef.h and the like).
have_libclang() {
  [ -n "${LIBCLANG_PATH:-}" ] && return 0
  local dir
  for dir in /usr/lib/llvm-*/lib /usr/lib64 /usr/lib /usr/local/lib /opt/homebrew/opt/llvm/lib; do
    if compgen -G "$dir/libclang.so*" >/dev/null || compgen -G "$dir/libclang.dylib" >/dev/null; then
      compgen -G "$dir/clang/*/include/stddef.h" >/dev/null && return 0
    fi
  done
  return 1
}

# ---- the system's packages --------------------------------------------------------------------------------------

# The newest supported PostgreSQL this machine's package sources offer.
newest_offered() {
  local major newest=
  for major in $MAJORS; do
    if [ -n "$(apt-cache show --no-all-versions "postgresql-$major" 2>/dev/null)" ]; then newest=$major; fi
  done
  echo "$newest"
}

install_packages() {
  local wanted=() config major reason=()
  command -v cc >/dev/null || { wanted+=(gcc libc6-dev); reason+=("a C compiler and linker, for the Rust build"); }
  command -v make >/dev/null || { wanted+=(make); reason+=("make, for the targets of the Makefile"); }
  command -v pkg-config >/dev/null || { wanted+=(pkg-config); reason+=("pkg-config, with which pgrx finds libraries"); }
  have_libclang || { wanted+=(libclang-dev); reason+=("libclang, with which pgrx reads PostgreSQL's headers"); }

  local need_server=
  if [ -z "$(servers)" ]; then need_server=1; fi
  [ ${#wanted[@]} -eq 0 ] && [ -z "$need_server" ] && return 0

  if ! command -v apt-get >/dev/null; then
    [ -z "$need_server" ] || reason+=("a PostgreSQL 15 to 18 server, and its server headers of the very same version")
    die "these are missing, and only Debian's and Ubuntu's package manager is known here:" "${reason[@]}" \
      "Install them, put pg_config in PATH (or set PG_CONFIG), and run \`make setup\` again."
  fi
  say "asks apt for the newest package lists"
  as_root env DEBIAN_FRONTEND=noninteractive apt-get update -qq </dev/null
  if [ -n "$need_server" ]; then
    # The newest server that is here already, else the newest there is. Server and headers together, so that both
    # have the same version.
    major=
    while read -r config; do
      case " $MAJORS " in *" $(major_of "$config") "*) major=$(major_of "$config") ;; esac
    done < <(pg_configs)
    major=${major:-$(newest_offered)}
    [ -n "$major" ] || die "no PostgreSQL 15 to 18 is offered by this machine's package sources" \
      "Add the PostgreSQL project's own package source for your distribution, then run \`make setup\` again."
    wanted+=("postgresql-$major" "postgresql-server-dev-$major")
    reason+=("PostgreSQL $major with the server headers of the same version, to run and to build the extension")
  fi
  say "installs ${wanted[*]}:"
  printf '       %s\n' "${reason[@]}"
  as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq -o Dpkg::Use-Pty=0 --no-install-recommends "${wanted[@]}" </dev/null
  [ -n "$(servers)" ] || die "the PostgreSQL server and its headers still differ in version" \
    "See: apt-cache policy postgresql-$major postgresql-server-dev-$major"
}

check_rust() {
  if ! command -v cargo >/dev/null && [ -x "$HOME/.cargo/bin/cargo" ]; then export PATH="$HOME/.cargo/bin:$PATH"; fi
  command -v cargo >/dev/null || die "cargo is not here: Rust $RUST_NEEDED or newer is needed" \
    "Install it with rustup, the Rust project's installer, or from your distribution if it is new enough."
  local version; version=$(rustc --version | cut -d' ' -f2)
  if [ "$(printf '%s\n%s\n' "$RUST_NEEDED" "$version" | sort -V | head -n1)" != "$RUST_NEEDED" ]; then
    die "Rust $version is too old: $RUST_NEEDED or newer is needed" "With rustup: rustup update stable"
  fi
}

# ---- the extension ----------------------------------------------------------------------------------------------

write_pgrx_config() {
  local config="[configs]" major path
  while read -r major path; do config+=$'\n'"pg$major = \"$path\""; done < <(servers)
  mkdir -p "$PGRX_HOME"
  # Only when it differs: its time of change would make cargo build anew.
  if [ "$(cat "$PGRX_HOME/config.toml" 2>/dev/null)" != "$config" ]; then printf '%s\n' "$config" >"$PGRX_HOME/config.toml"; fi
}

# What a build depends on: the sources, the locked dependencies, the compiler and the server.
sources_hash() {
  { find extension -name target -prune -o -type f -print0 | LC_ALL=C sort -z | xargs -0 sha256sum
    sha256sum Cargo.toml Cargo.lock; rustc --version; "$1" --version; } | sha256sum | cut -d' ' -f1
}

installed_hash() {
  local share; share="$("$1" --sharedir)/extension"
  cat "$("$1" --pkglibdir)/pulso.so" "$share/pulso.control" "$share"/pulso--*.sql 2>/dev/null | sha256sum | cut -d' ' -f1
}

# A running server has the old library mapped: write beside it and rename, never into it.
put() {
  local mode=$1 from=$2 to=$3 as=as_root
  if [ -w "$(dirname "$to")" ]; then as=; fi
  $as install -m "$mode" "$from" "$to.new"
  $as mv -f "$to.new" "$to"
}

build_and_install() {
  local major=$1 config=$2 stamp sources file
  stamp="$TARGET/setup/pg$major-$(printf %s "$config" | cksum | cut -d' ' -f1).stamp"
  sources=$(sources_hash "$config")
  if [ -z "${PULSO_SETUP_FORCE:-}" ] && [ "$(cat "$stamp" 2>/dev/null)" = "$sources $(installed_hash "$config")" ]; then
    say "the extension in PostgreSQL $major is up to date"
    return
  fi
  say "builds the extension for PostgreSQL $major (the first time takes a few minutes)"
  cargo build --profile engine --locked --package pulso-extension --no-default-features --features "pg$major" </dev/null
  say "installs it into $("$config" --pkglibdir) and $("$config" --sharedir)/extension"
  mkdir -p "$("$config" --pkglibdir)" "$("$config" --sharedir)/extension" 2>/dev/null ||
    as_root mkdir -p "$("$config" --pkglibdir)" "$("$config" --sharedir)/extension"
  put 755 "$TARGET/engine/libpulso.so" "$("$config" --pkglibdir)/pulso.so"
  put 644 extension/pulso.control "$("$config" --sharedir)/extension/pulso.control"
  for file in extension/sql/pulso--*.sql; do put 644 "$file" "$("$config" --sharedir)/extension/${file##*/}"; done
  mkdir -p "$(dirname "$stamp")"
  echo "$sources $(installed_hash "$config")" >"$stamp"
}

check_rust
install_packages
export PGRX_HOME="${PGRX_HOME:-$TARGET/pgrx-home}"
write_pgrx_config
while read -r major config <&3; do build_and_install "$major" "$config"; done 3< <(servers)
while read -r config; do
  case " $MAJORS " in *" $(major_of "$config") "*) headers_fit "$config" ||
    say "PostgreSQL $(major_of "$config") in $("$config" --bindir) has no server headers of its version: not built for it" ;; esac
done < <(pg_configs)
say "ready"
