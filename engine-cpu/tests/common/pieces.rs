//! A prompt in pieces through a model in pieces.

use super::{forward_with, hidden, load, shard, token};
use exo_engine_cpu::CpuEngine;
use exo_protocol::Shard;
use exo_protocol::engine::{EngineInput, EngineOutput, Sampling};
use std::ops::Range;

/// Runs a prompt in `blocks` through `shards`, then `answer` greedy tokens; returns the tokens and
/// the logits of every one of them. Of the prompt, only the last block asks for a token.
pub(crate) fn run(
    engine: &mut CpuEngine,
    shards: &[Shard],
    prompt: &[u32],
    blocks: &[usize],
    answer: usize,
) -> (Vec<u32>, Vec<Vec<u32>>) {
    for shard in shards {
        load(engine, shard).expect("loads");
    }
    let (mut position, mut at) = (0u32, 0);
    let (mut chosen, mut logits) = (Vec::new(), Vec::new());
    let mut sizes = blocks.iter().copied().cycle();
    while chosen.len() <= answer {
        let block = match chosen.last() {
            Some(last) => vec![*last],
            None => {
                let end = (at + sizes.next().unwrap_or(prompt.len()).max(1)).min(prompt.len());
                let block = prompt[at..end].to_vec();
                at = end;
                block
            }
        };
        let mut input = EngineInput::Tokens(block.clone());
        let mut result = EngineOutput::Nothing;
        let sampling = (at == prompt.len()).then(Sampling::default);
        for shard in shards {
            let (output, added) = forward_with(
                engine,
                shard,
                "request",
                position,
                input.clone(),
                sampling.clone(),
            )
            .expect("runs");
            assert_eq!(added as usize, block.len());
            if shard.is_last() {
                result = output;
            } else {
                input = EngineInput::Hidden(hidden(output));
            }
        }
        position += block.len() as u32;
        if sampling.is_none() {
            assert_eq!(result, EngineOutput::Nothing);
        } else {
            chosen.push(token(result));
            logits.push(
                engine
                    .last_logits()
                    .iter()
                    .map(|logit| logit.to_bits())
                    .collect(),
            );
        }
    }
    (chosen, logits)
}

/// The shards of a model with `layers` layers, cut before the layers `at`.
pub(crate) fn cut(at: &[u32], layers: u32) -> Vec<Shard> {
    let mut ends: Vec<u32> = at.iter().copied().chain([0, layers]).collect();
    ends.sort_unstable();
    ends.dedup();
    let ranges = ends.windows(2).map(|pair| pair[0]..pair[1]);
    ranges
        .map(|range: Range<u32>| shard(range, layers))
        .collect()
}

/// Token ids without a pattern.
pub(crate) fn prompt(len: usize, vocab: usize) -> Vec<u32> {
    (0..len)
        .map(|i| ((i * i * 7 + i * 13 + 5) % vocab) as u32)
        .collect()
}
