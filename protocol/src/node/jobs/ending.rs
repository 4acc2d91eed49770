//! How training jobs end: wanted, failed, cut off.

use super::JobFailure;
use super::job::JobStage;
use crate::engine::TrainCommand;
use crate::id::{ConnectionId, NodeId, RequestId};
use crate::node::Node;
use crate::node::client::Ended;
use crate::node::compute::Call;
use crate::shard::Shard;
use crate::time::Instant;
use crate::wire::extension::failed;
use crate::wire::{Ending, Message};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

impl Node {
    /// This node's stage cannot go on, and so nobody's can: the job is over here, and its origin
    /// tells the others.
    pub(in crate::node) fn fail_job_stage(&mut self, id: &RequestId, code: u16, text: String) {
        let Some(stage) = self.job_stages.get(id) else {
            return;
        };
        let origin = stage.origin;
        self.end_job_stage(id);
        match origin {
            Some(route) => {
                self.remember_end(id, Ended::ALL);
                let ending = Ending {
                    epoch: 0,
                    code,
                    request: id.clone(),
                    text,
                };
                self.send(route, Message::Failed(ending));
            }
            None => {
                let node = self.config.node.clone();
                self.fail_job(
                    id,
                    JobFailure::Stage {
                        node,
                        message: text,
                    },
                );
            }
        }
    }

    /// Forgets this node's stage of a job and frees what it held.
    pub(in crate::node) fn end_job_stage(&mut self, id: &RequestId) {
        let Some(stage) = self.job_stages.remove(id) else {
            return;
        };
        for route in stage.routes() {
            if let Some(connection) = self.connections.get_mut(&route) {
                connection.forget(id);
            }
        }
        if let Some(shard) = stage.shard().cloned() {
            self.rests(&shard);
        }
        if stage.held {
            let call = self.next_call();
            self.desk.remember(call, Call::Other);
            let job = id.clone();
            self.ask_engine(TrainCommand::End { call, job });
        }
        self.drained();
    }

    /// The origin of a job ended it. Says whether the ending was about one.
    pub(in crate::node) fn job_end_came(&mut self, from: ConnectionId, ending: &Ending) -> bool {
        let id = &ending.request;
        let stage = self.job_stages.get(id);
        if stage.is_none_or(|stage| stage.origin != Some(from)) {
            return false;
        }
        self.remember_end(id, Ended::ALL);
        self.end_job_stage(id);
        true
    }

    /// A stage of a job cannot go on. Says whether the failure was about one.
    pub(in crate::node) fn job_failure_came(
        &mut self,
        from: ConnectionId,
        node: &NodeId,
        ending: &Ending,
    ) -> bool {
        let id = &ending.request;
        let job = self.jobs.get(id);
        if job.is_none_or(|job| job.routes.get(node) != Some(&from)) {
            return false;
        }
        let (node, message) = (node.clone(), ending.text.clone());
        self.fail_job(id, JobFailure::Stage { node, message });
        true
    }

    /// A peer says that it leaves: the jobs of which it has a stage cannot go on.
    pub(in crate::node) fn leave_jobs_with(&mut self, node: &NodeId) {
        let of = |job: &super::job::Job| job.plan.stage_of(node).is_some();
        for id in self.jobs_where(of) {
            let reason = String::from("it is shutting down");
            let node = node.clone();
            self.fail_job(&id, JobFailure::PeerLost { node, reason });
        }
    }

    /// This node leaves: so its jobs end, and its part in those of others.
    pub(in crate::node) fn leave_all_jobs(&mut self) {
        for id in self.jobs_where(|_| true) {
            self.fail_job(&id, JobFailure::Stopping);
        }
        for id in self.stages_where(|_| true) {
            let text = String::from("this node is shutting down");
            self.fail_job_stage(&id, failed::LEAVING, text);
        }
    }

