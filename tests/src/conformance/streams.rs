//! Rules of the contract about connections and what goes over them, one check each.

use super::engine::{MODEL, NullEngine};
use super::raw::{Raw, ask_topology, bytes_of, health, pieces, plan, prompt, tokens};
use super::{Host, Kind, NEVER, PATIENCE, Setup, held_up, joined, member, submit};
use bytes::Bytes;
use exo_protocol::engine::{EngineCommand, EngineInput};
use exo_protocol::wire::extension::end;
use exo_protocol::wire::{Ending, Message, Open, Step, StepBody};
use exo_protocol::{Command, DType, Event, Tensor};
use std::net::TcpListener;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

/// Rule 4: were a number used twice, answers would go to somebody else.
pub fn no_connection_gets_the_answers_of_another(kind: Kind) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let host = Host::start(kind, member(&listener), || Ok(Box::new(NullEngine::new(1))));
    let mut dialed = Raw::accept(&listener);
    assert!(matches!(
        dialed.receive(),
        Some(Message::HealthCheckRequest { .. })
    ));
    let mut others: Vec<Raw> = vec![];
    for round in 0..6 {
        others.retain_mut(|_| round % 2 == 0);
        others.extend((0..12).map(|_| Raw::connect(host.address)));

        for (index, raw) in others.iter_mut().chain([&mut dialed]).enumerate() {
            raw.send(&(0..6).map(|bit| question(index >> bit)).collect::<Vec<_>>());
        }
        for (index, raw) in others.iter_mut().chain([&mut dialed]).enumerate() {
            for bit in 0..6 {
                assert_answers(index >> bit, raw.receive());
            }
        }
    }
}

fn question(number: usize) -> Message {
    if number.is_multiple_of(2) {
        health()
    } else {
        ask_topology()
    }
}

fn assert_answers(number: usize, answer: Option<Message>) {
    let fits = match &answer {
        Some(Message::HealthCheckResponse { .. }) => number.is_multiple_of(2),
        Some(Message::CollectTopologyResponse(_)) => !number.is_multiple_of(2),
        _ => false,
    };
    assert!(fits, "{answer:?}");
}

/// Rule 5: a node neither answers on a connection that it does not know yet, nor forgets one that it
/// is not told to have lost.
pub fn opened_comes_first_and_lost_last(kind: Kind) {
    let mut setup = Setup::new("host", 1);
    setup.config.limits.connections = 4;
    let host = Host::start(kind, setup, || Ok(Box::new(NullEngine::new(1))));
    for _ in 0..20 {
        // The peer goes.
        Raw::connect(host.address).check_health();
        host.until("its end", |status| status.connections == 0);
        // The node closes it.
        let mut refused = Raw::connect(host.address);
        refused.send(&[tokens(None, MODEL)]);
        refused.closed();
        host.until("its end", |status| status.connections == 0);
    }
    let mut held: Vec<Raw> = (0..4).map(|_| Raw::connect(host.address)).collect();
    held.iter_mut().for_each(Raw::check_health);
    Raw::connect(host.address).closed();
    host.until("the end of the fifth", |status| status.connections == 4);
    held.pop();
    host.until("room", |status| status.connections == 3);
    Raw::connect(host.address).check_health();
}

/// Numbers that look random.
fn rolls() -> impl FnMut() -> usize {
    let mut random = 1u64;
    move || {
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        usize::try_from(random >> 40).unwrap_or(0)
    }
}

fn send_cut(raw: &mut Raw, mut bytes: &[u8], mut length: impl FnMut() -> usize) {
    while !bytes.is_empty() {
        let (now, later) = bytes.split_at(length().min(bytes.len()));
        raw.send_bytes(now);
        bytes = later;
    }
}

