//! A node's settings.

use super::codec::{Damage, Item, Sink, Source, fields, names, variants};
use crate::config::{Broadcast, Config, DirectPeer, Discovery, Limits, Strategy, Tcp, Timing};
use crate::id::{ModelId, NodeId, RequestId};
use crate::tensor::DType;
use crate::topology::{Capabilities, EngineInfo, Flops, Pin, Speed};
use crate::wire::DecodeLimits;
use alloc::string::String;

names! { NodeId RequestId ModelId }

impl Item for DType {
    fn put<S: Sink>(&self, out: &mut S) {
        let number = Self::ALL.iter().position(|dtype| dtype == self);
        number.unwrap_or(Self::ALL.len()).put(out);
    }

    fn take(from: &mut Source<'_>) -> Result<Self, Damage> {
        let number = usize::take(from)?;
        let dtype = Self::ALL.get(number).copied();
        dtype.ok_or(Damage("an unknown element type"))
    }
}

variants! {
    Strategy { 0 = Memory, 1 = Auto }
}

fields! {
    Config {
        node, capabilities, discovery, max_tokens, activations, decode, timing, limits, trains,
        placement, pins, fetches, shares, keep_loaded,
    }
    Capabilities { model, chip, memory, flops, engine, speed }
    Speed { decode, prefill }
    EngineInfo { name, version, dtype, formats }
    Pin { node, first, last }
    Flops { fp32, fp16, int8 }
    Discovery { file, direct, broadcast, tcp }
    Broadcast { node_port, target_port, nodes, kinds }
    Tcp { node_port, seeds, probe, port, nodes }
    DirectPeer { address, node }
    DecodeLimits { frame, metadata, json_depth, json }
    Timing {
        health_every, health_timeout, topology_every, forming_every, forming_for, dial_timeout,
        command_timeout, command_redial_max, redial_min, redial_max, discovery_every, announce_every,
        announce_timeout, ask_every, ask_again_max, ask_timeout, measure_every, measure_most, frame_stall, acknowledge,
        stage_timeout, probe_idle, probe_busy, regroup, orphan, job_step,
    }
    Limits {
        connections, peers, announcements, newcomers, addresses, trials, outbox, window, requests, calls, ended, topology, stages, probes,
        window_bytes, stream_window_bytes, prefill, recoveries, jobs,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::format;
    use alloc::vec;
    use alloc::vec::Vec;

    #[test]
    fn settings_read_back() {
        let mut config = Config::new("here".into(), Capabilities::unknown());
        config.capabilities.memory = -1;
        config.capabilities.flops.fp16 = 0.1;
        config.capabilities.engine = Some(EngineInfo {
            formats: vec![String::from("F16")],
            ..EngineInfo::default()
        });
        config.activations = vec![DType::Bf16, DType::F32];
        let whole = Discovery {
            file: true,
            direct: vec![DirectPeer {
                address: "there:1".into(),
                node: Some("there".into()),
            }],
            broadcast: Some(Broadcast {
                node_port: 1,
                target_port: 2,
                nodes: vec!["there".into()],
                kinds: vec!["Ethernet".into()],
            }),
            tcp: Some(Tcp {
                node_port: 3,
                seeds: vec!["there:4".into()],
                probe: true,
                port: 5,
                nodes: vec!["there".into()],
            }),
        };
        config.placement = Strategy::Auto;
        config.pins = vec![Pin {
            node: "here".into(),
            first: 0,
            last: 3,
        }];
        config.limits.window = 3;
        config.fetches = true;
        config.keep_loaded = Some(core::time::Duration::from_secs(300));
        for discovery in [whole, Discovery::default()] {
            config.discovery = discovery;
            let mut bytes = Vec::new();
            config.put(&mut bytes);
            let mut from = Source(&bytes);
            let back = Config::take(&mut from).expect("it was written just now");
            assert_eq!(format!("{back:?}"), format!("{config:?}"));
            assert!(from.0.is_empty());
        }
    }
}
