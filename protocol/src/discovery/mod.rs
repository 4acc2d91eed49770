//! How nodes find each other: what the discovery formats say, without the sockets and files that
//! carry them.

pub mod address;
pub mod announcement;
pub mod interface;
pub mod manual;
pub mod tailscale;
pub mod tcp;
