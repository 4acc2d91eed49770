//! The engines of this build, and what peers and people are told of them.

use crate::cli::EngineKind;
use crate::library::Library;
use crate::settings::Settings;
use exo_engine_cpu::{CpuEngine, CpuOptions};
use exo_engine_mlx::{MlxEngine, MlxOptions};
use exo_protocol::dummy::DummyEngine;
use exo_protocol::engine::Engine;
use exo_protocol::topology::EngineInfo;
use std::sync::Arc;

/// Formats of weights that both engines take, in safetensors and GGUF; the last ones are MLX's.
const FORMATS: [&str; 16] = [
    "F32", "F16", "BF16", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q4_K", "Q5_K", "Q6_K", "2-bit",
    "3-bit", "4-bit", "6-bit", "8-bit",
];

/// On a GPU MLX computes in the half precision of the model.
const MLX_DTYPE: &str = if cfg!(target_os = "macos") {
    "float16 or bfloat16, as the model"
} else {
    "float32"
};

/// What is told of an engine.
#[must_use]
pub fn info(kind: EngineKind) -> EngineInfo {
    let formats: &[&str] = match kind {
        EngineKind::Cpu | EngineKind::Mlx => &FORMATS,
        EngineKind::Dummy => &[],
    };
    let dtype = match kind {
        EngineKind::Cpu => "float32",
        EngineKind::Mlx => MLX_DTYPE,
        EngineKind::Dummy => "uint32",
    };
    let version = env!("CARGO_PKG_VERSION");
    let version = match kind {
        EngineKind::Mlx => format!("{version} (mlx-rs {})", exo_engine_mlx::MLX_RS),
        EngineKind::Cpu | EngineKind::Dummy => version.to_owned(),
    };
    EngineInfo {
        name: kind.name().to_owned(),
        version,
        dtype: dtype.to_owned(),
        formats: formats.iter().map(|&name| name.to_owned()).collect(),
    }
}

/// Bytes of an element of keys and values. Without a GPU MLX keeps them in single precision, the
/// others in half; a ring is placed by what its origin would need.
#[must_use]
pub fn kept(kind: EngineKind) -> usize {
    match kind {
        EngineKind::Mlx if cfg!(not(target_os = "macos")) => 4,
        EngineKind::Mlx | EngineKind::Cpu | EngineKind::Dummy => 2,
    }
}

/// The engines that this build has, in one line.
#[must_use]
pub fn available() -> String {
    let mlx = exo_engine_mlx::AVAILABLE.then_some(EngineKind::Mlx);
    let all = [Some(EngineKind::Cpu), mlx, Some(EngineKind::Dummy)];
    let names: Vec<&str> = all.into_iter().flatten().map(EngineKind::name).collect();
    names.join(", ")
}

/// An engine in a few words: `mlx 0.1.0, float32`.
#[must_use]
pub fn words(engine: &EngineInfo) -> String {
    format!("{} {}, {}", engine.name, engine.version, engine.dtype)
}

/// What builds the engine that the settings ask for, on the thread that will own it; `memory` in MiB.
pub fn build(
    settings: &Settings,
    memory: i64,
    library: Arc<Library>,
) -> impl FnOnce() -> Result<Box<dyn Engine>, String> + Send + 'static {
    let (kind, threads) = (settings.engine, settings.threads);
    let (checkpoints, adapter) = (settings.checkpoints.clone(), settings.adapter.clone());
    let memory_limit = u64::try_from(memory)
        .ok()
        .and_then(|memory| memory.checked_mul(1 << 20));
    let open = Box::new(move |name: &str| library.model(name));
    move || match kind {
        EngineKind::Dummy => Ok(Box::new(DummyEngine::new())),
        EngineKind::Cpu => {
            let mut options = CpuOptions::default();
            if let Some(threads) = threads {
                options.threads = threads;
            }
            options.memory_limit = memory_limit;
            let engine = CpuEngine::new(options, open).map_err(|error| error.to_string())?;
            Ok(Box::new(engine))
        }
        EngineKind::Mlx => {
            let mut options = MlxOptions::default();
            options.memory_limit = memory_limit;
            options.checkpoints = Some(checkpoints);
            options.adapter = adapter;
            let engine = MlxEngine::new(options, open).map_err(|error| error.to_string())?;
            Ok(Box::new(engine))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_told_of_an_engine_can_be_read() {
        for kind in [EngineKind::Cpu, EngineKind::Mlx, EngineKind::Dummy] {
            let info = info(kind);
            assert_eq!(EngineInfo::from_json(&info.to_json()), Some(info));
        }
    }
}
