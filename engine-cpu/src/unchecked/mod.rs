//! The only folder with `unsafe`, and the promises it keeps.
//!
//! 1. **Processor features.** A function compiled for a feature (`#[target_feature]`) is called
//!    only through a [`Kernels`] table, and [`kernels`] gives a table out
//!    only after the processor was asked for every feature the table names. Tables are not built
//!    anywhere else.
//! 2. **Loads and stores.** Vector memory operations take references to arrays of exactly the
//!    vector's size (`&[u8; 32]`), so that what they touch is borrowed, initialised and long
//!    enough; they never ask for alignment.
//! 3. **Tiles** ([`tiles`]). A matrix is cut into rectangles that do not overlap; each rectangle
//!    is handed out once, and its rows are bounds-checked.
//! 4. **Jobs** ([`pool`]). A closure borrowed from the caller's stack is called by other threads
//!    only for pieces that they claimed, and the caller does not return before every claimed
//!    piece is finished, also when one panics.
//!
//! Property tests hold the kernels of every available table to the scalar ones, bit for bit.

#![allow(
    unsafe_code,
    reason = "this folder is where it is allowed; see the promises above"
)]

use crate::kernels::Kernels;

pub(crate) mod pool;
pub(crate) mod tiles;

#[cfg(target_arch = "x86_64")]
#[macro_use]
mod compiled;
#[cfg(target_arch = "x86_64")]
#[macro_use]
mod packed;
#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "x86_64")]
mod blocks;
#[cfg(target_arch = "x86_64")]
mod floats;
#[cfg(any(target_arch = "aarch64", test))]
mod neon;

/// The vector tables this processor can run, the best one last.
#[cfg(target_arch = "x86_64")]
pub(crate) fn kernels() -> Vec<&'static Kernels> {
    use std::arch::is_x86_feature_detected as has;
    let mut all: Vec<&'static Kernels> = Vec::new();
    if has!("avx2") && has!("fma") && has!("f16c") {
        all.push(&avx2::KERNELS);
        if has!("avx512f")
            && has!("avx512bw")
            && has!("avx512dq")
            && has!("avx512vl")
            && has!("avx512vnni")
        {
            all.push(&avx512::KERNELS);
        }
    }
    all
}

/// The vector tables this processor can run, the best one last.
#[cfg(target_arch = "aarch64")]
pub(crate) fn kernels() -> Vec<&'static Kernels> {
    if std::arch::is_aarch64_feature_detected!("neon") {
        vec![&neon::KERNELS]
    } else {
        Vec::new()
    }
}

/// No vector tables for this processor.
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
pub(crate) fn kernels() -> Vec<&'static Kernels> {
    Vec::new()
}
