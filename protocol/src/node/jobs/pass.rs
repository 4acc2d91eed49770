//! What the engine gave for a training job, on to the stages beside this one and to the origin.

use super::job::Doing;
use crate::engine::{ExampleInput, TrainEvent};
use crate::id::RequestId;
use crate::node::Node;
use crate::tensor::{DType, Tensor};
use crate::time::Instant;
use crate::wire::extension::failed;
use crate::wire::{Begun, Example, Gradient, Loss, Message, Saved};
use alloc::format;
use alloc::string::{String, ToString};

impl Node {
    /// The engine has done a part of a job.
    pub(in crate::node) fn trained(&mut self, id: &RequestId, event: TrainEvent) {
        let Some(stage) = self.job_stages.get_mut(id) else {
            return;
        };
        if stage.doing.call() != Some(event.call()) {
            return;
        }
        stage.until = Instant::FAR_FUTURE;
        let doing = core::mem::replace(&mut stage.doing, Doing::Nothing);
        let (last, first) = (stage.is_last(), stage.stage == 0);
        let job = id.clone();
        match (doing, event) {
            (
                Doing::Begin(_),
                TrainEvent::Begun {
                    trainable,
                    iteration,
                    ..
                },
            ) => {
                stage.trainable = trainable;
                stage.steps = iteration;
                let begun = Begun {
                    job,
                    trainable,
                    iteration,
                };
                self.tell_job_origin(id, Message::Begun(begun));
            }
            (
                Doing::Forward {
                    step,
                    learn,
                    targets: Some(targets),
                    ..
                },
                TrainEvent::Forwarded { hidden, .. },
            ) if !last => {
                let Some(hidden) = self.batch(id, &hidden) else {
                    return;
                };
                let shape = hidden.shape().to_vec();
                let example = Example {
                    job,
                    step,
                    learn,
                    input: ExampleInput::Hidden(hidden),
                    targets,
                };
                if self.pass_on(id, example)
                    && learn
                    && let Some(stage) = self.job_stages.get_mut(id)
                {
                    stage.doing = Doing::Gradient { step, shape };
                }
            }
            (
                Doing::Forward { step, learn, .. },
                TrainEvent::Compared {
                    loss,
                    positions,
                    gradient,
                    ..
                },
            ) if last => {
                if learn {
                    stage.steps = step;
                    self.pass_back(id, step, loss, positions, gradient);
                } else {
                    let loss = Loss {
                        job,
                        step,
                        loss,
                        positions,
                    };
                    self.tell_job_origin(id, Message::Loss(loss));
                }
            }
            (
                Doing::Backward {
                    step,
                    loss,
                    positions,
                    ..
                },
                TrainEvent::Learned { gradient, .. },
            ) => {
                stage.steps = step;
                self.pass_back(id, step, loss, positions, gradient.filter(|_| !first));
            }
            (Doing::Save { iteration, .. }, TrainEvent::Saved { file, .. }) => {
                let saved = Saved {
                    job,
                    iteration,
                    file,
                };
                self.tell_job_origin(id, Message::Saved(saved));
            }
            (doing, _) => {
                let text = format!("the engine gave something else while {}", doing.name());
                self.fail_job_stage(id, failed::ENGINE, text);
            }
        }
    }

    /// What the engine gave, as it travels.
    fn batch(&mut self, id: &RequestId, tensor: &Tensor) -> Option<Tensor> {
        let batch = tensor.cast(DType::F32).filter(|tensor| {
            let shape = tensor.shape();
            shape.len() == 3 && shape.iter().all(|&size| size > 0)
        });
        if batch.is_none() {
            let text = format!(
                "the engine gave a {} tensor of shape {:?}, expected floats of shape [B, T, H]",
                tensor.dtype(),
                tensor.shape()
            );
            self.fail_job_stage(id, failed::ENGINE, text);
        }
        batch
    }

    /// Sends an example to the stage after this one.
    fn pass_on(&mut self, id: &RequestId, example: Example) -> bool {
        let Some(stage) = self.job_stages.get(id) else {
            return false;
        };
        let bytes = example.payload_len();
        let most = self.config.decode.frame;
        if u32::try_from(bytes).map_or(true, |bytes| bytes > most) {
            let text = format!(
                "an example takes {bytes} bytes between two stages, at most {most} travel; make \
                 the batch smaller"
            );
            self.fail_job_stage(id, failed::INPUT, text);
            return false;
        }
        let next = stage.plan.after(stage.stage).cloned();
        let route = stage.next.or_else(|| self.connection_to(&next.clone()?));
        let Some(route) = route else {
            let own = &self.config.node;
            let next = next.as_deref().unwrap_or_default();
            let text = format!("{own} has no connection to {next}");
            self.fail_job_stage(id, failed::PEER, text);
            return false;
        };
        if let Some(stage) = self.job_stages.get_mut(id) {
            stage.next = Some(route);
        }
        let message = Message::Example(example);
        if let Err(error) = crate::wire::encode_parts(&message) {
            // The engine changed the batch.
            self.fail_job_stage(id, failed::ENGINE, error.to_string());
            return false;
        }
        self.send(route, message);
        true
    }

    /// Sends a gradient to the stage before this one; the first stage tells the origin.
    fn pass_back(
        &mut self,
        id: &RequestId,
        step: u32,
        loss: f32,
        positions: u32,
        gradient: Option<Tensor>,
    ) {
        let Some(stage) = self.job_stages.get(id) else {
            return;
        };
        let job = id.clone();
        if stage.stage == 0 {
            let loss = Loss {
                job,
                step,
                loss,
                positions,
            };
            self.tell_job_origin(id, Message::Loss(loss));
            return;
        }
        let (Some(gradient), Some(before)) = (gradient, stage.before) else {
            let text = String::from("the engine gave no gradient");
            self.fail_job_stage(id, failed::ENGINE, text);
            return;
        };
        let Some(gradient) = self.batch(id, &gradient) else {
            return;
        };
        let gradient = Gradient {
            job,
            step,
            loss,
            positions,
            gradient,
        };
        self.send(before, Message::Gradient(gradient));
    }

    /// Tells the origin of a job something; it may be this node.
    fn tell_job_origin(&mut self, id: &RequestId, word: Message) {
        let Some(stage) = self.job_stages.get(id) else {
            return;
        };
        match stage.origin {
            Some(route) => self.send(route, word),
            None => {
                let own = self.config.node.clone();
                if let Err(violation) = self.origin_hears(&own, word) {
                    // Nobody else to blame, and nothing to close.
                    self.fail_job_stage(id, failed::ENGINE, violation.to_string());
                }
            }
        }
    }
}
