//! A tensor of 8 KiB as a unary call of tonic: what the gRPC ancestor of the socket protocol would
//! pay per hop. Driven by `tests/benches/hop.rs`, which starts one process for each end.

use prost::Message;
use std::io::{self, BufRead, Read, Write};
use std::time::Instant;
use tokio::net::TcpListener;
use tonic::body::Body;
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::codegen::{BoxFuture, Context, Poll, Service};
use tonic::server::{NamedService, UnaryService};
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Channel, Server};
use tonic::{Request, Response, Status};
use tonic_prost::ProstCodec;

const PATH: &str = "/exo.Node/SendTensor";

/// The reference's gRPC ancestor sends these fields.
#[derive(Clone, PartialEq, Message)]
struct SendTensor {
    #[prost(message, optional, tag = "1")]
    shard: Option<Shard>,
    #[prost(message, optional, tag = "2")]
    tensor: Option<Tensor>,
    #[prost(string, optional, tag = "3")]
    request_id: Option<String>,
}

#[derive(Clone, PartialEq, Message)]
struct Shard {
    #[prost(string, tag = "1")]
    model_id: String,
    #[prost(uint32, tag = "2")]
    start_layer: u32,
    #[prost(uint32, tag = "3")]
    end_layer: u32,
    #[prost(uint32, tag = "4")]
    n_layers: u32,
}

#[derive(Clone, PartialEq, Message)]
struct Tensor {
    #[prost(bytes = "bytes", tag = "1")]
    data: prost::bytes::Bytes,
    #[prost(uint32, repeated, tag = "2")]
    shape: Vec<u32>,
    #[prost(string, tag = "3")]
    dtype: String,
}

#[derive(Clone, PartialEq, Message)]
struct Empty {}

type Outcome = Result<(), Box<dyn std::error::Error>>;

fn main() -> Outcome {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["server"] => runtime.block_on(serve()),
        ["client", port, bytes] => runtime.block_on(call(port.parse()?, bytes.parse()?)),
        _ => Err("usage: exo-baselines server | client PORT BYTES".into()),
    }
}

async fn serve() -> Outcome {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("{}", listener.local_addr()?.port());
    // As the harness wants it: the end of the input is the end of the process.
    std::thread::spawn(|| {
        let _ = io::stdin().read_to_end(&mut Vec::new());
        std::process::exit(0);
    });
    let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
    Ok(Server::builder()
        .add_service(Node)
        .serve_with_incoming(incoming)
        .await?)
}

/// Acknowledges every tensor.
#[derive(Clone)]
struct Node;

impl UnaryService<SendTensor> for Node {
    type Response = Empty;
    type Future = BoxFuture<Response<Empty>, Status>;

    fn call(&mut self, request: Request<SendTensor>) -> Self::Future {
        let size = request
            .into_inner()
            .tensor
            .map_or(0, |tensor| tensor.data.len());
        Box::pin(async move {
            if size == 0 {
                return Err(Status::invalid_argument("no tensor"));
            }
            Ok(Response::new(Empty {}))
        })
    }
}

impl Service<tonic::codegen::http::Request<Body>> for Node {
    type Response = tonic::codegen::http::Response<Body>;
    type Error = std::convert::Infallible;
    type Future = BoxFuture<Self::Response, Self::Error>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: tonic::codegen::http::Request<Body>) -> Self::Future {
        Box::pin(async move {
            let codec = ProstCodec::<Empty, SendTensor>::default();
            Ok(tonic::server::Grpc::new(codec).unary(Node, request).await)
        })
    }
}

impl NamedService for Node {
    const NAME: &'static str = "exo.Node";
}

async fn call(port: u16, bytes: usize) -> Outcome {
    let channel = Channel::from_shared(format!("http://127.0.0.1:{port}"))?.tcp_nodelay(true);
    let mut client = Grpc::new(channel.connect().await?);
    println!("{port}");
    let tensor = Tensor {
        data: vec![7; bytes].into(),
        shape: vec![1, 1, u32::try_from(bytes / 4)?],
        dtype: "float32".into(),
    };
    let shard = Shard {
        model_id: "null".into(),
        start_layer: 1,
        end_layer: 1,
        n_layers: 2,
    };
    let message = SendTensor {
        shard: Some(shard),
        tensor: Some(tensor),
        request_id: Some("00000000-0000-4000-8000-000000000000".into()),
    };
    for line in io::stdin().lock().lines() {
        let count: usize = line?.trim().parse()?;
        let mut samples = Vec::with_capacity(count);
        for _ in 0..count {
            let start = Instant::now();
            client.ready().await?;
            let codec = ProstCodec::<SendTensor, Empty>::default();
            let path = PathAndQuery::from_static(PATH);
            let _: Response<Empty> = client
                .unary(Request::new(message.clone()), path, codec)
                .await?;
            samples.push(start.elapsed().as_nanos().to_string());
        }
        println!("{}", samples.join(" "));
        io::stdout().flush()?;
    }
    Ok(())
}
