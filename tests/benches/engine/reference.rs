//! The other implementations: each a Python process of its own, which measures when it is asked.

use crate::{Contestant, Outcome, Rate, Speed, Test, Took};
use std::env;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

/// A Python module, the implementation that it has, and the formats that it reads.
const KINDS: [(&str, &str, &[&str]); 2] = [
    ("mlx_lm", "mlx-lm", &["f32", "f16", "4bit"]),
    ("llama_cpp", "llama.cpp", &["gguf"]),
];

fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("benches/engine")
        .join(name)
}

/// The first Python that has a module.
fn having<'a>(pythons: &'a [PathBuf], module: &str) -> Option<&'a Path> {
    let has = |python: &&PathBuf| {
        let mut command = Command::new(python);
        command.args(["-c", &format!("import {module}")]);
        let status = command.stdout(Stdio::null()).stderr(Stdio::null()).status();
        status.is_ok_and(|status| status.success())
    };
    pythons.iter().find(has).map(PathBuf::as_path)
}

/// MLX's wheel brings the slow reference BLAS; engine-mlx has another one in its place. Both are to
/// compute with the same.
fn same_blas() -> Option<PathBuf> {
    let prepared = "../engine-mlx/.mlx-linux/mlx_cpu.libs";
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(prepared);
    let mut files = folder.read_dir().ok()?.flatten();
    let blas = files.find(|file| file.file_name().to_string_lossy().starts_with("libblas-"))?;
    Some(blas.path())
}

/// Where the model is in other formats, made from the GGUF file when they are not there yet; nothing
/// without mlx-lm.
pub(crate) fn folders(pythons: &[PathBuf], gguf: &Path) -> Outcome<Option<PathBuf>> {
    let Some(python) = having(pythons, "mlx_lm") else {
        return Ok(None);
    };
    let stem = gguf.file_stem().ok_or("a file has a name")?;
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join(stem);
    if !target.join("4bit/config.json").exists() {
        let mut make = Command::new(python);
        make.arg(script("make.py")).arg(gguf).arg(&target);
        if !make.status()?.success() {
            return Err("the other formats could not be made".into());
        }
    }
    Ok(Some(target))
}

/// Those that read a format and are here.
pub(crate) fn contestants(
    format: &str,
    path: &Path,
    pythons: &[PathBuf],
    threads: usize,
) -> Outcome<Vec<Contestant>> {
    let mut contestants = Vec::new();
    for (module, name, formats) in KINDS {
        let python = having(pythons, module).filter(|_| formats.contains(&format));
        let Some(python) = python else { continue };
        let mut process = Process::start(python, name, path, threads)?;
        println!("{name} is {}", process.version);
        contestants.push(Contestant {
            engine: name.to_owned(),
            nodes: 1,
            threads: (name == "llama.cpp").then_some(threads),
            run: Box::new(move |test| process.measure(test)),
            speeds: Vec::new(),
        });
    }
    Ok(contestants)
}

/// Ends when its input does.
struct Process {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
    version: String,
}

impl Process {
    fn start(python: &Path, name: &str, path: &Path, threads: usize) -> Outcome<Self> {
        let mut command = Command::new(python);
        command.arg(script("reference.py")).arg(name).arg(path);
        command.arg(threads.to_string());
        let blas = same_blas().filter(|_| name == "mlx-lm");
        if let Some(blas) = &blas {
            command.env("LD_PRELOAD", blas);
        }
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn()?;
        let input = child.stdin.take();
        let output = BufReader::new(child.stdout.take().ok_or("its output is piped")?);
        let version = String::new();
        let mut process = Self {
            child,
            input,
            output,
            version,
        };
        process.version = process.line()?;
        if blas.is_some() {
            process.version.push_str(", with engine-mlx's BLAS");
        }
        Ok(process)
    }

    fn measure(&mut self, test: Test) -> Outcome<Speed> {
        let input = self.input.as_mut().ok_or("its input is piped")?;
        writeln!(input, "{} {}", test.prompt, test.answer)?;
        input.flush()?;
        let line = self.line()?;
        let seconds: Result<Vec<f64>, _> = line.split_whitespace().map(str::parse).collect();
        match seconds?[..] {
            [read, read_processor, write, write_processor] => {
                let took = |time, processor| Took { time, processor };
                Ok(Speed {
                    read: Rate::new(test.prompt, took(read, read_processor)),
                    write: Rate::new(test.answer, took(write, write_processor)),
                })
            }
            _ => Err(format!("four numbers were expected, not {line:?}").into()),
        }
    }

    fn line(&mut self) -> Outcome<String> {
        let mut line = String::new();
        match self.output.read_line(&mut line)? {
            0 => Err("it ended".into()),
            _ => Ok(line.trim().to_owned()),
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        drop(self.input.take());
        let _ = self.child.wait();
    }
}
