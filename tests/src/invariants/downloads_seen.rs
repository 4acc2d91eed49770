//! Once nothing disturbs them, all nodes see of each other what is being fetched, as far as it is,
//! and nothing else.

use super::must;
use crate::sim::World;
use exo_protocol::Shard;
use std::collections::BTreeMap;

pub(crate) fn check(world: &World) -> Result<(), String> {
    let real = &world.hosts[..world.real_hosts()];
    for (index, host) in real.iter().enumerate() {
        let status = host.node.status();
        let mut seen: BTreeMap<String, BTreeMap<Shard, u64>> = BTreeMap::new();
        for (node, download) in status.downloading() {
            let shard = download.shard.clone();
            seen.entry(node.to_string())
                .or_default()
                .insert(shard, download.done);
        }
        for other in real {
            let name = other.config.node.to_string();
            let fetches = other.fetches.values();
            let told = fetches.map(|it| (it.shard.clone(), it.done));
            let told: BTreeMap<Shard, u64> = told.collect();
            let seen = seen.remove(&name).unwrap_or_default();
            must(seen == told, || {
                format!("n{index} sees {name} fetch {seen:?}, which is {told:?}")
            })?;
        }
        must(seen.is_empty(), || format!("n{index} sees {seen:?}"))?;
    }
    Ok(())
}
