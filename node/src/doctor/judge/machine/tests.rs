use super::super::super::facts::{Identity, Running};
use super::super::super::report::Level;
use super::*;

fn well() -> Machine {
    Machine {
        node_address: ("0.0.0.0".into(), 50_051),
        node_port: Port::Free,
        api_address: ("0.0.0.0".into(), 52_415),
        api_port: Port::Free,
        running: None,
        nets: Ok(vec![net("lo", "127.0.0.1"), net("eth0", "192.168.1.5")]),
        home: Home {
            path: "/home/a".into(),
            exists: true,
            trouble: None,
            node: Some("a".into()),
            locked: false,
        },
        computing: Computing {
            engine: Ok("cpu 1, float32".into()),
            model: Ok(("stories".into(), 1 << 20)),
            free: Some(1 << 30),
            told: 2 << 30,
        },
        host: Host::default(),
        file: None,
    }
}

fn net(name: &str, address: &str) -> Net {
    Net {
        name: name.into(),
        address: address.parse().unwrap(),
        prefix: 24,
        broadcast: Some([192, 168, 1, 255].into()),
    }
}

fn own() -> Voice {
    Voice::Own(Identity {
        node: "a".into(),
        incarnation: 7,
        version: 2,
        engine: None,
    })
}

/// The one finding that is not well, after `change`.
fn finding(change: impl FnOnce(&mut Machine)) -> Finding {
    let mut machine = well();
    change(&mut machine);
    let all = judge(&machine, false);
    let bad: Vec<&Finding> = all.iter().filter(|one| one.level > Level::Ok).collect();
    assert_eq!(bad.len(), 1, "{all:#?}");
    assert!(bad[0].fix.is_some());
    bad[0].clone()
}

#[test]
fn a_machine_without_faults_has_none() {
    let all = judge(&well(), false);
    assert!(all.iter().all(|one| one.level == Level::Ok), "{all:#?}");
    let eth0 = "eth0: 192.168.1.5/24, Ethernet, priority 4";
    assert!(all.iter().any(|one| one.text == eth0), "{all:#?}");
}

#[test]
fn our_own_node_may_have_the_ports() {
    let mut machine = well();
    machine.node_port = Port::Taken(Some(own()));
    machine.api_port = Port::Taken(Some(Voice::Http(Some("a".into()))));
    machine.running = Some(Running {
        node: "a".into(),
        version: Some("1.2.3".into()),
        incarnation: Some(7),
        peers: Vec::new(),
    });
    let all = judge(&machine, false);
    assert!(all.iter().all(|one| one.level == Level::Ok), "{all:#?}");
    assert_eq!(all[0].text, "exo-node \"a\" 1.2.3 runs here, on port 50051");
    // Its API says nothing without its key.
    machine.api_port = Port::Taken(Some(Voice::Locked));
    machine.running = None;
    let locked = judge(&machine, false);
    let locked: Vec<&Finding> = locked.iter().filter(|one| one.level > Level::Ok).collect();
    assert_eq!((locked.len(), locked[0].level), (1, Level::Warning));
    assert!(locked[0].text.contains("wants a key"), "{locked:#?}");
    // Its API is somewhere else.
    machine.api_port = Port::Free;
    machine.running = None;
    let all = judge(&machine, false);
    let bad: Vec<&Finding> = all.iter().filter(|one| one.level > Level::Ok).collect();
    assert_eq!((bad.len(), bad[0].check), (1, "api_port"));
    assert_eq!(bad[0].level, Level::Warning);
}

#[test]
fn ports_that_cannot_be_had_say_why() {
    for (port, words) in [
        (Port::Taken(Some(Voice::Ssh)), "taken by a secure shell"),
        (Port::Taken(Some(Voice::Silent)), "taken by another program"),
        (Port::Taken(None), "taken by another program"),
        (Port::NotOurs, "no address of this machine"),
        (Port::Forbidden, "does not let this user"),
        (Port::Failed("odd".into()), "odd"),
    ] {
        let node = finding(|machine| machine.node_port = port.clone());
        assert_eq!((node.check, node.level), ("node_port", Level::Problem));
        assert!(node.text.contains(words), "{node:?}");
        let api = finding(|machine| machine.api_port = port);
        assert_eq!((api.check, api.level), ("api_port", Level::Problem));
        assert!(api.text.contains(words), "{api:?}");
    }
}

#[test]
fn addresses_that_others_do_not_reach_are_told() {
    for host in ["127.0.0.1", "localhost", "[::1]"] {
        let found = finding(|machine| machine.node_address.0 = host.into());
        assert_eq!((found.check, found.level), ("bind_address", Level::Warning));
    }
    let alone = finding(|machine| machine.nets = Ok(vec![net("lo", "127.0.0.1")]));
    assert_eq!((alone.check, alone.level), ("interfaces", Level::Problem));
    let unknown = finding(|machine| machine.nets = Err("no".into()));
    assert_eq!(unknown.level, Level::Problem);
    let vpn = finding(|machine| {
        let mut net = net("tun0", "10.0.0.1");
        net.broadcast = None;
        machine.nets = Ok(vec![net]);
    });
    assert_eq!((vpn.check, vpn.level), ("interfaces", Level::Warning));
    let wsl = finding(|machine| machine.host.wsl = true);
    assert!(wsl.fix.unwrap().contains("networkingMode=mirrored"));
    let container = finding(|machine| machine.host.container = true);
    assert!(container.fix.unwrap().contains("--network host"));
    let mut shared = well();
    shared.host.container = true;
    let all = judge(&shared, true);
    assert!(all.iter().all(|one| one.level == Level::Ok), "{all:#?}");
}

#[test]
fn what_is_missing_to_compute_is_told() {
    let home = finding(|machine| machine.home.trouble = Some("Permission denied".into()));
    assert_eq!((home.check, home.level), ("home", Level::Problem));
    let file = finding(|machine| machine.file = Some(("p.json".into(), Some("not JSON".into()))));
    assert_eq!((file.check, file.level), ("peers_file", Level::Problem));
    let engine = finding(|machine| machine.computing.engine = Err("no mlx".into()));
    assert_eq!((engine.check, engine.level), ("engine", Level::Problem));
    let model = finding(|machine| machine.computing.model = Err("model x is not here".into()));
    assert_eq!((model.check, model.level), ("model", Level::Problem));
    let memory = finding(|machine| machine.computing.model = Ok(("big".into(), 3 << 29)));
    assert_eq!((memory.check, memory.level), ("memory", Level::Warning));
    assert!(memory.text.contains("1.5 GiB") && memory.text.contains("1 GiB of it free"));
}
