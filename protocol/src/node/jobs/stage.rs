//! This node's stages of training jobs: from the plan that comes, through the engine, to what goes
//! to the stages beside it and to the origin.

use super::JobPlan;
use super::job::{Doing, JobStage};
use crate::engine::{EngineCommand, ExampleInput, TrainCommand};
use crate::id::{CallId, ConnectionId, RequestId};
use crate::node::Node;
use crate::node::compute::Call;
use crate::node::output::Output;
use crate::node::violation::Violation;
use crate::wire::extension::failed;
use crate::wire::{Begin, Example, Gradient, MessageType, Save};
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;

impl Node {
    pub(in crate::node) fn begin_came(&mut self, from: ConnectionId, begin: &Begin) {
        let taken = self.judge_plan(from, begin);
        match taken {
            Ok(Some((plan, stage))) => self.begin_stage(plan, stage, Some(from)),
            Ok(None) => {}
            Err(violation) => self.violated(from, &violation),
        }
    }

    /// What a plan makes of this node, if it may come from where it came.
    fn judge_plan(
        &mut self,
        from: ConnectionId,
        begin: &Begin,
    ) -> Result<Option<(Arc<JobPlan>, usize)>, Violation> {
        let Some(extended) = self.extended(from) else {
            return Ok(None);
        };
        let node = extended.node.clone();
        if !self.config.trains {
            return Err(Violation::NotNegotiated(MessageType::Begin));
        }
        let plan = JobPlan::read(&begin.plan, self.config.limits.stages)?;
        let request = plan.job.clone();
        match plan.stage_of(&self.config.node) {
            Some(stage) if plan.origin == node && !self.jobs.contains_key(&request) => {
                if self.job_stages.contains_key(&request) {
                    return Err(Violation::job_turn("BEGIN", &request));
                }
                Ok(Some((Arc::new(plan), stage)))
            }
            _ => Err(Violation::Foreign { node, request }),
        }
    }

    /// Takes a stage of a job: loads its layers, and then what is trained.
    pub(in crate::node) fn begin_stage(
        &mut self,
        plan: Arc<JobPlan>,
        index: usize,
        origin: Option<ConnectionId>,
    ) {
        let (id, limits) = (plan.job.clone(), &self.config.limits);
        let (stages, calls) = (self.job_stages.len(), self.desk.calls());
        let refusal = if self.stopping || self.leaving {
            Some((failed::LEAVING, String::from("this node is shutting down")))
        } else if stages >= limits.jobs {
            let text = format!("it has a part in {stages} training jobs already");
            Some((failed::BUSY, text))
        } else if calls >= limits.calls {
            let text = format!("the engine has not come to {calls} commands yet");
            Some((failed::BUSY, text))
        } else {
            None
        };
        self.job_stages
            .insert(id.clone(), JobStage::new(plan, index, origin));
        self.wait_for_engine(&id);
        match refusal {
            Some((code, text)) => self.fail_job_stage(&id, code, text),
            None => self.prepare_job(&id),
        }
    }

    /// The layers of a job are loaded: the engine makes what is trained.
    pub(in crate::node) fn begin_training(&mut self, id: &RequestId, fingerprint: u64) {
        let Some(stage) = self.job_stages.get(id) else {
            return;
        };
        let (Doing::Load, Some(shard)) = (&stage.doing, stage.shard().cloned()) else {
            return;
        };
        let (expected, setup) = (stage.plan.fingerprint, Arc::clone(&stage.plan.setup));
        if expected != 0 && fingerprint != 0 && expected != fingerprint {
            let text = format!(
                "its {} is another model: fingerprint {fingerprint:016x}, expected {expected:016x}",
                shard.model
            );
            self.fail_job_stage(id, failed::MODEL, text);
            return;
        }
        let call = self.train_call(id);
        let Some(stage) = self.job_stages.get_mut(id) else {
            return;
        };
        stage.doing = Doing::Begin(call);
        stage.held = true;
        self.ask_engine(TrainCommand::Begin {
            call,
            shard,
            job: id.clone(),
            setup,
        });
    }

    /// The number of a call whose completion is for a job.
    fn train_call(&mut self, id: &RequestId) -> CallId {
        let call = self.next_call();
        self.desk.remember(call, Call::Job(id.clone()));
        self.wait_for_engine(id);
        call
    }

    /// The engine has so long to say something.
    pub(in crate::node) fn wait_for_engine(&mut self, id: &RequestId) {
        let until = self.now + self.config.timing.stage_timeout;
        if let Some(stage) = self.job_stages.get_mut(id) {
            stage.until = until;
        }
    }

    pub(in crate::node) fn ask_engine(&mut self, command: TrainCommand) {
        let command = EngineCommand::Train(command);
        self.outputs.push_back(Output::Compute(command));
    }

