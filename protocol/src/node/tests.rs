//! Nodes against each other, and against what a reference node would send.

mod announced;
mod any;
mod asking;
mod base;
mod commands;
mod downloads;
mod files;
mod idle;
mod job_ends;
mod job_violations;
mod jobs;
mod large;
mod names;
mod net;
mod patience;
mod peers;
mod placed;
mod requests;
mod sampled;
mod streams;
mod timing;
mod violations;
mod ways;
