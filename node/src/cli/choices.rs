//! Flags that choose among names.

use exo_protocol::DType;
use exo_protocol::config::Strategy;
use exo_protocol::topology::{Pin, pin};
use std::str::FromStr;
use std::time::Duration;

/// How sockets are driven.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RuntimeKind {
    /// The smol async runtime.
    Smol,
    /// Threads of the standard library.
    Std,
}

impl RuntimeKind {
    /// Its name on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Smol => "smol",
            Self::Std => "std",
        }
    }
}

impl FromStr for RuntimeKind {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        match name {
            "smol" => Ok(Self::Smol),
            "std" => Ok(Self::Std),
            _ => Err("it is smol or std".to_owned()),
        }
    }
}

/// What computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EngineKind {
    /// Our own kernels; needs nothing else.
    Cpu,
    /// Apple's MLX.
    Mlx,
    /// No model at all: counts to ten.
    Dummy,
}

impl EngineKind {
    /// The fastest one that this build has for this machine.
    #[must_use]
    pub fn best() -> Self {
        let apple = cfg!(all(target_os = "macos", target_arch = "aarch64"));
        if apple && exo_engine_mlx::AVAILABLE {
            Self::Mlx
        } else {
            Self::Cpu
        }
    }

    /// The one that a node takes which is to train; where there is none, the other nodes train.
    #[must_use]
    pub fn best_to_train() -> Self {
        if exo_engine_mlx::AVAILABLE {
            Self::Mlx
        } else {
            Self::best()
        }
    }

    /// Whether training jobs may be placed on a node with it.
    #[must_use]
    pub fn trains(self) -> bool {
        matches!(self, Self::Mlx | Self::Dummy)
    }

    /// Its name on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Mlx => "mlx",
            Self::Dummy => "dummy",
        }
    }
}

impl FromStr for EngineKind {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        match name {
            "cpu" => Ok(Self::Cpu),
            "mlx" => Ok(Self::Mlx),
            "dummy" => Ok(Self::Dummy),
            "tinygrad" => Err("there is no tinygrad here; it is cpu, mlx or dummy".to_owned()),
            _ => Err("it is cpu, mlx or dummy".to_owned()),
        }
    }
}

/// Engines that nodes of one ring have, in turn; at least one, and all of them know the same models.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Engines(pub Vec<EngineKind>);

impl FromStr for Engines {
    type Err = String;

    fn from_str(names: &str) -> Result<Self, String> {
        let kinds: Result<Vec<EngineKind>, String> =
            names.split(',').map(|name| name.trim().parse()).collect();
        let kinds = kinds?;
        let dummies = kinds.iter().filter(|kind| **kind == EngineKind::Dummy);
        match dummies.count() {
            0 => Ok(Self(kinds)),
            count if count == kinds.len() => Ok(Self(kinds)),
            _ => Err("dummy has no model to share with the others".to_owned()),
        }
    }
}

/// How parameters follow their gradients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OptimizerKind {
    /// With moments and decoupled weight decay.
    AdamW,
    /// Straight.
    Sgd,
}

impl FromStr for OptimizerKind {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        match name {
            "adamw" => Ok(Self::AdamW),
            "sgd" => Ok(Self::Sgd),
            _ => Err("it is adamw or sgd".to_owned()),
        }
    }
}

/// A way to find peers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiscoveryModule {
    /// By broadcasts.
    Udp,
    /// By announcements over TCP.
    Tcp,
    /// From a file.
    Manual,
    /// At fixed addresses.
    Direct,
    /// In a tailnet.
    Tailscale,
}

/// Ways to find peers, none twice; there may be none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DiscoveryModules(pub Vec<DiscoveryModule>);

impl FromStr for DiscoveryModules {
    type Err = String;

    fn from_str(names: &str) -> Result<Self, String> {
        let mut modules = Vec::new();
        if names == "none" {
            return Ok(Self(modules));
        }
        for name in names.split(',').map(str::trim) {
            let module = match name {
                "udp" => DiscoveryModule::Udp,
                "manual" => DiscoveryModule::Manual,
                "direct" => DiscoveryModule::Direct,
                "tcp" => DiscoveryModule::Tcp,
                "tailscale" => DiscoveryModule::Tailscale,
                _ => {
                    return Err(
                        "it is none, or udp, tcp, manual, direct, tailscale, or several with commas"
                            .to_owned(),
                    );
                }
            };
            if !modules.contains(&module) {
                modules.push(module);
            }
        }
        Ok(Self(modules))
    }
}

