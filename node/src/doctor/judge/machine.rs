//! Whether this machine can be a node.

use super::super::facts::{Computing, Home, Host, Machine, Net, Port, Voice};
use super::super::report::Finding;
use super::{size, who};
use exo_protocol::discovery::interface;
use std::net::IpAddr;

/// Everything about this machine but broadcasts. `heard` says whether another machine's came in.
#[must_use]
pub fn judge(machine: &Machine, heard: bool) -> Vec<Finding> {
    let mut all = vec![node_port(machine)];
    all.extend(bind_address(&machine.node_address.0));
    all.push(api_port(machine));
    all.extend(interfaces(&machine.nets));
    all.extend(host(machine.host).filter(|_| !heard));
    all.extend(peers_file(machine.file.as_ref()));
    all.push(home(&machine.home));
    all.extend(computing(&machine.computing));
    all
}

fn node_port(machine: &Machine) -> Finding {
    const CHECK: &str = "node_port";
    let (host, port) = &machine.node_address;
    match &machine.node_port {
        Port::Free => Finding::ok(CHECK, format!("port {port} is free: no node runs there")),
        Port::Taken(voice @ Some(Voice::Own(identity))) => {
            let running = machine.running.as_ref();
            let version = running
                .filter(|running| running.node == identity.node)
                .and_then(|running| running.version.as_deref());
            let version = version.map_or(String::new(), |version| format!(" {version}"));
            let who = who(voice.as_ref());
            Finding::ok(CHECK, format!("{who}{version} runs here, on port {port}"))
        }
        Port::Taken(voice @ Some(Voice::Reference)) => {
            let who = who(voice.as_ref());
            Finding::ok(CHECK, format!("{who} runs here, on port {port}"))
        }
        Port::Taken(voice) => Finding::problem(
            CHECK,
            format!("port {port} is taken by {}", who(voice.as_ref())),
            format!(
                "start the node with another --node-port, or end that program ({})",
                find(*port)
            ),
        ),
        Port::NotOurs => not_ours(CHECK, "--node-host", host),
        Port::Forbidden => forbidden(CHECK, "--node-port 50051", *port),
        Port::Failed(reason) => failed(CHECK, *port, reason),
    }
}

fn api_port(machine: &Machine) -> Finding {
    const CHECK: &str = "api_port";
    let (host, port) = &machine.api_address;
    let node = match &machine.node_port {
        Port::Taken(voice) => voice.as_ref(),
        _ => None,
    };
    match (&machine.api_port, &machine.running) {
        (Port::Free, _) if matches!(node, Some(Voice::Own(_))) => Finding::warning(
            CHECK,
            format!("port {port} is free, so the API of the node that runs here is elsewhere"),
            "say where, so that the doctor sees what that node sees: --chatgpt-api-port PORT",
        ),
        (Port::Free, _) => Finding::ok(CHECK, format!("port {port} is free for the API")),
        (Port::Taken(_), Some(running)) => Finding::ok(
            CHECK,
            format!("the API of node {:?} is on port {port}", running.node),
        ),
        (Port::Taken(_), None) if node == Some(&Voice::Reference) => Finding::ok(
            CHECK,
            format!("port {port} is taken, as by that node's API"),
        ),
        (Port::Taken(Some(Voice::Locked)), None) => Finding::warning(
            CHECK,
            format!("the API on port {port} wants a key, so nothing is known of its node's peers"),
            "give the doctor a key of it: --api-key KEY, --api-key-file FILE or EXO_API_KEY",
        ),
        (Port::Taken(voice), None) => Finding::problem(
            CHECK,
            format!(
                "port {port}, for the API, is taken by {}",
                who(voice.as_ref())
            ),
            format!(
                "start the node with another --chatgpt-api-port, or end that program ({})",
                find(*port)
            ),
        ),
        (Port::NotOurs, _) => not_ours(CHECK, "--chatgpt-api-host", host),
        (Port::Forbidden, _) => forbidden(CHECK, "--chatgpt-api-port 52415", *port),
        (Port::Failed(reason), _) => failed(CHECK, *port, reason),
    }
}

/// The command that finds who has a port.
fn find(port: u16) -> String {
    if cfg!(windows) {
        format!("netstat -ano | findstr :{port}")
    } else if cfg!(target_os = "linux") {
        format!("ss -ltnp 'sport = :{port}'")
    } else {
        format!("lsof -i :{port}")
    }
}

fn not_ours(check: &'static str, flag: &str, host: &str) -> Finding {
    Finding::problem(
        check,
        format!("{host} is no address of this machine"),
        format!("{flag} 0.0.0.0 takes connections at all addresses"),
    )
}

fn forbidden(check: &'static str, flag: &str, port: u16) -> Finding {
    Finding::problem(
        check,
        format!("the system does not let this user have port {port}"),
        format!("choose one from 1024 up: {flag}"),
    )
}

fn failed(check: &'static str, port: u16, reason: &str) -> Finding {
    Finding::problem(
        check,
        format!("port {port} cannot be had: {reason}"),
        "check the address and the system's limits",
    )
}

fn bind_address(host: &str) -> Option<Finding> {
    let host = host.trim_matches(['[', ']']);
    let address: Option<IpAddr> = host.parse().ok();
    let local = host == "localhost" || address.is_some_and(|address| address.is_loopback());
    local.then(|| {
        Finding::warning(
            "bind_address",
            format!("with --node-host {host} no other machine can connect"),
            "leave --node-host out, unless peers come through a tunnel",
        )
    })
}

