//! macOS: `system_profiler`, and `sysctl` for what it does not say.

use super::{Found, ask, mebibytes};
use exo_protocol::topology::Capabilities;
use serde_json::Value;

/// This machine.
pub(super) fn machine() -> Capabilities {
    let profile = ask("system_profiler", &["SPHardwareDataType", "-json"]);
    let sysctl = |name: &str| ask("sysctl", &["-n", name]);
    let found = profile.as_deref().and_then(from_profile);
    found
        .unwrap_or_default()
        .or_else(|| {
            from_sysctl(
                sysctl("hw.model").as_deref(),
                sysctl("machdep.cpu.brand_string").as_deref(),
                sysctl("hw.memsize").as_deref(),
            )
        })
        .told()
}

/// What `system_profiler SPHardwareDataType -json` says. Keys have changed their names over the
/// years, and Macs with Intel's processors have others.
fn from_profile(json: &str) -> Option<Found> {
    let json: Value = serde_json::from_str(json).ok()?;
    let hardware = json.get("SPHardwareDataType")?.get(0)?;
    let first = |keys: &[&str]| {
        let text = keys.iter().find_map(|key| hardware.get(*key)?.as_str())?;
        let text = text.trim();
        (!text.is_empty()).then(|| text.to_owned())
    };
    Some(Found {
        model: first(&["machine_name", "model_name", "machine_model"]),
        chip: first(&["chip_type", "chip", "cpu_type"]),
        memory: first(&["physical_memory", "memory"]).and_then(|text| size(&text)),
    })
}

/// `128 GB` in MiB. macOS means powers of two.
fn size(text: &str) -> Option<i64> {
    let (number, unit) = text.split_once(char::is_whitespace)?;
    let number: u64 = number.trim().parse().ok()?;
    let shift = match unit.trim() {
        "TB" | "TiB" => 40,
        "GB" | "GiB" => 30,
        "MB" | "MiB" => 20,
        _ => return None,
    };
    number.checked_mul(1 << shift).map(mebibytes)
}

fn from_sysctl(model: Option<&str>, chip: Option<&str>, memory: Option<&str>) -> Found {
    let text = |text: Option<&str>| Some(text?.trim().to_owned()).filter(|text| !text.is_empty());
    Found {
        model: text(model),
        chip: text(chip),
        memory: memory
            .and_then(|bytes| bytes.trim().parse().ok())
            .map(mebibytes),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use exo_protocol::topology::Flops;

    const M3: &str = r#"{"SPHardwareDataType": [{
        "_name": "hardware_overview", "activation_lock_status": "activation_lock_disabled",
        "boot_rom_version": "10151.101.3", "chip_type": "Apple M3 Max",
        "machine_model": "Mac15,8", "machine_name": "MacBook Pro",
        "number_processors": "proc 16:12:4", "physical_memory": "128 GB"}]}"#;
    const INTEL: &str = r#"{"SPHardwareDataType": [{
        "_name": "hardware_overview", "cpu_type": "8-Core Intel Core i9",
        "current_processor_speed": "2,3 GHz", "machine_model": "MacBookPro16,1",
        "physical_memory": "64 GB"}]}"#;

    #[test]
    fn a_recorded_profile_is_understood() {
        let mac = from_profile(M3).unwrap().told();
        assert_eq!(
            mac,
            Capabilities {
                model: "MacBook Pro".to_owned(),
                chip: "Apple M3 Max".to_owned(),
                memory: 131_072,
                flops: Flops {
                    fp32: 14.2,
                    fp16: 28.4,
                    int8: 56.8
                },
                engine: None,
                speed: None,
            }
        );
        let intel = from_profile(INTEL).unwrap().told();
        assert_eq!(
            (intel.model.as_str(), intel.chip.as_str(), intel.memory),
            ("MacBookPro16,1", "8-Core Intel Core i9", 65_536)
        );
        assert_eq!(intel.flops, Flops::default());
        for broken in ["", "{}", r#"{"SPHardwareDataType": []}"#, "[1]"] {
            assert_eq!(from_profile(broken), None, "{broken}");
        }
    }

    #[test]
    fn sizes_have_units() {
        assert_eq!(size("128 GB"), Some(131_072));
        assert_eq!(size("1536 MiB"), Some(1536));
        assert_eq!(size("1 TB"), Some(1_048_576));
        for wrong in ["128", "GB", "much GB", "8 XB", "-1 GB", "99999999999 TB"] {
            assert_eq!(size(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn sysctl_fills_what_the_profile_lacks() {
        let half = r#"{"SPHardwareDataType": [{"machine_name": "Mac mini", "chip_type": " "}]}"#;
        let found = from_profile(half).unwrap().or_else(|| {
            from_sysctl(
                Some("Mac16,10\n"),
                Some("Apple M4\n"),
                Some("17179869184\n"),
            )
        });
        let told = found.told();
        assert_eq!(
            (told.model.as_str(), told.chip.as_str(), told.memory),
            ("Mac mini", "Apple M4", 16_384)
        );
        assert_eq!(
            from_sysctl(None, None, Some("?")).told(),
            Capabilities::unknown()
        );
    }
}