/// Rule 6: wherever the stream is cut, messages come in order; those before junk still come.
pub fn messages_come_in_order(kind: Kind) {
    let mut setup = Setup::new("host", 1);
    setup.config.max_tokens = 2;
    let (tell, seen) = mpsc::channel();
    let hook = move |command: &EngineCommand| {
        let _ = tell.send(command.clone());
    };
    let host = Host::start(kind, setup, || {
        Ok(Box::new(NullEngine::with_hook(1, Box::new(hook))))
    });
    let mut raw = Raw::connect(host.address);
    let mut roll = rolls();
    let asked: Vec<usize> = (0..400).map(|_| roll()).collect();
    let bytes = bytes_of(
        &asked
            .iter()
            .map(|&number| question(number))
            .collect::<Vec<_>>(),
    );
    send_cut(&mut raw, &bytes, || roll() % 200 + 1);
    for &number in &asked {
        assert_answers(number, raw.receive());
    }
    let mut bytes = bytes_of(&[prompt("last words", MODEL)]);
    bytes.extend_from_slice(b"and now for something completely different");
    raw.send_bytes(&bytes);
    raw.closed();
    let forwarded = |command| matches!(command, EngineCommand::Forward { .. });
    while !forwarded(
        seen.recv_timeout(PATIENCE)
            .expect("the prompt reaches the engine"),
    ) {}
    host.event(|event| matches!(event, Event::ConnectionRefused { .. }).then_some(()));
}

/// Rule 6, from a node of ours: a request's steps reach the engine as they were sent, the large ones
/// in pieces with other messages between, and are answered in order.
pub fn steps_come_in_order(kind: Kind) {
    const WIDTH: usize = 64;
    let (tell, seen) = mpsc::channel();
    let hook = move |command: &EngineCommand| {
        let _ = tell.send(command.clone());
    };
    let host = Host::start(kind, Setup::new("host", 1), || {
        Ok(Box::new(NullEngine::with_hook(WIDTH, Box::new(hook))))
    });
    let mut raw = Raw::connect(host.address);
    assert_eq!(raw.introduce().node_id, "host");
    let mut roll = rolls();
    // A step of more than 127 positions takes several pieces.
    let rows: Vec<u32> = (0..60).map(|_| roll() as u32 % 300 + 1).collect();
    let prompt = rows.iter().sum();
    let mut messages = vec![Message::Open(Open {
        stream: 1,
        plan: plan("r", MODEL, prompt),
    })];
    let (mut position, mut pings, mut transfers) = (0, 0, 0);
    let mut expected = vec![];
    for &rows in &rows {
        let data = vec![rows as u8; 4 * WIDTH * rows as usize];
        let tensor = Tensor::new(DType::F32, vec![1, rows as usize, WIDTH], data.into());
        let tensor = tensor.expect("the bytes match the shape");
        expected.push((position, tensor.clone()));
        let step = Message::Step(Step {
            stream: 1,
            position,
            sample: position + rows == prompt,
            body: StepBody::Hidden(tensor),
        });
        position += rows;
        let pieces = pieces(&step, transfers + 1);
        transfers += u32::from(pieces.len() > 1);
        for piece in pieces {
            pings += 1;
            messages.extend([piece, Message::Ping { id: pings }]);
        }
    }
    let bytes = Bytes::from(bytes_of(&messages));
    let mut writer = raw.try_clone();
    // It must be read meanwhile, or both ends would wait for each other.
    let writing = thread::spawn(move || send_cut(&mut writer, &bytes, || roll() % 20_000 + 1));
    let (mut answered, mut opened) = (0, false);
    let token = loop {
        match raw.receive().expect("the connection is open") {
            Message::Pong { id } => {
                answered += 1;
                assert_eq!(id, answered);
            }
            Message::Open(open) => opened |= open.stream == 1,
            Message::Credit { .. } | Message::Ping { .. } => {}
            Message::Token(token) => break token,
            other => panic!("a stage of one request does not say {other:?}"),
        }
    };
    writing.join().expect("it takes all bytes");
    assert!(opened, "a token came on no stream");
    assert_eq!((token.stream, token.index, token.last), (1, 0, true));
    while answered < pings {
        if let Message::Pong { id } = raw.receive().expect("the connection is open") {
            answered += 1;
            assert_eq!(id, answered);
        }
    }
    raw.send(&[Message::End(Ending {
        epoch: 0,
        code: end::FINISHED,
        request: "r".into(),
        text: String::new(),
    })]);
    let mut computed = vec![];
    loop {
        match seen.recv_timeout(PATIENCE).expect("the request ends") {
            EngineCommand::Forward {
                position,
                input: EngineInput::Hidden(tensor),
                ..
            } => computed.push((position, tensor)),
            EngineCommand::Load { .. } => {}
            EngineCommand::Free { .. } => break,
            other => panic!("a last stage does not compute {other:?}"),
        }
    }
    assert_eq!(computed.len(), expected.len());
    assert!(computed == expected, "the steps differ from what was sent");
}

