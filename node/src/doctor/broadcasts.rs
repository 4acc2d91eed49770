//! Listens to announcements for a while, and sends something to hear on every interface.

use super::facts::{Air, Listening, Net};
use crate::random;
use exo_protocol::discovery::announcement::{Announcement, MAX_LEN};
use exo_protocol::discovery::interface::Interface;
use exo_runtime_common::socket::for_announcements;
use serde_json::{Value, json};
use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddrV4, UdpSocket};
use std::time::{Duration, Instant};

/// Most announcers that are remembered.
const MOST: usize = 64;

/// Listens for `time`. Nodes read over what is sent: its type is not theirs.
pub(super) fn listen(port: u16, nets: &[Net], time: Duration) -> Air {
    let mut air = Air {
        port,
        listening: Listening::Open,
        echoes: Vec::new(),
        heard: Vec::new(),
        time,
    };
    let socket = match for_announcements(port) {
        Ok(socket) => socket,
        Err(error) if error.kind() == ErrorKind::AddrInUse => {
            air.listening = Listening::Taken;
            return air;
        }
        Err(error) => {
            air.listening = Listening::Failed(error.to_string());
            return air;
        }
    };
    let number = random::number();
    for net in nets.iter().filter(|net| net.announces()) {
        if send(net, port, number).is_ok() {
            air.echoes.push((net.name.clone(), false));
        }
    }
    let (until, mut buffer) = (Instant::now() + time, vec![0; MAX_LEN + 1]);
    loop {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() || socket.set_read_timeout(Some(left)).is_err() {
            return air;
        }
        match socket.recv_from(&mut buffer) {
            Ok((length, from)) => {
                let datagram = buffer.get(..length).unwrap_or_default();
                take(&mut air, from.ip(), datagram, number);
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            // The time is over; or the system will not, and no more comes.
            Err(_) => return air,
        }
    }
}

/// Understands one datagram.
fn take(air: &mut Air, from: IpAddr, datagram: &[u8], number: u64) {
    if let Some(name) = echo(datagram, number) {
        let sent = air.echoes.iter_mut().filter(|(sent, _)| *sent == name);
        sent.for_each(|(_, heard)| *heard = true);
        return;
    }
    let Ok(announced) = Announcement::decode(datagram) else {
        return;
    };
    let known = |(address, one): &(IpAddr, Announcement)| {
        *address == from && one.node == announced.node && one.port == announced.port
    };
    if air.heard.len() < MOST && !air.heard.iter().any(known) {
        air.heard.push((from, announced));
    }
}

fn words(name: &str, number: u64) -> Value {
    // As text: not every reader of JSON keeps such numbers.
    json!({"type": "doctor", "number": number.to_string(), "interface": name})
}

/// The interface over which this doctor sent it.
fn echo(datagram: &[u8], number: u64) -> Option<String> {
    let told: Value = serde_json::from_slice(datagram).ok()?;
    let name = told.get("interface")?.as_str()?.to_owned();
    (told == words(&name, number)).then_some(name)
}

fn send(net: &Net, port: u16, number: u64) -> io::Result<()> {
    let IpAddr::V4(from) = net.address else {
        return Err(ErrorKind::Unsupported.into());
    };
    let socket = UdpSocket::bind((from, 0))?;
    socket.set_broadcast(true)?;
    let way = Interface {
        name: net.name.clone(),
        address: from,
        broadcast: net.broadcast,
    };
    let payload = words(&net.name, number).to_string();
    // As a node would; one of them is enough.
    let mut result = Err(ErrorKind::NotFound.into());
    for target in way.targets() {
        let sent = socket.send_to(payload.as_bytes(), SocketAddrV4::new(target, port));
        result = result.or(sent.map(drop));
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;
    use exo_protocol::topology::Capabilities;
    use std::net::Ipv4Addr;

    #[test]
    fn what_is_heard_is_told_apart() {
        let mut air = Air {
            port: 1,
            listening: Listening::Open,
            echoes: vec![("eth0".into(), false), ("wlan0".into(), false)],
            heard: Vec::new(),
            time: Duration::ZERO,
        };
        let from: IpAddr = Ipv4Addr::new(10, 0, 0, 2).into();
        let own = words("wlan0", 7).to_string();
        let other = words("eth0", 8).to_string();
        let announced = Announcement::over("eth0", "b".into(), 50_051, Capabilities::unknown());
        let datagrams = [
            own.as_bytes(),
            other.as_bytes(),
            &announced.encode(),
            b"\xff",
        ];
        for datagram in datagrams.iter().chain(&datagrams) {
            take(&mut air, from, datagram, 7);
        }
        assert_eq!(air.echoes, [("eth0".into(), false), ("wlan0".into(), true)]);
        assert_eq!(air.heard, [(from, announced)]);
        for port in 1..1000 {
            let many = Announcement::over("eth0", "c".into(), port, Capabilities::unknown());
            take(&mut air, from, &many.encode(), 7);
        }
        assert_eq!(air.heard.len(), MOST);
    }

    #[test]
    fn a_port_of_somebody_who_shares_nothing_is_taken() {
        let other = UdpSocket::bind("0.0.0.0:0").unwrap();
        let port = other.local_addr().unwrap().port();
        let air = listen(port, &[], Duration::from_secs(60));
        assert_eq!(air.listening, Listening::Taken);
    }
}
