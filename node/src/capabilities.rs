//! What this machine can do: its memory decides how many layers it gets.

use exo_protocol::topology::{Capabilities, Flops};
use std::fs;
use std::path::Path;
use std::process::Command;

/// Looks at this machine. `memory` (MiB) overrides what is found.
#[must_use]
pub fn detect(memory: Option<u64>) -> Capabilities {
    let mut found = if cfg!(target_os = "macos") {
        macos()
    } else {
        linux(Path::new("/"))
    };
    if let Some(memory) = memory {
        found.memory = i64::try_from(memory).unwrap_or(i64::MAX);
    } else if found.memory <= 0 {
        tracing::warn!(
            "cannot tell how much memory this machine has; assuming {ASSUMED} MiB (set it with \
             --node-memory)"
        );
        found.memory = ASSUMED;
    }
    found
}

/// Enough for a small model, and little enough to be there.
const ASSUMED: i64 = 1024;

fn linux(root: &Path) -> Capabilities {
    let read = |path: &str| fs::read_to_string(root.join(path)).unwrap_or_default();
    let total = memory_total(&read("proc/meminfo"));
    let limit = cgroup_files(&read("proc/self/cgroup"))
        .iter()
        .filter_map(|path| cgroup_limit(&read(path)))
        .min();
    let memory = match (total, limit) {
        (Some(total), Some(limit)) => Some(total.min(limit)),
        (total, limit) => total.or(limit),
    };
    let chip = chip_name(&read("proc/cpuinfo"));
    let device = if cfg!(target_os = "linux") {
        "Linux Box (Device: CPU)"
    } else {
        "Unknown Device"
    };
    Capabilities {
        model: device.to_owned(),
        chip: chip.unwrap_or_else(|| "Unknown Chip (Device: CPU)".to_owned()),
        memory: memory.map_or(0, mebibytes),
        flops: Flops::default(),
    }
}

fn macos() -> Capabilities {
    let sysctl = |name: &str| {
        let output = Command::new("sysctl").args(["-n", name]).output().ok()?;
        let text = String::from_utf8(output.stdout).ok()?.trim().to_owned();
        (output.status.success() && !text.is_empty()).then_some(text)
    };
    from_sysctl(
        sysctl("hw.model").as_deref(),
        sysctl("machdep.cpu.brand_string").as_deref(),
        sysctl("hw.memsize").as_deref(),
    )
}

fn from_sysctl(model: Option<&str>, chip: Option<&str>, memory: Option<&str>) -> Capabilities {
    let unknown = Capabilities::unknown();
    Capabilities {
        model: model.map_or(unknown.model, str::to_owned),
        chip: chip.map_or(unknown.chip, str::to_owned),
        memory: memory
            .and_then(|bytes| bytes.parse().ok())
            .map_or(0, mebibytes),
        flops: Flops::default(),
    }
}

fn mebibytes(bytes: u64) -> i64 {
    i64::try_from(bytes >> 20).unwrap_or(i64::MAX)
}

/// `MemTotal` of `/proc/meminfo` in bytes.
fn memory_total(meminfo: &str) -> Option<u64> {
    let line = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kibibytes.checked_mul(1024)
}

/// The files that may limit this process, from `/proc/self/cgroup`: of its own group and of the
/// groups around it, as far as a container sees them.
fn cgroup_files(cgroup: &str) -> Vec<String> {
    let mut files = vec![
        "sys/fs/cgroup/memory.max".to_owned(),
        "sys/fs/cgroup/memory/memory.limit_in_bytes".to_owned(),
    ];
    for line in cgroup.lines() {
        let mut fields = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (fields.next(), fields.next()) else {
            continue;
        };
        let (folder, file) = match controllers {
            "" => ("sys/fs/cgroup", "memory.max"),
            list if list.split(',').any(|name| name == "memory") => {
                ("sys/fs/cgroup/memory", "memory.limit_in_bytes")
            }
            _ => continue,
        };
        let mut group = path.trim_matches('/');
        while !group.is_empty() {
            files.push(format!("{folder}/{group}/{file}"));
            group = group.rsplit_once('/').map_or("", |(parent, _)| parent);
        }
    }
    files
}

