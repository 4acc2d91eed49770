//! The engines of this build, in words for peers and people.

use crate::cli::EngineKind;
use exo_protocol::topology::EngineInfo;

/// Formats of weights that both engines take: safetensors and GGUF.
const COMMON: [&str; 11] = [
    "F32", "F16", "BF16", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q4_K", "Q5_K", "Q6_K",
];

/// What is told of an engine.
#[must_use]
pub fn info(kind: EngineKind) -> EngineInfo {
    let formats: &[&str] = match kind {
        EngineKind::Cpu | EngineKind::Mlx => &COMMON,
        EngineKind::Dummy => &[],
    };
    let dtype = match kind {
        EngineKind::Cpu | EngineKind::Mlx => "float32",
        EngineKind::Dummy => "uint32",
    };
    EngineInfo {
        name: kind.name().to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        dtype: dtype.to_owned(),
        formats: formats.iter().map(|&name| name.to_owned()).collect(),
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