    pub(in crate::node) fn example_came(&mut self, from: ConnectionId, example: Example) {
        let Some(extended) = self.extended(from) else {
            return;
        };
        let node = extended.node.clone();
        let Some(stage) = self.job_stages.get_mut(&example.job) else {
            return self.unless_training(from, MessageType::Example);
        };
        let fits = match (stage.stage, &example.input) {
            (0, ExampleInput::Tokens { .. }) => {
                stage.plan.origin == node && stage.origin == Some(from)
            }
            (1.., ExampleInput::Hidden(_)) => {
                stage.plan.before(stage.stage) == Some(&node)
                    && stage.before.is_none_or(|before| before == from)
            }
            _ => false,
        };
        let violation = if !fits {
            let request = example.job.clone();
            Violation::Foreign { node, request }
        } else if !matches!(stage.doing, Doing::Nothing)
            || example.step != stage.steps.saturating_add(example.learn.into())
        {
            Violation::job_turn("EXAMPLE", &example.job)
        } else {
            if stage.stage > 0 {
                stage.before = Some(from);
            }
            return self.compute_example(example);
        };
        self.violated(from, &violation);
    }

    /// What is about a job that is over may have been on its way; but nobody sends it here who was
    /// not told that this node trains.
    fn unless_training(&mut self, from: ConnectionId, kind: MessageType) {
        if !self.config.trains {
            self.violated(from, &Violation::NotNegotiated(kind));
        }
    }

    /// An example enters this node's stage.
    pub(in crate::node) fn compute_example(&mut self, example: Example) {
        let Example {
            job: id,
            step,
            learn,
            input,
            targets,
        } = example;
        if !self.job_stages.contains_key(&id) {
            return;
        }
        let call = self.train_call(&id);
        let Some(stage) = self.job_stages.get_mut(&id) else {
            return;
        };
        let (own, passed) = match stage.is_last() {
            true => (Some(targets), None),
            false => (None, Some(targets)),
        };
        stage.doing = Doing::Forward {
            call,
            step,
            learn,
            targets: passed,
        };
        self.ask_engine(TrainCommand::Forward {
            call,
            job: id,
            step,
            input,
            targets: own,
            learn,
        });
    }

    pub(in crate::node) fn gradient_came(&mut self, from: ConnectionId, gradient: Gradient) {
        let Some(extended) = self.extended(from) else {
            return;
        };
        let node = extended.node.clone();
        let Some(stage) = self.job_stages.get(&gradient.job) else {
            return self.unless_training(from, MessageType::Gradient);
        };
        let from_next = stage.next == Some(from) && stage.plan.after(stage.stage) == Some(&node);
        let fits = |step: u32, shape: &[usize]| {
            step == gradient.step && shape == gradient.gradient.shape()
        };
        let violation = match &stage.doing {
            _ if !from_next => Violation::Foreign {
                node,
                request: gradient.job.clone(),
            },
            Doing::Gradient { step, shape } if fits(*step, shape) => {
                return self.learn(gradient);
            }
            _ => Violation::job_turn("GRADIENT", &gradient.job),
        };
        self.violated(from, &violation);
    }

    fn learn(&mut self, came: Gradient) {
        let Gradient {
            job: id,
            step,
            loss,
            positions,
            gradient,
        } = came;
        let call = self.train_call(&id);
        let Some(stage) = self.job_stages.get_mut(&id) else {
            return;
        };
        stage.doing = Doing::Backward {
            call,
            step,
            loss,
            positions,
        };
        self.ask_engine(TrainCommand::Backward {
            call,
            job: id,
            step,
            gradient,
        });
    }

    pub(in crate::node) fn save_came(&mut self, from: ConnectionId, save: &Save) {
        let Some(extended) = self.extended(from) else {
            return;
        };
        let node = extended.node.clone();
        let Some(stage) = self.job_stages.get(&save.job) else {
            return self.unless_training(from, MessageType::Save);
        };
        let violation = if stage.origin != Some(from) {
            let request = save.job.clone();
            Violation::Foreign { node, request }
        } else if !matches!(stage.doing, Doing::Nothing) || stage.steps != save.iteration {
            Violation::job_turn("SAVE", &save.job)
        } else {
            return self.save_stage(&save.job, save.iteration);
        };
        self.violated(from, &violation);
    }

    /// Has the engine write a checkpoint.
    pub(in crate::node) fn save_stage(&mut self, id: &RequestId, iteration: u32) {
        if !self.job_stages.contains_key(id) {
            return;
        }
        let call = self.train_call(id);
        if let Some(stage) = self.job_stages.get_mut(id) {
            stage.doing = Doing::Save { call, iteration };
        }
        self.ask_engine(TrainCommand::Save {
            call,
            job: id.clone(),
            iteration,
        });
    }
}