/// The types in which hidden states may travel, preferred first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Activations(pub Vec<DType>);

impl Default for Activations {
    fn default() -> Self {
        Self(vec![DType::F32])
    }
}

impl FromStr for Activations {
    type Err = String;

    /// Every node takes `float32`, so it is the last one if it is not named.
    fn from_str(names: &str) -> Result<Self, String> {
        let mut types = Vec::new();
        for name in names.split(',').map(str::trim) {
            let dtype = match name {
                "float32" => DType::F32,
                "bfloat16" => DType::Bf16,
                "float16" => DType::F16,
                _ => {
                    return Err("it is float32, bfloat16, float16, or several with commas".into());
                }
            };
            if !types.contains(&dtype) {
                types.push(dtype);
            }
        }
        if !types.contains(&DType::F32) {
            types.push(DType::F32);
        }
        Ok(Self(types))
    }
}

/// How models are cut over nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Placement(pub Strategy);

impl Default for Placement {
    fn default() -> Self {
        Self(Strategy::Auto)
    }
}

impl FromStr for Placement {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        match name {
            "auto" => Ok(Self(Strategy::Auto)),
            "memory" => Ok(Self(Strategy::Memory)),
            _ => Err("it is auto or memory".to_owned()),
        }
    }
}

/// Layers that nodes are to have, without gaps between them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layers(pub Vec<Pin>);

impl FromStr for Layers {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let pin = |part: &str| {
            let read = || {
                // A node's name may have any letters, its layers come last.
                let (node, range) = part.trim().rsplit_once('=')?;
                let (first, last) = range.split_once('-').unwrap_or((range, range));
                Some(Pin {
                    node: Some(node).filter(|node| !node.is_empty())?.into(),
                    first: first.parse().ok()?,
                    last: last.parse().ok()?,
                })
            };
            read().ok_or_else(|| format!("{part:?} is not NODE=FIRST-LAST, such as node-1=0-15"))
        };
        let pins: Result<Vec<Pin>, String> = text.split(',').map(pin).collect();
        let pins = pin::in_order(&pins?).map_err(|error| error.to_string())?;
        Ok(Self(pins))
    }
}

/// How long a model stays in memory that nobody uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeepAlive(pub Duration);

impl Default for KeepAlive {
    /// Five minutes, as Ollama has it.
    fn default() -> Self {
        Self(Duration::from_secs(300))
    }
}

impl FromStr for KeepAlive {
    type Err = String;

    fn from_str(value: &str) -> Result<Self, String> {
        let wrong =
            || format!("{value:?} is no time: expected 30s, 5m, 1h, seconds, 0, or forever");
        if value == "forever" || value.starts_with('-') {
            return Ok(Self(Duration::MAX));
        }
        let digits = value.trim_end_matches(|c: char| c.is_ascii_alphabetic());
        let unit = match value.get(digits.len()..).unwrap_or_default() {
            "" | "s" => 1,
            "m" => 60,
            "h" => 3600,
            _ => return Err(wrong()),
        };
        let count: u64 = digits.parse().map_err(|_| wrong())?;
        Ok(Self(Duration::from_secs(count.saturating_mul(unit))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layers(text: &str) -> Result<Vec<String>, String> {
        let layers: Layers = text.parse()?;
        let told = |pin: &Pin| format!("{} {} {}", pin.node, pin.first, pin.last);
        Ok(layers.0.iter().map(told).collect())
    }

    #[test]
    fn layers_are_read_in_any_order() {
        let expected = vec!["a=b 0 3".to_owned(), "c 4 4".to_owned(), "d 5 9".to_owned()];
        assert_eq!(layers("d=5-9, c=4, a=b=0-3"), Ok(expected));
    }

    #[test]
    fn layers_that_are_no_ring_are_refused() {
        for (text, error) in [
            ("a", "\"a\" is not NODE=FIRST-LAST, such as node-1=0-15"),
            (
                "=0-3",
                "\"=0-3\" is not NODE=FIRST-LAST, such as node-1=0-15",
            ),
            (
                "a=0-x",
                "\"a=0-x\" is not NODE=FIRST-LAST, such as node-1=0-15",
            ),
            ("a=0-3,b=5-7", "nobody has layers 4-4"),
            ("a=0-3,b=2-7", "layers 2-3 are given to a and to b"),
        ] {
            assert_eq!(layers(text), Err(error.to_owned()));
        }
    }
}
