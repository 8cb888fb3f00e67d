//! As much of HTTP/1.1 as a benchmark needs: one client for both servers that are compared, without a runtime whose
//! scheduling would be measured too.

use std::io::{BufRead, BufReader, Error, ErrorKind, Read, Result, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// How long a server may say nothing.
const SILENCE: Duration = Duration::from_secs(120);
const LINE_BYTES_MAX: u64 = 64 << 10;

/// One connection, for one request after the other.
pub(super) struct Connection {
    stream: BufReader<TcpStream>,
    address: SocketAddr,
}

/// What stands before the body of an answer.
struct Head {
    status: u16,
    chunked: bool,
    length: Option<u64>,
}

impl Connection {
    pub(super) fn open(address: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(SILENCE))?;
        Ok(Self { stream: BufReader::new(stream), address })
    }

    /// The status of a GET; its body is read and dropped.
    pub(super) fn get(&mut self, path: &str) -> Result<u16> {
        let head = self.send(&format!("GET {path} HTTP/1.1\r\nHost: {}\r\n\r\n", self.address))?;
        self.body(&head, &mut |_| ())?;
        Ok(head.status)
    }

    /// Posts JSON and hands over the data of each server-sent event as soon as its line is complete.
    pub(super) fn post_events(&mut self, path: &str, json: &str, on_event: &mut dyn FnMut(&str)) -> Result<()> {
        let head = self.send(&format!(
            "POST {path} HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{json}",
            self.address,
            json.len()
        ))?;
        let mut lines = Lines::default();
        if head.status != 200 {
            let mut text = Vec::new();
            self.body(&head, &mut |bytes| text.extend_from_slice(bytes))?;
            let text = String::from_utf8_lossy(&text);
            return Err(Error::other(format!("POST {path} was answered with {}: {}", head.status, text.trim())));
        }
        self.body(&head, &mut |bytes| lines.push(bytes, on_event))
    }

    fn send(&mut self, request: &str) -> Result<Head> {
        self.stream.get_mut().write_all(request.as_bytes())?;
        let status_line = self.line()?;
        let status = status_line.split(' ').nth(1).and_then(|word| word.parse().ok()).ok_or_else(malformed)?;
        let mut head = Head { status, chunked: false, length: None };
        loop {
            let line = self.line()?.to_ascii_lowercase();
            match line.split_once(':').map(|(name, value)| (name, value.trim())) {
                Some(("transfer-encoding", "chunked")) => head.chunked = true,
                Some(("content-length", value)) => head.length = Some(value.parse().map_err(|_| malformed())?),
                None if line.is_empty() => return Ok(head),
                _ => {}
            }
        }
    }

    fn body(&mut self, head: &Head, sink: &mut dyn FnMut(&[u8])) -> Result<()> {
        if !head.chunked {
            let length = head.length.ok_or_else(malformed)?;
            return self.part(length, sink);
        }
        loop {
            let line = self.line()?;
            let size = line.split(';').next().unwrap_or_default().trim();
            let size = u64::from_str_radix(size, 16).map_err(|_| malformed())?;
            self.part(size, sink)?;
            let after = self.line()?;
            match (size, after.is_empty()) {
                (0, true) => return Ok(()),
                (_, true) => {}
                (_, false) => return Err(malformed()),
            }
        }
    }

    /// `length` bytes, each handed over when it is there.
    fn part(&mut self, mut length: u64, sink: &mut dyn FnMut(&[u8])) -> Result<()> {
        while length > 0 {
            let bytes = self.stream.fill_buf()?;
            if bytes.is_empty() {
                return Err(ErrorKind::UnexpectedEof.into());
            }
            let count = usize::try_from(length).map_or(bytes.len(), |length| length.min(bytes.len()));
            sink(&bytes[..count]);
            self.stream.consume(count);
            length -= count as u64;
        }
        Ok(())
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        let count = (&mut self.stream).take(LINE_BYTES_MAX).read_line(&mut line)?;
        match count > 0 && line.ends_with('\n') {
            true => Ok(line.trim_end_matches(['\r', '\n']).to_owned()),
            false => Err(ErrorKind::UnexpectedEof.into()),
        }
    }
}

fn malformed() -> Error {
    Error::new(ErrorKind::InvalidData, "this is not an HTTP/1.1 answer")
}

/// Puts lines together and hands over the data of events.
#[derive(Default)]
struct Lines(Vec<u8>);

impl Lines {
    fn push(&mut self, bytes: &[u8], on_event: &mut dyn FnMut(&str)) {
        for piece in bytes.split_inclusive(|&byte| byte == b'\n') {
            self.0.extend_from_slice(piece);
            if piece.ends_with(b"\n") {
                let line = String::from_utf8_lossy(&self.0);
                if let Some(data) = line.strip_prefix("data:") {
                    on_event(data.trim());
                }
                self.0.clear();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    #[test]
    fn events_are_put_together_from_chunks() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let server = std::thread::spawn(move || {
            let mut stream = listener.accept().unwrap().0;
            let mut request = [0; 1024];
            assert!(stream.read(&mut request).unwrap() > 0);
            let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
            let body = "8\r\ndata: on\r\n5;x=y\r\ne\n\n:c\r\n8\r\n\ndata: 2\r\n2\r\n\n\n\r\n0\r\n\r\n";
            stream.write_all(format!("{head}{body}").as_bytes()).unwrap();
        });
        let mut events = Vec::new();
        let mut connection = Connection::open(address).unwrap();
        connection.post_events("/", "{}", &mut |event| events.push(event.to_owned())).unwrap();
        assert_eq!(events, ["one", "2"]);
        server.join().unwrap();
    }
}
