//! The application's side of requests: starting and stopping them.

use super::Node;
use super::input::Submit;
use super::output::{Event, Failure, FinishReason, Rejection, Stage};
use super::request::{Application, Request, StepState};
use crate::engine::EngineInput;
use crate::id::RequestId;
use crate::json::Json;
use crate::tensor::Tensor;
use crate::wire::{Message, SendPrompt};
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;

impl Node {
    pub(super) fn submit(&mut self, submit: Submit) {
        let request = submit.request.clone();
        if let Some(rejection) = self.rejection(&submit) {
            self.tell(Event::Rejected { request, rejection });
            return;
        }
        let ring = self.ring(&submit.model, submit.layers);
        let Some(first) = ring.first().cloned() else {
            let rejection = Rejection::Layers(submit.layers);
            self.tell(Event::Rejected { request, rejection });
            return;
        };
        self.tell(Event::Accepted {
            request: request.clone(),
            ring: ring.clone(),
        });
        self.requests.insert(
            request.clone(),
            Request {
                origin: Some(self.config.node.clone()),
                stage: self.stage_in(&ring),
                ring,
                sampling: submit.sampling,
                max_tokens: submit.max_tokens.min(self.config.max_tokens),
                position: 0,
                tokens: 0,
                step: StepState::Idle,
                until: self.now + submit.timeout,
                application: Some(Application {
                    end_tokens: submit.end_tokens,
                    seconds: submit.timeout.as_secs(),
                }),
            },
        );
        self.start(&request, &first, submit.prompt, submit.tokens);
    }

    pub(super) fn rejection(&self, submit: &Submit) -> Option<Rejection> {
        let id = &submit.request;
        if self.stopping {
            Some(Rejection::Stopping)
        } else if self.requests.contains_key(id) || self.ended.contains(id) {
            Some(Rejection::Duplicate(id.clone()))
        } else if submit.tokens.is_empty() {
            Some(Rejection::EmptyPrompt)
        } else if self.requests.len() >= self.config.limits.requests {
            Some(Rejection::Busy(self.requests.len()))
        } else {
            None
        }
    }

    /// Brings the prompt to the first stage.
    pub(super) fn start(
        &mut self,
        id: &RequestId,
        first: &Stage,
        prompt: Arc<str>,
        tokens: Vec<u32>,
    ) {
        let zero = self
            .requests
            .get(id)
            .is_some_and(|request| request.max_tokens == 0);
        if zero {
            self.finished(id, FinishReason::Length);
        } else if first.node == self.config.node {
            self.begin_step(id, EngineInput::Tokens(tokens));
        } else if self.is_own(&first.node) {
            self.send_step(id, first, Tensor::from_tokens(&tokens), 0);
        } else {
            let message = Message::SendPromptRequest(SendPrompt {
                shard: first.shard.clone(),
                prompt: String::from(&*prompt),
                request_id: Some(id.as_str().into()),
                inference_state: Some(Json::Object(vec![])),
            });
            self.send_to_stage(id, &first.node, message);
        }
    }

    pub(super) fn cancel(&mut self, id: &RequestId) {
        if self
            .requests
            .get(id)
            .is_some_and(|request| request.application.is_some())
        {
            self.fail(id, Failure::Cancelled);
        }
    }

    pub(super) fn stop(&mut self) {
        self.stopping = true;
        let all: Vec<RequestId> = self.requests.keys().cloned().collect();
        for id in all {
            self.fail(&id, Failure::Stopping);
        }
    }
}
