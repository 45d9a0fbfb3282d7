#!/usr/bin/env bash
# Every check and every test, in the order in which they are cheap. Needs a Rust toolchain; installs what else it uses.
set -euo pipefail
cd "$(dirname "$0")/.."

step() { printf '\n== %s\n' "$*"; }

step 'format'
cargo fmt --all --check

step 'lints'
cargo clippy --workspace --all-targets --all-features --quiet -- -D warnings

step 'dependency rules'
command -v cargo-deny >/dev/null || cargo install cargo-deny --locked --quiet
cargo deny --all-features check bans licenses sources
# What tests may use and what is built for use may not.
forbid() {
  local crates=$1 tree
  shift
  tree=$(cargo tree --edges normal,build --all-features --prefix none "$@")
  if grep -E "^($crates)" <<<"$tree"; then
    echo "an arrow that is not allowed: $*" >&2
    exit 1
  fi
}
# The programs that measure, break and attack the service are no part of it.
forbid vestibule-testkit --workspace --exclude vestibule-testkit --exclude vestibule-bench --exclude vestibule-chaos --exclude vestibule-simulate
forbid vestibule-port- -p vestibule-http --depth 1
forbid 'tokio|futures|actix|diesel' -p vestibule-domain
# Nothing of the service's is in it.
forbid 'vestibule-[^v]' -p vestibule-verifier
forbid 'vestibule-[^m]' -p vestibule-meter

step 'Postgres'
scripts/find-postgres.sh

step 'tests'
cargo test --workspace --all-features --quiet

step 'documentation'
RUSTDOCFLAGS='-D warnings' cargo doc --workspace --no-deps --quiet
