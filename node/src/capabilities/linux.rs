//! Linux: what the kernel says in its files, and what tools of graphics cards say.

use super::{Found, ask, mebibytes};
use exo_protocol::topology::Capabilities;
use std::fs;
use std::path::Path;

/// This machine.
pub(super) fn machine() -> Capabilities {
    let gpu = ask("nvidia-smi", &["--query-gpu=name", "--format=csv,noheader"])
        .and_then(|text| nvidia(&text))
        .or_else(|| amd(Path::new("/")));
    look(Path::new("/"), gpu)
}

/// The machine whose files are under `root`.
///
/// Its memory is the processor's, also with a graphics card: no engine here computes on one under
/// Linux.
fn look(root: &Path, gpu: Option<String>) -> Capabilities {
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
    Found {
        model: Some(format!(
            "Linux Box ({})",
            gpu.as_deref().unwrap_or("Device: CPU")
        )),
        chip: Some(
            chip_name(&read("proc/cpuinfo"))
                .unwrap_or_else(|| "Unknown Chip (Device: CPU)".to_owned()),
        ),
        memory: memory.map(mebibytes),
    }
    .told()
}

/// The first card's name, as `nvidia-smi --query-gpu=name --format=csv,noheader` lists them.
fn nvidia(text: &str) -> Option<String> {
    let name = text.lines().map(str::trim).find(|line| !line.is_empty())?;
    // It speaks of errors on the same channel.
    name.to_ascii_uppercase()
        .starts_with("NVIDIA")
        .then(|| name.to_owned())
}

/// The first card of AMD's driver that tells its name.
fn amd(root: &Path) -> Option<String> {
    let mut cards: Vec<_> = fs::read_dir(root.join("sys/class/drm"))
        .ok()?
        .filter_map(|entry| Some(entry.ok()?.path().join("device")))
        .collect();
    cards.sort();
    cards.into_iter().find_map(|device| {
        let read = |name: &str| fs::read_to_string(device.join(name)).ok();
        let vendor = read("vendor")?;
        let name = read("product_name")?.trim().to_owned();
        (vendor.trim() == "0x1002" && !name.is_empty()).then_some(name)
    })
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
    }

    #[test]
    fn cards_tell_their_names() {
        assert_eq!(
            nvidia("NVIDIA GeForce RTX 4090\nNVIDIA GeForce RTX 3060\n").as_deref(),
            Some("NVIDIA GeForce RTX 4090")
        );
        assert_eq!(nvidia("No devices were found\n"), None);
        assert_eq!(nvidia(""), None);

        let root = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = root.path().join("sys/class/drm").join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        assert_eq!(amd(root.path()), None);
        write("card0/device/vendor", "0x8086\n");
        write("card0/device/product_name", "Some other card\n");
        write("card1/device/vendor", "0x1002\n");
        assert_eq!(amd(root.path()), None);
        write("card1/device/product_name", "AMD Radeon RX 7900 XTX\n");
        let name = amd(root.path());
        assert_eq!(name.as_deref(), Some("AMD Radeon RX 7900 XTX"));
        assert_eq!(
            look(root.path(), name).model,
            "Linux Box (AMD Radeon RX 7900 XTX)"
        );
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
        assert_eq!(look(root.path(), None).memory, 24_156);
        write("proc/self/cgroup", "0::/\n");
        write("sys/fs/cgroup/memory.max", "4294967296\n");
        let limited = look(root.path(), None);
        assert_eq!(limited.memory, 4096);
        assert_eq!(limited.chip, "AMD EPYC 7763 64-Core Processor");
        assert_eq!(limited.model, "Linux Box (Device: CPU)");
    }
}
