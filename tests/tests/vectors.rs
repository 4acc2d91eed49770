//! The golden vectors, recorded from the reference implementation, against this one, case by case.
//!
//! Where both differ, a rule says why, by the content of the case; a difference without a rule
//! fails. The folder is `tests/vectors`; `EXO_VECTORS` names another one with the same files, which
//! may hold more cases.

#[path = "vectors/announcements.rs"]
mod announcements;
#[path = "vectors/bad_frames.rs"]
mod bad_frames;
#[path = "vectors/common.rs"]
mod common;
#[path = "vectors/discovery.rs"]
mod discovery;
#[path = "vectors/fields.rs"]
mod fields;
#[path = "vectors/frames.rs"]
mod frames;
#[path = "vectors/partitions.rs"]
mod partitions;
#[path = "vectors/peers.rs"]
mod peers;
#[path = "vectors/rules.rs"]
mod rules;
#[path = "vectors/scan.rs"]
mod scan;
#[path = "vectors/shapes.rs"]
mod shapes;
#[path = "vectors/tcp.rs"]
mod tcp;
#[path = "vectors/topology.rs"]
mod topology;
#[path = "vectors/trace.rs"]
mod trace;
