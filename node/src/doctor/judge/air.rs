//! Whether announcements go out and come in.

use super::super::facts::{Air, Listening};
use super::super::report::Finding;
use std::collections::BTreeSet;

/// What listening for a while tells. `own` is the id of the node that runs here, `known` whether
/// peers are known from elsewhere.
#[must_use]
pub fn judge(air: &Air, own: Option<&str>, known: bool) -> Vec<Finding> {
    let port = air.port;
    match &air.listening {
        Listening::Open => {}
        Listening::Taken => {
            return vec![Finding::problem(
                "udp_port",
                format!("UDP port {port} is taken by a program that shares it with nobody"),
                "end that program, or have all nodes use another one: --listen-port PORT \
                 --broadcast-port PORT",
            )];
        }
        Listening::Failed(reason) => {
            return vec![Finding::problem(
                "udp_port",
                format!("UDP port {port} cannot be had: {reason}"),
                "have all nodes use another one: --listen-port PORT --broadcast-port PORT",
            )];
        }
    }
    let mut all = Vec::new();
    all.extend(echoes(air));
    all.push(others(air, own, known));
    all
}

fn echoes(air: &Air) -> Option<Finding> {
    const CHECK: &str = "own_broadcast";
    let port = air.port;
    let names = |wanted: bool| {
        let all = air.echoes.iter().filter(|(_, heard)| *heard == wanted);
        all.map(|(name, _)| name.as_str())
            .collect::<Vec<_>>()
            .join(", ")
    };
    let (heard, lost) = (names(true), names(false));
    if air.echoes.is_empty() {
        return None;
    }
    if lost.is_empty() {
        let text = format!("broadcasts to UDP port {port} over {heard} come back");
        return Some(Finding::ok(CHECK, text));
    }
    let text = format!("broadcasts to UDP port {port} over {lost} do not come back");
    let fix = format!(
        "let UDP port {port} in and out in this machine's firewall ({})",
        firewall()
    );
    Some(if heard.is_empty() {
        Finding::problem(CHECK, text, fix)
    } else {
        Finding::warning(CHECK, text, fix)
    })
}

/// Where this system has its firewall.
fn firewall() -> &'static str {
    if cfg!(target_os = "macos") {
        "System Settings, Network, Firewall; and Privacy & Security, Local Network"
    } else if cfg!(windows) {
        "Windows Security, Firewall, Allow an app"
    } else {
        "such as sudo ufw allow 5678/udp, or firewall-cmd --add-port=5678/udp"
    }
}

fn others(air: &Air, own: Option<&str>, known: bool) -> Finding {
    const CHECK: &str = "others_heard";
    let ids = air
        .heard
        .iter()
        .map(|(_, announced)| announced.node.as_str());
    let ids: BTreeSet<&str> = ids.filter(|id| Some(*id) != own).collect();
    let seconds = air.time.as_secs();
    if !ids.is_empty() {
        let list: Vec<String> = ids.iter().take(8).map(|id| format!("{id:?}")).collect();
        let more = match ids.len().saturating_sub(list.len()) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        return Finding::ok(CHECK, format!("heard {}{more}", list.join(", ")));
    }
    let text = format!("no other node was heard in {seconds} s");
    if known {
        return Finding::ok(CHECK, text);
    }
    Finding::warning(
        CHECK,
        text,
        "start exo-node on another machine. If one runs: both have to be in one network, without \
         client (AP) isolation, and with UDP port 5678 and TCP port 50051 open in its firewall; \
         exo-node doctor HOST looks at it",
    )
}

#[cfg(test)]
mod tests {
    use super::super::super::report::Level;
    use super::*;
    use exo_protocol::discovery::announcement::Announcement;
    use exo_protocol::topology::Capabilities;
    use std::time::Duration;

    fn air(echoes: &[(&str, bool)], heard: &[&str]) -> Air {
        let heard = heard.iter().map(|&id| {
            let announced = Announcement::over("eth0", id.into(), 1, Capabilities::unknown());
            ([10, 0, 0, 1].into(), announced)
        });
        Air {
            port: 5678,
            listening: Listening::Open,
            echoes: echoes
                .iter()
                .map(|&(name, heard)| (name.into(), heard))
                .collect(),
            heard: heard.collect(),
            time: Duration::from_secs(3),
        }
    }

    fn levels(all: &[Finding]) -> Vec<(&str, Level)> {
        all.iter().map(|one| (one.check, one.level)).collect()
    }

    #[test]
    fn broadcasts_come_back_or_do_not() {
        for (echoes, wanted) in [
            (&[("eth0", true)][..], Level::Ok),
            (&[("eth0", true), ("wlan0", false)], Level::Warning),
            (&[("eth0", false)], Level::Problem),
        ] {
            let all = judge(&air(echoes, &["b"]), None, false);
            let wanted = [("own_broadcast", wanted), ("others_heard", Level::Ok)];
            assert_eq!(levels(&all), wanted);
        }
        assert_eq!(judge(&air(&[], &["b"]), None, false).len(), 1);
    }

    #[test]
    fn who_is_alone_is_told_once() {
        let alone = judge(&air(&[], &["a"]), Some("a"), false);
        assert_eq!(levels(&alone), [("others_heard", Level::Warning)]);
        let known = judge(&air(&[], &[]), Some("a"), true);
        assert_eq!(levels(&known), [("others_heard", Level::Ok)]);
        let many: Vec<String> = (0..20).map(|n| format!("n{n:02}")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        let heard = judge(&air(&[], &many), None, false);
        assert!(heard[0].text.ends_with("\"n07\" and 12 more"), "{heard:?}");
    }

    #[test]
    fn a_port_that_is_not_shared_is_a_problem() {
        for listening in [Listening::Taken, Listening::Failed("odd".into())] {
            let mut taken = air(&[], &[]);
            taken.listening = listening;
            let all = judge(&taken, None, false);
            assert_eq!(levels(&all), [("udp_port", Level::Problem)]);
        }
    }
}