/// A limit in bytes; `None` for `max` and for the huge number that version 1 writes for it.
fn cgroup_limit(text: &str) -> Option<u64> {
    text.trim()
        .parse()
        .ok()
        .filter(|&bytes| bytes > 0 && bytes < 1 << 60)
}

/// The processor's name from `/proc/cpuinfo`: x86 says `model name`, some ARM boards `Model`.
fn chip_name(cpuinfo: &str) -> Option<String> {
    let field = |wanted: &str| {
        cpuinfo.lines().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            let value = value.split_whitespace().collect::<Vec<_>>().join(" ");
            (name.trim() == wanted && !value.is_empty()).then_some(value)
        })
    };
    field("model name").or_else(|| field("Model"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const X86: &str = "processor\t: 0\nvendor_id\t: AuthenticAMD\ncpu family\t: 25\nmodel\t\t: 1\n\
                       model name\t: AMD EPYC  7763 64-Core Processor\nstepping\t: 1\n";
    const RASPBERRY: &str = "processor\t: 0\nBogoMIPS\t: 108.00\nCPU part\t: 0xd0b\n\n\
                             Revision\t: c04170\nModel\t\t: Raspberry Pi 5 Model B Rev 1.0\n";
    const MEMINFO: &str = "MemTotal:       24736024 kB\nMemFree:        17654636 kB\n";

    #[test]
    fn recorded_texts_are_understood() {
        assert_eq!(memory_total(MEMINFO), Some(24_736_024 * 1024));
        assert_eq!(memory_total("MemTotal: lots kB"), None);
        assert_eq!(memory_total(""), None);
        assert_eq!(
            chip_name(X86).as_deref(),
            Some("AMD EPYC 7763 64-Core Processor")
        );
        assert_eq!(
            chip_name(RASPBERRY).as_deref(),
            Some("Raspberry Pi 5 Model B Rev 1.0")
        );
        assert_eq!(chip_name("processor : 0\n"), None);
        assert_eq!(cgroup_limit("8589934592\n"), Some(8 << 30));
        assert_eq!(cgroup_limit("max\n"), None);
        assert_eq!(cgroup_limit("9223372036854771712\n"), None);
        assert_eq!(
            from_sysctl(Some("Mac15,8"), Some("Apple M3 Max"), Some("137438953472")),
            Capabilities {
                model: "Mac15,8".to_owned(),
                chip: "Apple M3 Max".to_owned(),
                memory: 131_072,
                flops: Flops::default(),
            }
        );
        assert_eq!(from_sysctl(None, None, Some("?")), Capabilities::unknown());
    }

    #[test]
    fn the_groups_around_a_process_are_looked_at() {
        let two = cgroup_files("0::/user.slice/session-1.scope\n");
        assert!(two.contains(&"sys/fs/cgroup/user.slice/session-1.scope/memory.max".to_owned()));
        assert!(two.contains(&"sys/fs/cgroup/user.slice/memory.max".to_owned()));
        let one = cgroup_files("12:cpu,cpuacct:/a\n4:memory:/docker/abc\nbroken\n");
        assert!(one.contains(&"sys/fs/cgroup/memory/docker/abc/memory.limit_in_bytes".to_owned()));
        assert!(!one.iter().any(|file| file.ends_with("/a/memory.max")));
    }

    #[test]
    fn the_smallest_limit_wins() {
        let root = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        write("proc/meminfo", MEMINFO);
        write("proc/cpuinfo", X86);
        assert_eq!(linux(root.path()).memory, 24_156);
        write("proc/self/cgroup", "0::/\n");
        write("sys/fs/cgroup/memory.max", "4294967296\n");
        assert_eq!(linux(root.path()).memory, 4096);
        assert_eq!(linux(root.path()).chip, "AMD EPYC 7763 64-Core Processor");
    }

    #[test]
    fn an_override_wins_and_nothing_is_never_zero() {
        assert_eq!(detect(Some(1000)).memory, 1000);
        assert!(detect(None).memory > 0);
    }
}
