//! Says `cfg(mlx)` where MLX is there, so that the sources and rustdoc need no longer condition.

use std::env;

fn main() {
    println!("cargo::rustc-check-cfg=cfg(mlx)");
    println!("cargo::rerun-if-changed=build.rs");
    let is = |key: &str, value: &str| env::var(key).is_ok_and(|found| found == value);
    let apple_silicon =
        is("CARGO_CFG_TARGET_VENDOR", "apple") && is("CARGO_CFG_TARGET_ARCH", "aarch64");
    let prepared = env::var_os("CARGO_CFG_EXO_MLX").is_some();
    if apple_silicon || prepared {
        println!("cargo::rustc-cfg=mlx");
    }
}
