//! The `exo-node` binary.

use std::process::ExitCode;

fn main() -> ExitCode {
    exo_node::main()
}
