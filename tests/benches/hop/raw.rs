//! Nothing but sockets.

use crate::far::{FAR_CORE, Far};
use crate::{BLOCK, Block, Contestant, Outcome, WIDTH};
use exo_protocol::wire::{Encoder, Message, SendTensor};
use exo_protocol::{DType, Shard, Tensor};
use exo_tests::conformance::engine::MODEL;
use std::env;
use std::io::{IoSlice, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Instant;

/// Bytes of the empty acknowledgement.
const ACKNOWLEDGEMENT: usize = 13;

/// A hidden state.
pub(crate) fn hidden() -> Outcome<Tensor> {
    let data = vec![7; WIDTH * 4].into();
    Ok(Tensor::new(DType::F32, vec![1, 1, WIDTH], data)?)
}

/// What is sent in the base protocol for a step of a request.
pub(crate) fn tensor(request: &str) -> Outcome<Encoder> {
    let message = Message::SendTensorRequest(SendTensor {
        shard: Shard::new(MODEL.into(), 1..2, 2).ok_or("layers")?,
        tensor: hidden()?,
        request_id: Some(request.into()),
        inference_state: None,
    });
    Ok(Encoder::new(&message)?)
}

fn frame() -> Outcome<Encoder> {
    tensor("00000000-0000-4000-8000-000000000000")
}

pub(crate) fn contestant() -> Outcome<Contestant> {
    let mut far = Far::spawn(&env::current_exe()?, &["far", "raw"], FAR_CORE)?;
    let mut stream = TcpStream::connect(("127.0.0.1", far.port))?;
    stream.set_nodelay(true)?;
    let frame = frame()?;
    let run = move || {
        let _far = &mut far;
        let mut samples = Vec::with_capacity(BLOCK);
        for _ in 0..BLOCK {
            let start = Instant::now();
            let written = stream.write_vectored(&frame.slices().map(IoSlice::new))?;
            assert_eq!(written, frame.remaining(), "a socket takes it all");
            stream.read_exact(&mut [0; ACKNOWLEDGEMENT])?;
            samples.push(start.elapsed());
        }
        Ok(vec![Block::of(samples)])
    };
    let (run, rows) = (Box::new(run), vec![("ping-pong", vec![])]);
    Ok(Contestant {
        name: "raw",
        run,
        rows,
    })
}

pub(crate) fn far() -> Outcome<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    println!("{}", listener.local_addr()?.port());
    let (mut stream, _) = listener.accept()?;
    stream.set_nodelay(true)?;
    let size = frame()?.remaining();
    let mut place = vec![0; 64 << 10];
    loop {
        let mut got = 0;
        while got < size {
            match stream.read(&mut place)? {
                0 => return Ok(()),
                n => got += n,
            }
        }
        stream.write_all(&[0; ACKNOWLEDGEMENT])?;
    }
}
