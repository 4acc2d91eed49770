# One line each; `.ci/run` calls the same commands.

# Everything that must hold before a commit; writes nothing.
verify: fmt-check clippy test doc

fmt-check:
    cargo fmt --all --check

clippy:
    cargo clippy --workspace --all-targets -- -D warnings

test:
    cargo test --workspace

doc:
    RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps

# Needs cargo-deny.
deny:
    cargo deny check bans licenses sources

# Puts right what a machine can put right.
fix:
    cargo fmt --all
    cargo clippy --workspace --all-targets --fix --allow-dirty

# Hop latency beside a raw TCP ping-pong.
bench-hop:
    cargo bench -p exo-tests --bench hop

# Tokens per second of both engines; EXO_TEST_MODEL and EXO_ORACLE_PYTHON say beside what.
bench-engine:
    cargo bench -p exo-tests --bench engine

demo:
    cargo run --release -- demo
