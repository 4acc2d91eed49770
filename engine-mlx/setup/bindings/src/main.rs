//! Writes the Rust declarations of MLX's C interface: `mlx-bindings MLX_C_FOLDER OUT -- CLANG_ARGS`.
//!
//! The build script of mlx-sys does the same on Apple's systems. It takes every header, and names the
//! two 16-bit floats as bindgen names them there, which is what mlx-rs is written against.

use std::error::Error;
use std::path::Path;
use std::{env, fs};

/// What bindgen makes of the two types on Apple Silicon.
const HALF_TYPES: &str = "\
#[repr(transparent)]
#[derive(Default, Clone, Copy, Debug)]
pub struct float16_t(pub u16);
pub type bfloat16_t = u16;";

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = env::args().skip(1);
    let (Some(folder), Some(out)) = (args.next(), args.next()) else {
        return Err("expected: mlx-bindings MLX_C_FOLDER OUT -- CLANG_ARGS".into());
    };
    let mut headers = Vec::new();
    for entry in fs::read_dir(Path::new(&folder).join("mlx/c"))? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "h") {
            headers.push(path);
        }
    }
    headers.sort();
    let mut builder = bindgen::Builder::default()
        .rust_target("1.73.0".parse().map_err(|error| format!("{error:?}"))?)
        .clang_arg(format!("-I{folder}"))
        .clang_args(args.skip_while(|arg| arg == "--"))
        .blocklist_function("malloc")
        .blocklist_function("realloc")
        .blocklist_type("float16_t")
        .blocklist_type("bfloat16_t")
        .raw_line(HALF_TYPES);
    for header in headers {
        builder = builder.header(header.to_string_lossy());
    }
    builder.generate()?.write_to_file(out)?;
    Ok(())
}
