//! Flags that choose among names.

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

/// How peers are found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiscoveryModule {
    /// From a file.
    Manual,
    /// At one address.
    Direct,
    /// Not at all.
    None,
    /// A module of the reference that is not here yet.
    Later(&'static str),
}

impl FromStr for DiscoveryModule {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        match name {
            "manual" => Ok(Self::Manual),
            "direct" => Ok(Self::Direct),
            "none" => Ok(Self::None),
            "udp" => Ok(Self::Later("udp")),
            "tcp" => Ok(Self::Later("tcp")),
            "tailscale" => Ok(Self::Later("tailscale")),
            _ => Err("it is manual, direct or none".to_owned()),
        }
    }
}