/// Rule 6, while they wait: whoever brings them, the node gets them as they came.
pub fn messages_wait_in_order(kind: Kind) {
    let (host, held_up) = held_up(kind, 64);
    let mut raw = Raw::connect(host.address);
    let asked: Vec<usize> = (0..300).map(|number| number * number / 7).collect();
    let questions: Vec<Message> = asked.iter().map(|&number| question(number)).collect();
    raw.send(&questions);
    // As long as the inbox is not full, look whether it is.
    let look = Command::Cancel {
        request: "nobody's".into(),
    };
    while host.handle.command(look.clone()).is_ok() {
        thread::sleep(Duration::from_millis(5));
    }
    held_up.end();
    for number in asked {
        assert_answers(number, raw.receive());
    }
}

/// Rule 7: a message counts as sent when it has left this machine's hands, not before; all arrive.
pub fn sent_means_sent(kind: Kind) {
    const WIDTH: usize = 2 << 20;
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let host = Host::start(kind, member(&listener), || {
        Ok(Box::new(NullEngine::new(WIDTH)))
    });
    let mut raw = joined(&host, &listener);
    let ids: Vec<String> = (0..20).map(|number| format!("r{number:02}")).collect();
    for id in &ids {
        host.command(Command::Submit(submit(id, 2, 1, NEVER)));
    }
    // One is in the driver's hands, and of 8 MiB no socket takes all unread.
    host.until("a full window", |status| status.queued == ids.len() - 1);
    for id in &ids {
        let Some(Message::SendTensorRequest(tensor)) = raw.receive() else {
            panic!("{id} does not come");
        };
        assert_eq!(tensor.request_id.as_ref(), Some(id));
        let data = tensor.tensor.data();
        assert_eq!(data.len(), WIDTH * 4);
        assert!(
            data.iter()
                .enumerate()
                .all(|(index, &byte)| byte == index as u8),
            "{id}"
        );
    }
    host.until("an empty outbox", |status| status.queued == 0);
}

/// Rule 11: of a node of ours, half a frame is a sign of life, as often as some of it comes.
pub fn progress_is_a_sign_of_life(kind: Kind) {
    const MOST: u32 = 16;
    let mut setup = Setup::new("host", 1);
    setup.config.limits.probes = MOST;
    setup.config.timing.probe_idle = Duration::from_millis(50);
    setup.config.timing.probe_busy = Duration::from_millis(50);
    let host = Host::start(kind, setup, || Ok(Box::new(NullEngine::new(1))));
    let mut raw = Raw::connect(host.address);
    raw.introduce();
    let frame = bytes_of(&[Message::SendOpaqueStatus {
        request_id: None,
        status: "x".repeat(100),
    }]);
    // More questions than a silent peer may leave open, each answered with one byte.
    for (byte, _) in frame.iter().zip(0..MOST + 4) {
        let asked = raw.receive();
        assert!(matches!(asked, Some(Message::Ping { .. })), "{asked:?}");
        raw.send_bytes(&[*byte]);
    }
    host.until("a peer", |status| {
        status.peers.len() == 1 && status.peers.iter().all(|peer| peer.up && peer.own)
    });
}

/// Rule 11: half a frame is noticed, although a whole one came with it.
pub fn progress_is_told(kind: Kind) {
    let mut setup = Setup::new("host", 1);
    setup.config.timing.frame_stall = Duration::from_millis(50);
    let host = Host::start(kind, setup, || Ok(Box::new(NullEngine::new(1))));
    let mut raw = Raw::connect(host.address);
    let whole = bytes_of(&[ask_topology()]);
    let (half, _) = whole.split_at(whole.len() / 2);
    raw.send_bytes(&[&whole[..], half].concat());
    assert!(matches!(
        raw.receive(),
        Some(Message::CollectTopologyResponse(_))
    ));
    raw.closed();
    let reason = host.event(|event| match event {
        Event::ConnectionRefused { reason, .. } => Some(reason),
        _ => None,
    });
    assert!(reason.contains("middle of a frame"), "{reason}");
}
