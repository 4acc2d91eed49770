//! What the kernel counts of a process, and of a network namespace.

use std::fs;
use std::path::Path;
use std::time::Duration;

/// What a process has cost so far.
#[derive(Clone, Debug, Default)]
pub(crate) struct Counts {
    /// How often a thread of it went to sleep, to be woken later.
    sleeps: u64,
    /// Nanoseconds on a processor.
    busy: u64,
    /// KiB in memory.
    resident: u64,
    /// KiB of it that no file holds.
    own: u64,
}

/// What it costs in a second.
#[derive(Clone, Debug)]
pub(crate) struct Cost {
    pub(crate) wakes: f64,
    pub(crate) busy: Duration,
    /// KiB.
    pub(crate) resident: u64,
    /// KiB.
    pub(crate) own: u64,
}

impl Counts {
    /// Of the process with this number.
    pub(crate) fn of(process: u32) -> Self {
        let folder = Path::new("/proc").join(process.to_string());
        let status = fs::read_to_string(folder.join("status")).expect("it runs");
        let mut counts = Self {
            resident: field(&status, "VmRSS:"),
            own: field(&status, "RssAnon:"),
            ..Self::default()
        };
        let threads = fs::read_dir(folder.join("task")).expect("it runs");
        for thread in threads.flatten() {
            // It may have ended meanwhile: what it cost is lost, and little.
            let read =
                |name: &str| fs::read_to_string(thread.path().join(name)).unwrap_or_default();
            counts.sleeps += field(&read("status"), "voluntary_ctxt_switches:");
            let ran = read("schedstat");
            let ran = ran
                .split(' ')
                .next()
                .and_then(|ran| ran.parse::<u64>().ok());
            counts.busy += ran.unwrap_or(0);
        }
        counts
    }

    /// What was added since, in each second of `time`.
    pub(crate) fn since(&self, before: &Self, time: Duration) -> Cost {
        let seconds = time.as_secs_f64();
        let busy = self.busy.saturating_sub(before.busy) as f64 / 1e9;
        Cost {
            wakes: self.sleeps.saturating_sub(before.sleeps) as f64 / seconds,
            busy: Duration::from_secs_f64(busy / seconds),
            resident: self.resident,
            own: self.own,
        }
    }
}

/// The number after a name in a file of `/proc`; zero if it is not there.
fn field(text: &str, name: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    let number = line.and_then(|rest| rest.split_whitespace().next());
    number.and_then(|number| number.parse().ok()).unwrap_or(0)
}

/// What all interfaces of this namespace sent; what went over loopback among it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Traffic {
    pub(crate) packets: f64,
    pub(crate) bytes: f64,
}

impl Traffic {
    pub(crate) fn now() -> Option<Self> {
        let table = fs::read_to_string("/proc/net/dev").ok()?;
        let mut all = Self {
            packets: 0.0,
            bytes: 0.0,
        };
        for line in table.lines().skip(2) {
            let (_, counters) = line.split_once(':')?;
            let counters: Vec<f64> = counters
                .split_whitespace()
                .map(|counter| counter.parse().unwrap_or(0.0))
                .collect();
            // Eight counters of what came, then those of what went.
            all.bytes += counters.get(8)?;
            all.packets += counters.get(9)?;
        }
        Some(all)
    }

    /// What was added since, for each of `nodes` nodes.
    pub(crate) fn since(&self, before: &Self, nodes: u32) -> Self {
        let nodes = f64::from(nodes);
        Self {
            packets: (self.packets - before.packets) / nodes,
            bytes: (self.bytes - before.bytes) / nodes,
        }
    }
}
