//! A client that keeps its connection.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};

pub(crate) struct Client {
    api: SocketAddr,
    reader: BufReader<TcpStream>,
    /// The server ends the connection behind this reply.
    last: bool,
    length: Option<usize>,
}

impl Client {
    pub(crate) fn connect(api: SocketAddr) -> Self {
        let stream = TcpStream::connect(api).expect("the API is there");
        stream.set_nodelay(true).expect("a socket");
        Self {
            api,
            reader: BufReader::new(stream),
            last: false,
            length: None,
        }
    }

    pub(crate) fn send(&mut self, method: &str, path: &str, body: &str) {
        let length = body.len();
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n{body}"
        );
        self.reader
            .get_mut()
            .write_all(request.as_bytes())
            .expect("the API listens");
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.reader.read_line(&mut line).expect("a line");
        line
    }

    /// The status of the reply that comes.
    pub(crate) fn head(&mut self) -> u16 {
        let first = self.line();
        let status = first.split(' ').nth(1).and_then(|word| word.parse().ok());
        (self.last, self.length) = (false, None);
        loop {
            let line = self.line().to_ascii_lowercase();
            match line.trim_end().split_once(": ") {
                Some(("connection", value)) => self.last = value == "close",
                Some(("content-length", value)) => self.length = value.parse().ok(),
                Some(_) => {}
                None => return status.unwrap_or_else(|| panic!("{first:?}")),
            }
        }
    }

    /// The next chunk of a stream; none behind the last.
    pub(crate) fn chunk(&mut self) -> Option<String> {
        let length = usize::from_str_radix(self.line().trim_end(), 16).expect("a chunk");
        let mut chunk = vec![0; length + 2];
        self.reader.read_exact(&mut chunk).expect("a chunk");
        chunk.truncate(length);
        (length > 0).then(|| String::from_utf8(chunk).expect("text"))
    }

    /// Asks, and reads the whole reply.
    pub(crate) fn ask(&mut self, method: &str, path: &str, body: &str) -> u16 {
        self.send(method, path, body);
        let status = self.head();
        match self.length {
            Some(length) => {
                let mut body = vec![0; length];
                self.reader.read_exact(&mut body).expect("a body");
            }
            None => while self.chunk().is_some() {},
        }
        if self.last {
            *self = Self::connect(self.api);
        }
        status
    }
}
