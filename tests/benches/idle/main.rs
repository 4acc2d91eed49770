//! What a node costs that has nothing to do: wake-ups, processor time, packets and memory of two
//! idle nodes that found each other by broadcasts, for each runtime.
//!
//! ```sh
//! cargo bench -p exo-tests --bench idle [-- SECONDS]
//! ```
//!
//! The nodes live in a network namespace of their own, so that nothing else is counted; without the
//! right to make one, packets are not counted.

#[cfg(target_os = "linux")]
mod count;

#[cfg(target_os = "linux")]
fn main() {
    linux::main();
}

#[cfg(not(target_os = "linux"))]
fn main() {
    eprintln!("SKIPPED: what an idle node costs is read from /proc, which only Linux has");
}

#[cfg(target_os = "linux")]
mod linux {
    use crate::count::{Cost, Counts, Traffic};
    use exo_tests::process::{NodeProcess, Place, free_ports};
    use std::net::{IpAddr, Ipv4Addr};
    use std::process::Command;
    use std::thread;
    use std::time::{Duration, Instant};

    /// Says that this process lives in the namespace already.
    const INSIDE: &str = "EXO_IDLE_INSIDE";

    /// The address of the namespace's only interface but loopback.
    const HOST: Ipv4Addr = Ipv4Addr::new(10, 249, 0, 1);

    /// Nodes look around more often while their ring forms.
    const SETTLE: Duration = Duration::from_secs(15);

    pub(crate) fn main() {
        let mut seconds = std::env::args()
            .skip(1)
            .filter_map(|word| word.parse().ok());
        let time = Duration::from_secs(seconds.next().unwrap_or(30).max(1));
        if std::env::var_os(INSIDE).is_some() {
            return measure(time, true);
        }
        match inside() {
            Ok(()) => {}
            Err(reason) => {
                eprintln!("packets are NOT COUNTED: no network namespace: {reason}");
                measure(time, false);
            }
        }
    }

    /// Runs this program again in a namespace with one interface that has broadcasts.
    fn inside() -> Result<(), String> {
        let name = format!("exo-idle-{}", std::process::id());
        ip(&["netns", "add", &name])?;
        let laid = [
            "link set lo up".to_owned(),
            "link add eth0 type veth peer name far".to_owned(),
            "link set far up".to_owned(),
            format!("addr add {HOST}/24 brd + dev eth0"),
            "link set eth0 up".to_owned(),
        ];
        let result = laid
            .iter()
            .try_for_each(|words| {
                let words: Vec<&str> = words.split(' ').collect();
                ip(&[&["-n", &name], &words[..]].concat())
            })
            .and_then(|()| {
                let own = std::env::current_exe().map_err(|error| error.to_string())?;
                let status = Command::new("ip")
                    .args(["netns", "exec", &name])
                    .arg(own)
                    .args(std::env::args().skip(1))
                    .env(INSIDE, "1")
                    .status();
                status.map_err(|error| error.to_string())
            });
        let _ = ip(&["netns", "del", &name]);
        let status = result?;
        assert!(status.success(), "the measurement ended with {status}");
        Ok(())
    }

    fn ip(words: &[&str]) -> Result<(), String> {
        let output = Command::new("ip").args(words).output();
        let output = output.map_err(|error| format!("ip: {error} (apt-get install iproute2)"))?;
        if output.status.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&output.stderr);
        Err(format!("ip {}: {}", words.join(" "), said.trim()))
    }

    fn measure(time: Duration, counted: bool) {
        println!(
            "two idle nodes for {} s, each in one second:\n",
            time.as_secs()
        );
        println!("| runtime | wake-ups | processor time | packets | bytes | memory, of it own |");
        println!("| --- | --- | --- | --- | --- | --- |");
        for runtime in ["smol", "std"] {
            let (cost, traffic) = pair(runtime, time);
            let traffic = traffic.filter(|_| counted);
            println!("{}", line(runtime, &cost, traffic, time));
        }
    }

    /// The dearer one of two nodes, and half of what both send.
    fn pair(runtime: &str, time: Duration) -> (Cost, Option<Traffic>) {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let ports = free_ports(5);
        let [a, b, api_a, api_b, udp] = ports[..] else {
            panic!("five were asked for");
        };
        let udp = udp.to_string();
        let words = [
            "--runtime",
            runtime,
            "--listen-port",
            &udp,
            "--broadcast-port",
            &udp,
        ];
        let start = |id: &str, port: u16, api: u16| {
            let place = Place {
                host: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
                port,
                api,
                namespace: None,
            };
            NodeProcess::start_at(id, &place, &words, folder.path())
        };
        let mut nodes = [start("a", a, api_a), start("b", b, api_b)];
        for node in &mut nodes {
            node.wait_for("two nodes", |topology| {
                topology["nodes"]
                    .as_object()
                    .is_some_and(|nodes| nodes.len() == 2)
            });
        }
        thread::sleep(SETTLE);
        let count = || nodes.each_ref().map(|node| Counts::of(node.pid()));
        let (before, sent) = (count(), Traffic::now());
        let begun = Instant::now();
        thread::sleep(time);
        let took = begun.elapsed();
        let (after, now) = (count(), Traffic::now());
        let costs = before
            .iter()
            .zip(&after)
            .map(|(before, after)| after.since(before, took));
        let dearest = costs
            .max_by(|a, b| a.wakes.total_cmp(&b.wakes))
            .expect("two of them");
        (
            dearest,
            now.zip(sent).map(|(now, sent)| now.since(&sent, 2)),
        )
    }

    fn line(runtime: &str, cost: &Cost, traffic: Option<Traffic>, time: Duration) -> String {
        let seconds = time.as_secs_f64();
        let (packets, bytes) = match traffic {
            Some(traffic) => (
                format!("{:.1}", traffic.packets / seconds),
                format!("{:.0}", traffic.bytes / seconds),
            ),
            None => ("not counted".to_owned(), "not counted".to_owned()),
        };
        format!(
            "| {runtime} | {:.1} | {:.2} ms | {packets} | {bytes} | {:.1} MiB, {:.1} MiB |",
            cost.wakes,
            cost.busy.as_secs_f64() * 1e3,
            cost.resident as f64 / 1024.0,
            cost.own as f64 / 1024.0,
        )
    }
}
