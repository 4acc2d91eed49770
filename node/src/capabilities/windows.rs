//! Windows: what PowerShell's management classes say.

use super::{Found, ask, mebibytes};
use exo_protocol::topology::Capabilities;
use serde_json::Value;

/// One call, since PowerShell takes a second to start.
const QUERY: &str = "@{ processor = (Get-CimInstance Win32_Processor | Select-Object -First 1).Name; \
                     memory = (Get-CimInstance Win32_ComputerSystem).TotalPhysicalMemory; \
                     cards = @((Get-CimInstance Win32_VideoController).Name) } | ConvertTo-Json";

/// This machine.
pub(super) fn machine() -> Capabilities {
    let text = ask(
        "powershell",
        &["-NoProfile", "-NonInteractive", "-Command", QUERY],
    );
    from_query(&text.unwrap_or_default()).told()
}

/// What [`QUERY`] prints. The memory is the processor's: no engine here computes on a card under
/// Windows.
fn from_query(json: &str) -> Found {
    let json: Value = serde_json::from_str(json).unwrap_or_default();
    let text = |value: &Value| {
        let words: Vec<&str> = value.as_str()?.split_whitespace().collect();
        (!words.is_empty()).then(|| words.join(" "))
    };
    let cards = json.get("cards").and_then(Value::as_array);
    let card = cards.into_iter().flatten().filter_map(text).find(|name| {
        ["NVIDIA", "AMD"]
            .iter()
            .any(|maker| name.starts_with(maker))
    });
    let device = card.as_deref().unwrap_or("Device: CPU");
    Found {
        model: Some(format!("Windows Box ({device})")),
        chip: json.get("processor").and_then(text),
        memory: json.get("memory").and_then(Value::as_u64).map(mebibytes),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recorded_answer_is_understood() {
        let json = r#"{
            "processor":  "Intel(R) Core(TM) i7-10750H CPU @ 2.60GHz  ",
            "memory":  34190508032,
            "cards":  ["Intel(R) UHD Graphics", "NVIDIA GeForce RTX 2060"]
        }"#;
        let told = from_query(json).told();
        assert_eq!(told.model, "Windows Box (NVIDIA GeForce RTX 2060)");
        assert_eq!(told.chip, "Intel(R) Core(TM) i7-10750H CPU @ 2.60GHz");
        assert_eq!(told.memory, 32_606);
    }

    #[test]
    fn no_answer_is_no_memory() {
        for text in [
            "",
            "Access denied.",
            "{}",
            r#"{"memory": null, "cards": null}"#,
        ] {
            let told = from_query(text).told();
            assert_eq!(told.model, "Windows Box (Device: CPU)", "{text}");
            assert_eq!(
                (told.chip.as_str(), told.memory),
                ("Unknown Chip", 0),
                "{text}"
            );
        }
    }
}
