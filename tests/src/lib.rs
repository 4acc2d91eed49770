//! Whole-system tests of exo-node.

pub mod capture;
pub mod conformance;
pub mod families;
pub mod fuzz;
pub mod invariants;
pub mod process;
pub mod replay;
pub mod sim;
