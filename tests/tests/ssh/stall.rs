//! What a round trip through SSH takes, by the ways there are. Measures, and tests nothing:
//!
//! ```sh
//! cargo test --release -p exo-tests --test ssh -- --ignored --nocapture
//! ```

use super::sshd;
use exo_tests::process::free_ports;
use exo_tests::process::ssh::{HOST, forward};
use exo_tests::process::stand::say;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// Round trips of each way and size.
const TRIPS: usize = 2000;

/// A far end that says again what it hears.
fn echo() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("it is bound");
    thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            thread::spawn(move || -> io::Result<()> {
                stream.set_nodelay(true)?;
                let mut place = vec![0; 64 << 10];
                loop {
                    let count = stream.read(&mut place)?;
                    if count == 0 {
                        return Ok(());
                    }
                    stream.write_all(&place[..count])?;
                }
            });
        }
    });
    address
}

fn measure(what: &str, mut to: impl Write, mut from: impl Read) {
    for size in [2 << 10, 8 << 10, 16 << 10] {
        let (bytes, mut place) = (vec![7; size], vec![0; size]);
        let mut trips = Vec::with_capacity(TRIPS);
        for _ in 0..TRIPS {
            let begun = Instant::now();
            to.write_all(&bytes).expect("it goes out");
            to.flush().expect("it goes out");
            from.read_exact(&mut place).expect("it comes back");
            trips.push(begun.elapsed());
        }
        trips.sort_unstable();
        let long = trips
            .iter()
            .filter(|trip| **trip > Duration::from_millis(10));
        let (long, mean) = (long.count(), trips.iter().sum::<Duration>() / TRIPS as u32);
        say(&format!(
            "{what:<16} {:>3} KiB: p50 {:>8.0?} p99 {:>8.0?} mean {mean:>8.0?}, {long:>4} of {TRIPS} over 10 ms",
            size >> 10,
            trips[TRIPS / 2],
            trips[TRIPS * 99 / 100],
        ));
    }
}

/// Connects once the tunnel is there.
fn connect(port: u16) -> TcpStream {
    loop {
        if let Ok(stream) = TcpStream::connect(("127.0.0.1", port)) {
            stream.set_nodelay(true).expect("a socket's option");
            return stream;
        }
        thread::park_timeout(Duration::from_millis(5));
    }
}

struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
#[ignore = "a measurement"]
fn round_trips_through_ssh() {
    let Some(sshd) = sshd("round trips through SSH") else {
        return;
    };
    let far = echo();
    let direct = connect(far.port());
    measure("direct", &direct, &direct);
    let [program, option, config] = sshd.ssh();
    let ports = free_ports(2);
    {
        let mut command = Command::new(&program);
        command.args([&option, &config]).arg("-N");
        command.args(forward(ports[0], far.port())).arg(HOST);
        let _ssh = Killed(command.spawn().expect("ssh starts"));
        let stream = connect(ports[0]);
        measure("ssh -N -L", &stream, &stream);
    }
    {
        let _tunnel = sshd.tunnel(&forward(ports[1], far.port()));
        let stream = connect(ports[1]);
        measure("ssh -L, command", &stream, &stream);
    }
    let mut command = Command::new(&program);
    command.args([&option, &config, HOST, "exec cat"]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut ssh = Killed(command.spawn().expect("ssh starts"));
    let to = ssh.0.stdin.take().expect("it is piped");
    let from = ssh.0.stdout.take().expect("it is piped");
    measure("ssh, stdio", to, from);
}
