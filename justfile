# Start the service on its embedded default.
run:
    cargo run

# Every check and every test.
test:
    scripts/test.sh

# The figures, measured in one run: `postgres`, `protection`, `sqlite`, or all of them.
bench *parts:
    cargo build --release -p vestibule-server -p vestibule-bench
    target/release/vestibule-bench {{parts}}

# How many tokens a second the `verifier` crate checks on one core. A few seconds after the build.
bench-verifier:
    cargo bench -p vestibule-verifier --bench verify

# Four instances and all that they need, killed under load, and an audit of what is left. Under five minutes.
chaos *arguments:
    cargo build --release -p vestibule-server -p vestibule-chaos
    target/release/vestibule-chaos {{arguments}}

# The same audit where commits are lost: it must find that, or it proves nothing.
chaos-control:
    cargo build --release -p vestibule-server -p vestibule-chaos
    target/release/vestibule-chaos --control

# Crowds and attacks against real instances, with the counts: `ceiling`, `botnet`, `pumping`, or all of them.
simulate *arguments:
    cargo build --release -p vestibule-server -p vestibule-simulate
    target/release/vestibule-simulate {{arguments}}

# Whether a deployment tells which numbers have an account; see docs/operations.md.
meter *arguments:
    cargo run --release -p vestibule-meter -- {{arguments}}

# Lines per crate.
lines:
    for crate in crates/* crates/ports/* crates/adapters/*; do [ -d "$crate/src" ] && printf '%6d %s\n' "$(cat $(find "$crate/src" -name '*.rs') | wc -l)" "$crate"; done
