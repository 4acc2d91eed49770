//! Ports for the processes of tests, each for one process of tests at a time.

use std::fs::File;
use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::sync::{Mutex, PoisonError};

/// Below what Linux, macOS and Windows give to a socket that asks for any port, so that nobody who
/// connects somewhere meanwhile is given one of these.
const FIRST: u16 = 20_000;
const COUNT: u16 = 12_000;

/// Locked files for as long as this process lives, one for each port that it was given.
static TAKEN: Mutex<Vec<File>> = Mutex::new(Vec::new());

/// Free ports of this machine that nobody else who asks here is given while this process lives.
///
/// # Panics
/// When there are not so many, or when the folder for temporary files cannot be written to.
pub fn free_ports(count: usize) -> Vec<u16> {
    let folder = std::env::temp_dir().join("exo-test-ports");
    std::fs::create_dir_all(&folder).expect("a folder for the locks of ports");
    let mut taken = TAKEN.lock().unwrap_or_else(PoisonError::into_inner);
    // Processes that run side by side begin at different places.
    let begin = std::process::id().wrapping_mul(97) % u32::from(COUNT);
    let begin = u16::try_from(begin).unwrap_or_default();
    let all = (0..COUNT).map(|at| FIRST + (begin + at) % COUNT);
    let mut ports = Vec::new();
    for port in all {
        if ports.len() == count {
            break;
        }
        let lock = File::options()
            .create(true)
            .append(true)
            .open(folder.join(port.to_string()))
            .expect("a file to lock");
        if lock.try_lock().is_ok() && is_free(port) {
            taken.push(lock);
            ports.push(port);
        }
    }
    assert_eq!(ports.len(), count, "free ports from {FIRST} on");
    ports
}

/// Whether no program that knows nothing of the locks has it.
fn is_free(port: u16) -> bool {
    let address = (Ipv4Addr::UNSPECIFIED, port);
    TcpListener::bind(address).is_ok() && UdpSocket::bind(address).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn a_port_is_given_once() {
        let ports: BTreeSet<u16> = (0..50).flat_map(|_| free_ports(3)).collect();
        assert_eq!(ports.len(), 150);
        let taken = File::open(
            std::env::temp_dir()
                .join("exo-test-ports")
                .join(ports.first().expect("a port").to_string()),
        );
        assert!(
            taken.expect("a lock").try_lock().is_err(),
            "for others, too"
        );
    }
}
