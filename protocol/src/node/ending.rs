//! How requests end: done, failed, forgotten.

use super::Node;
use super::news::{News, result};
use super::output::{Event, Failure, Stage};
use super::request::StepState;
use crate::id::{NodeId, RequestId};
use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

impl Node {
    /// This node cannot go on with a request.
    pub(super) fn fail_here(&mut self, id: &RequestId, message: String) {
        self.fail(
            id,
            Failure::Stage {
                node: self.config.node.clone(),
                message,
            },
        );
    }

    /// A request failed: its origin tells the application and calls the ring off; any other stage
    /// tells the origin.
    pub(super) fn fail(&mut self, id: &RequestId, failure: Failure) {
        let Some(request) = self.requests.get(id) else {
            return;
        };
        let (origin, ring) = (request.origin.clone(), request.ring.clone());
        if request.application.is_some() {
            let news = self.news(id, News::Cancelled, &failure);
            for stage in &ring {
                self.tell_node(&stage.node, news.clone());
            }
            self.tell(Event::Failed {
                request: id.clone(),
                failure,
            });
        } else if let Some(origin) = origin {
            let news = self.news(id, News::Failed, &failure);
            self.tell_node(&origin, news);
        } else {
            // The only end that a reference node understands.
            self.broadcast(&result(id, vec![], true));
        }
        self.end(id);
    }

    /// Forgets a request and frees what it held.
    pub(super) fn end(&mut self, id: &RequestId) {
        let Some(request) = self.requests.remove(id) else {
            return;
        };
        self.ended.insert(id.clone(), self.config.limits.ended);
        if request.position > 0 || request.step == StepState::Computing {
            self.free(id);
        }
    }

    /// A node of the topology is gone: so are the requests that need it.
    pub(super) fn member_lost(&mut self, node: &NodeId, reason: &str) {
        let concerned: Vec<(RequestId, bool)> = self
            .requests
            .iter()
            .filter(|(_, r)| r.involves(node) || r.origin.as_ref() == Some(node))
            .map(|(id, r)| (id.clone(), r.origin.as_ref() == Some(node)))
            .collect();
        for (id, origin_lost) in concerned {
            if origin_lost {
                self.end(&id);
            } else {
                let (node, reason) = (node.clone(), String::from(reason));
                self.fail(&id, Failure::PeerLost { node, reason });
            }
        }
    }

    pub(super) fn expire_requests(&mut self) {
        let now = self.now;
        let late: Vec<RequestId> = self
            .requests
            .iter()
            .filter(|(_, request)| request.until <= now)
            .map(|(id, _)| id.clone())
            .collect();
        for id in late {
            let Some(request) = self.requests.get(&id) else {
                continue;
            };
            match &request.application {
                Some(application) => {
                    let nodes: Vec<&str> = request
                        .ring
                        .iter()
                        .map(|stage| stage.node.as_str())
                        .collect();
                    let (seconds, ring) = (application.seconds, nodes.join(" > "));
                    self.fail(&id, Failure::TimedOut { seconds, ring });
                }
                None => {
                    let seconds = self.config.timing.stage_timeout.as_secs();
                    self.fail_here(&id, format!("nothing happened for {seconds} s"));
                }
            }
        }
    }

    /// Something moved: a stage that is not the origin waits anew. The origin's time runs on.
    pub(super) fn touch(&mut self, id: &RequestId) {
        let until = self.now + self.config.timing.stage_timeout;
        if let Some(request) = self.requests.get_mut(id)
            && request.application.is_none()
        {
            request.until = until;
        }
    }

    pub(super) fn stage_in(&self, ring: &[Stage]) -> Option<usize> {
        ring.iter().position(|stage| stage.node == self.config.node)
    }

    pub(super) fn is_own(&self, node: &NodeId) -> bool {
        let known = self
            .peers
            .values()
            .find(|p| p.up && p.node.as_ref() == Some(node));
        known.is_some_and(|peer| peer.own)
    }
}
