//! Making a shard ready.

use super::{Loaded, MlxEngine};
use crate::shard::Found;
use crate::train::adapt;
use crate::weights::Form;
use crate::{ComputeDtype, MlxError, WeightForm};
use exo_protocol::Shard;
use exo_protocol::engine::EngineEvent;
use exo_protocol::id::CallId;
use mlx_rs::Dtype;

impl MlxEngine {
    pub(super) fn load(
        &mut self,
        call: CallId,
        shard: Shard,
        progress: &mut dyn FnMut(EngineEvent),
    ) -> Result<EngineEvent, MlxError> {
        if let Some(loaded) = self.shards.get(&shard) {
            return Ok(loaded.told(call));
        }
        if shard.is_empty() {
            let (start, end, layers) = (shard.start, shard.end, shard.layers);
            return Err(MlxError::Range { start, end, layers });
        }
        let model = (self.open)(&shard.model)?;
        let found = model.config().layers;
        if found != shard.layers {
            let (model, asked) = (shard.model.to_string(), shard.layers);
            return Err(MlxError::Layers {
                model,
                asked,
                found,
            });
        }
        let found = Found::new(&model, shard.range())?;
        let form = self.form(&found)?;
        let total = found.work();
        let mut ready = found.load(form, &mut |done| {
            progress(EngineEvent::Progress { call, done, total });
        })?;
        // A stage can do without what tells it, which may be another node's part of the files.
        let mut fingerprint = model.fingerprint().unwrap_or_else(|error| {
            tracing::warn!(%shard, "nobody can check that it is the same model everywhere: {error}");
            0
        });
        if let Some(adapter) = &self.options.adapter
            && let Some(adapted) = adapt(&mut ready, &shard.model, fingerprint, adapter)?
        {
            fingerprint = adapted;
        }
        let bytes = ready.bytes();
        let device = self.device();
        tracing::info!(%shard, bytes, device, dtype = ?form.dtype, packed = form.packed, "loaded");
        let loaded = Loaded {
            model,
            shard: ready,
            bytes,
            fingerprint,
        };
        let told = loaded.told(call);
        self.shards.insert(shard, loaded);
        Ok(told)
    }

    /// What the weights become: the quickest form on this device that fits into memory.
    fn form(&self, found: &Found) -> Result<Form, MlxError> {
        let dtype = match self.options.dtype {
            Some(ComputeDtype::F32) => Dtype::Float32,
            Some(ComputeDtype::F16) => Dtype::Float16,
            Some(ComputeDtype::Bf16) => Dtype::Bfloat16,
            None if self.gpu => found.half(),
            None => Dtype::Float32,
        };
        let form = |packed| Form { dtype, packed };
        let check = |packed| {
            let bytes = found.bytes(form(packed));
            let cache = found.smallest_cache(form(packed), self.chunk());
            self.check_memory(
                "the shard, with the smallest KV cache,",
                bytes.saturating_add(cache),
                self.memory_used(),
            )
        };
        let packed = match self.options.weights {
            WeightForm::Packed => true,
            WeightForm::Dense => false,
            WeightForm::Auto => self.gpu || check(false).is_err(),
        };
        check(packed)?;
        Ok(form(packed))
    }
}
