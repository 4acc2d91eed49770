//! From facts to findings. Pure: nothing here looks at anything but its arguments.

pub mod air;
pub mod machine;
pub mod peer;
pub mod ring;

use super::facts::Voice;
use std::time::Duration;

/// A time as people read it: `0.21 ms`, `42 ms`.
fn time(time: Duration) -> String {
    let ms = time.as_secs_f64() * 1e3;
    match ms {
        ms if ms < 10.0 => format!("{ms:.2} ms"),
        ms if ms < 1000.0 => format!("{ms:.0} ms"),
        ms => format!("{:.1} s", ms / 1e3),
    }
}

/// Bytes as people read them: `8 KiB`, `1.5 GiB`.
fn size(bytes: u64) -> String {
    let units = ["KiB", "MiB", "GiB", "TiB"];
    let mut value = bytes as f64;
    if bytes < 1024 {
        return format!("{bytes} bytes");
    }
    let mut unit = "bytes";
    for next in units {
        if value < 1024.0 {
            break;
        }
        (value, unit) = (value / 1024.0, next);
    }
    if value.fract() < 0.05 || value >= 100.0 {
        format!("{value:.0} {unit}")
    } else {
        format!("{value:.1} {unit}")
    }
}

/// Who answers, in a few words.
fn who(voice: Option<&Voice>) -> String {
    match voice {
        Some(Voice::Own(identity)) => format!("exo-node {:?}", identity.node),
        Some(Voice::Reference) => "a node of the base protocol".to_owned(),
        Some(Voice::Http(Some(node))) => format!("the API of node {node:?}"),
        Some(Voice::Http(None)) => "a web server".to_owned(),
        Some(Voice::Locked) => "the API of a node that wants a key".to_owned(),
        Some(Voice::Ssh) => "a secure shell".to_owned(),
        Some(Voice::Tls) => "a program that wants TLS".to_owned(),
        Some(Voice::Silent | Voice::Closes | Voice::Other(_)) | None => {
            "another program".to_owned()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short() {
        assert_eq!(time(Duration::from_micros(213)), "0.21 ms");
        assert_eq!(time(Duration::from_millis(42)), "42 ms");
        assert_eq!(time(Duration::from_millis(2500)), "2.5 s");
        assert_eq!(size(900), "900 bytes");
        assert_eq!(size(8192), "8 KiB");
        assert_eq!(size(1 << 20), "1 MiB");
        assert_eq!(size(3 << 29), "1.5 GiB");
        assert_eq!(size(700 << 20), "700 MiB");
    }
}
