//! What stands behind the guard.

use super::error::ApiError;
use super::http::{Reply, Request, Responder};
use crate::metrics::LookAtCrowd;

/// Which line a request stands in. Each line has its own number of workers, so that what is quick
/// is answered while every answer that can be computed is being computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lane {
    /// Looks something up.
    Quick,
    /// Lets the ring compute.
    Answer,
    /// Looks on until it goes.
    Watch,
}

/// Answers requests.
pub trait Service: Send + Sync {
    /// Looks at a request whose body is still to come: which line it stands in, or what is said
    /// instead of reading more of it.
    ///
    /// # Errors
    /// The refusal.
    fn admit(&self, request: &Request) -> Result<Lane, Reply>;

    /// Answers a request that was admitted, on a worker's thread.
    fn answer(&self, request: Request, responder: Responder);

    /// The door is open from now on; `look` tells who stands at it.
    fn opened(&self, look: LookAtCrowd) {
        drop(look);
    }

    /// How a request of this kind is told that something went wrong before it was answered.
    fn refuse(&self, request: &Request, error: &ApiError) -> Reply {
        let _ = request;
        error.to_reply()
    }
}
