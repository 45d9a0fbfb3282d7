# Start the service on its embedded default.
run:
    cargo run

# Every check and every test.
test:
    scripts/test.sh

# The figures, measured in one run.
bench:
    cargo build --release --workspace
    cargo run --release --workspace --bin vestibule-bench

# Lines per crate.
lines:
    for crate in crates/* crates/ports/* crates/adapters/*; do [ -d "$crate/src" ] && printf '%6d %s\n' "$(cat $(find "$crate/src" -name '*.rs') | wc -l)" "$crate"; done