fn interfaces(nets: &Result<Vec<Net>, String>) -> Vec<Finding> {
    const CHECK: &str = "interfaces";
    let nets = match nets {
        Ok(nets) => nets,
        Err(reason) => {
            let text = format!("the addresses of this machine are not known: {reason}");
            let fix = "name the peers: --peer-host HOST --peer-port 50051";
            return vec![Finding::problem(CHECK, text, fix)];
        }
    };
    let others: Vec<&Net> = nets
        .iter()
        .filter(|net| !net.address.is_loopback())
        .collect();
    if others.is_empty() {
        let text = "this machine has no address but its own loopback";
        let fix = "connect it to the network of the others: a cable, Wi-Fi, or a VPN";
        return vec![Finding::problem(CHECK, text, fix)];
    }
    // Link-local IPv6 addresses are on every interface and nobody uses them here.
    let usual =
        |net: &&&Net| !matches!(net.address, IpAddr::V6(six) if six.is_unicast_link_local());
    let mut all: Vec<Finding> = others
        .iter()
        .filter(usual)
        .map(|net| {
            let (priority, kind) = interface::kind(&net.name);
            let silent = if net.announces() {
                ""
            } else {
                ", no broadcasts"
            };
            let Net {
                name,
                address,
                prefix,
                ..
            } = net;
            let text = format!("{name}: {address}/{prefix}, {kind}, priority {priority}{silent}");
            Finding::ok(CHECK, text)
        })
        .collect();
    if !others.iter().any(|net| net.announces()) {
        all.push(Finding::warning(
            CHECK,
            "no interface has broadcasts: nodes cannot find each other by themselves",
            "name the peers: --peer-host HOST --peer-port 50051, or --discovery-config-path FILE",
        ));
    }
    all
}

fn host(host: Host) -> Option<Finding> {
    const CHECK: &str = "host";
    if host.wsl {
        let text = "this is Linux under Windows (WSL), which has a network of its own unless \
                    mirrored: others neither hear nor reach this node";
        let fix = "in %UserProfile%\\.wslconfig: [wsl2] networkingMode=mirrored, then wsl \
                   --shutdown; or have this node dial the others, which is enough: --peer-host";
        return Some(Finding::warning(CHECK, text, fix));
    }
    host.container.then(|| {
        let text = "this is a container, which usually has a network of its own: announcements of \
                    other machines do not come in";
        let fix = "run it with the host's network (docker run --network host), or publish the \
                   node's port and name the peers: --peer-host HOST";
        Finding::warning(CHECK, text, fix)
    })
}

fn peers_file(file: Option<&(String, Option<String>)>) -> Option<Finding> {
    const CHECK: &str = "peers_file";
    let (file, problem) = file?;
    Some(match problem {
        None => Finding::ok(CHECK, format!("{file} names the peers")),
        Some(problem) => Finding::problem(
            CHECK,
            format!("{file}: {problem}"),
            "correct the file; a node reads it anew when it changes",
        ),
    })
}

fn home(home: &Home) -> Finding {
    const CHECK: &str = "home";
    let Home {
        path,
        exists,
        trouble,
        node,
        locked,
    } = home;
    if let Some(trouble) = trouble {
        return Finding::problem(
            CHECK,
            format!("nothing can be kept in {path}: {trouble}"),
            "give the folder to this user, or choose another one: EXO_HOME=FOLDER",
        );
    }
    let text = match (exists, node) {
        (false, _) => format!("{path} is not there yet; the first node makes it"),
        (true, None) => format!("{path} can be written"),
        (true, Some(node)) if *locked => format!("{path} is in use by a node; its id is {node:?}"),
        (true, Some(node)) => format!("{path} keeps the id {node:?}; no node uses it now"),
    };
    Finding::ok(CHECK, text)
}

fn computing(computing: &Computing) -> Vec<Finding> {
    let mut all = Vec::new();
    all.push(match &computing.engine {
        Ok(engine) => Finding::ok("engine", format!("computes with {engine}")),
        Err(reason) => Finding::problem(
            "engine",
            reason.clone(),
            "choose an engine that this build has: --inference-engine cpu",
        ),
    });
    let (model, bytes) = match &computing.model {
        Ok(model) => model,
        Err(reason) => {
            let fix = "put the model's file or folder into a folder and name it: --models-dir DIR";
            all.push(Finding::problem("model", reason.clone(), fix));
            return all;
        }
    };
    all.push(Finding::ok(
        "model",
        format!("model {model} is here, {}", size(*bytes)),
    ));
    let told = computing.told;
    let free = computing.free.unwrap_or(told);
    let have = match computing.free {
        Some(free) => format!("{} of memory, {} of it free", size(told), size(free)),
        None => format!("{} of memory", size(told)),
    };
    all.push(if *bytes > told.min(free) {
        Finding::warning(
            "memory",
            format!("{have}: less than the model's {}", size(*bytes)),
            "close other programs, or let other machines hold a part of it: start nodes there",
        )
    } else {
        Finding::ok("memory", have)
    });
    all
}

#[cfg(test)]
mod tests;
