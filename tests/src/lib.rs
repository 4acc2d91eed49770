//! Whole-system tests of exo-node.

pub mod conformance;
pub mod fuzz;
pub mod process;
pub mod sim;