    /// Ends the jobs that lost a connection: what was on its way over it is lost. Says whether
    /// there was one.
    pub(in crate::node) fn check_job_routes(&mut self) -> bool {
        if self.jobs.is_empty() && self.job_stages.is_empty() {
            return false;
        }
        let alive = |node: &Self, id: &ConnectionId| {
            let connection = node.connections.get(id);
            connection.is_some_and(|connection| connection.extended.is_some())
        };
        let lost = |job: &super::job::Job| {
            let mut routes = job.routes.iter();
            let lost = routes.find(|(_, route)| !alive(self, route))?;
            Some((job.plan.job.clone(), lost.0.clone()))
        };
        let jobs: Vec<(RequestId, NodeId)> = self.jobs.values().filter_map(lost).collect();
        let lost = |stage: &JobStage| {
            let at = [
                (stage.origin, Some(&stage.plan.origin)),
                (stage.next, stage.plan.after(stage.stage)),
                (stage.before, stage.plan.before(stage.stage)),
            ];
            let mut lost = at
                .into_iter()
                .filter(|(route, _)| route.is_some_and(|route| !alive(self, &route)));
            Some((stage.plan.job.clone(), lost.next()?.1?.clone()))
        };
        let stages: Vec<(RequestId, NodeId)> = self.job_stages.values().filter_map(lost).collect();
        let any = !jobs.is_empty() || !stages.is_empty();
        for (id, node) in jobs {
            let reason = String::from("the connection to it was lost");
            self.fail_job(&id, JobFailure::PeerLost { node, reason });
        }
        for (id, node) in stages {
            let text = format!("the connection to {node} was lost");
            self.fail_job_stage(&id, failed::PEER, text);
        }
        any
    }

    /// Whether a job depends on a node.
    pub(in crate::node) fn trains_with(&self, node: &NodeId) -> bool {
        let mut jobs = self.jobs.values();
        let mut stages = self.job_stages.values();
        jobs.any(|job| job.routes.contains_key(node))
            || stages.any(|stage| {
                let (plan, at) = (&stage.plan, stage.stage);
                [Some(&plan.origin), plan.before(at), plan.after(at)].contains(&Some(node))
            })
    }

    fn jobs_where(&self, test: impl Fn(&super::job::Job) -> bool) -> Vec<RequestId> {
        let of = |(id, job): (&RequestId, &super::job::Job)| test(job).then(|| id.clone());
        self.jobs.iter().filter_map(of).collect()
    }

    fn stages_where(&self, test: impl Fn(&JobStage) -> bool) -> Vec<RequestId> {
        let of = |(id, stage): (&RequestId, &JobStage)| test(stage).then(|| id.clone());
        self.job_stages.iter().filter_map(of).collect()
    }

    /// Stages of jobs that wait for layers.
    pub(in crate::node) fn jobs_waiting_for(&self, shard: &Shard) -> Vec<RequestId> {
        let waits = |stage: &JobStage| {
            matches!(stage.doing, super::job::Doing::Load) && stage.shard() == Some(shard)
        };
        self.stages_where(waits)
    }

    /// Gives up what takes too long.
    pub(in crate::node) fn expire_jobs(&mut self) {
        let now = self.now;
        for id in self.stages_where(|stage| stage.until <= now) {
            let seconds = self.config.timing.stage_timeout.as_secs();
            let doing = self.job_stages.get(&id).map_or("", |s| s.doing.name());
            let text = format!("nothing happened for {seconds} s while {doing}");
            self.fail_job_stage(&id, failed::HUNG, text);
        }
        for id in self.jobs_where(|job| job.until <= now) {
            let Some(job) = self.jobs.get(&id) else {
                continue;
            };
            let nodes: Vec<&str> = job.plan.ring.iter().map(|stage| &*stage.node).collect();
            let failure = JobFailure::TimedOut {
                under_way: job.phase.name(),
                seconds: self.config.timing.job_step.as_secs(),
                ring: nodes.join(" > "),
            };
            self.fail_job(&id, failure);
        }
    }

    /// When the next job or stage is to be given up.
    pub(in crate::node) fn next_job_expiry(&self) -> Instant {
        let jobs = self.jobs.values().map(|job| job.until);
        let stages = self.job_stages.values().map(|stage| stage.until);
        jobs.chain(stages).min().unwrap_or(Instant::FAR_FUTURE)
    }
}
