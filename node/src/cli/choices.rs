//! Flags that choose among names.

use exo_protocol::DType;
use std::str::FromStr;

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
