//! HTTP/1.1 by hand, so that the tests see every byte and can send wrong ones.

use serde_json::Value;
use std::net::SocketAddr;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
};

pub(crate) struct Connection {
    stream: BufReader<TcpStream>,
}

#[derive(Debug)]
pub(crate) struct Head {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
}

#[derive(Debug)]
pub(crate) struct Response {
    pub(crate) head: Head,
    pub(crate) body: Vec<u8>,
}

impl Connection {
    pub(crate) async fn open(address: SocketAddr) -> Self {
        Self { stream: BufReader::new(TcpStream::connect(address).await.unwrap()) }
    }

    pub(crate) async fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.unwrap();
    }

    /// Sends what the peer still takes.
    pub(crate) async fn try_send(&mut self, bytes: &[u8]) {
        let _ = self.stream.write_all(bytes).await;
    }

    pub(crate) async fn send_post(&mut self, path: &str, headers: &[(&str, &str)], body: &str) {
        let mut head = format!("POST {path} HTTP/1.1\r\n");
        let defaults =
            [("host", "localhost"), ("content-type", "application/json"), ("content-length", &body.len().to_string())];
        let is_given = |name| headers.iter().any(|(given, _)| given == name);
        for (name, value) in defaults.iter().filter(|(name, _)| !is_given(name)).chain(headers) {
            head += &format!("{name}: {value}\r\n");
        }
        self.try_send(format!("{head}\r\n{body}").as_bytes()).await;
    }

    pub(crate) async fn post(&mut self, path: &str, headers: &[(&str, &str)], body: &str) -> Response {
        self.send_post(path, headers, body).await;
        self.response().await
    }

    pub(crate) async fn get(&mut self, path: &str, headers: &[(&str, &str)]) -> Response {
        self.request("GET", path, headers).await
    }

    pub(crate) async fn request(&mut self, method: &str, path: &str, headers: &[(&str, &str)]) -> Response {
        let mut head = format!("{method} {path} HTTP/1.1\r\n");
        if !headers.iter().any(|(name, _)| *name == "host") {
            head += "host: localhost\r\n";
        }
        for (name, value) in headers {
            head += &format!("{name}: {value}\r\n");
        }
        self.send(format!("{head}\r\n").as_bytes()).await;
        self.response().await
    }

    /// `None`: the peer closed before it said anything.
    pub(crate) async fn try_head(&mut self) -> Option<Head> {
        let status = self.line().await?;
        let status = status.split(' ').nth(1).unwrap().parse().unwrap();
        let mut headers = Vec::new();
        loop {
            let line = self.line().await.expect("a whole head");
            if line.is_empty() {
                return Some(Head { status, headers });
            }
            let (name, value) = line.split_once(": ").unwrap();
            headers.push((name.to_owned(), value.to_owned()));
        }
    }

    pub(crate) async fn head(&mut self) -> Head {
        self.try_head().await.expect("an answer")
    }

    pub(crate) async fn response(&mut self) -> Response {
        let head = self.head().await;
        let mut body = Vec::new();
        if head.header("transfer-encoding") == Some("chunked") {
            while let Some(chunk) = self.chunk().await {
                body.extend(chunk);
            }
        } else {
            body.resize(head.header("content-length").map_or(0, |length| length.parse().unwrap()), 0);
            self.stream.read_exact(&mut body).await.unwrap();
        }
        Response { head, body }
    }

    /// The next chunk; `None` after the last.
    pub(crate) async fn chunk(&mut self) -> Option<Vec<u8>> {
        let length = usize::from_str_radix(&self.line().await.expect("a chunk"), 16).unwrap();
        let mut chunk = vec![0; length + 2];
        self.stream.read_exact(&mut chunk).await.unwrap();
        chunk.truncate(length);
        (length > 0).then_some(chunk)
    }

    /// The next chunk as text.
    pub(crate) async fn event(&mut self) -> String {
        String::from_utf8(self.chunk().await.expect("one more event")).unwrap()
    }

    /// Returns when the peer has closed, whatever it said before.
    pub(crate) async fn closed(&mut self) {
        let mut rest = Vec::new();
        // A reset closes too.
        let _ = self.stream.read_to_end(&mut rest).await;
    }

    async fn line(&mut self) -> Option<String> {
        let mut line = String::new();
        match self.stream.read_line(&mut line).await {
            Ok(0) | Err(_) => None,
            Ok(_) => Some(line.trim_end_matches("\r\n").to_owned()),
        }
    }
}

impl Head {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(given, _)| given == name).map(|(_, value)| value.as_str())
    }
}

impl Response {
    pub(crate) fn status(&self) -> u16 {
        self.head.status
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.body.clone()).unwrap()
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }

    /// Asserts OpenAI's envelope, whole and with nothing else, and gives its `code`.
    pub(crate) fn error_code(&self) -> String {
        let body = self.json();
        let error = body["error"].as_object().unwrap_or_else(|| panic!("no envelope: {body}"));
        let mut members: Vec<_> = error.keys().map(String::as_str).collect();
        members.sort_unstable();
        assert_eq!(members, ["code", "message", "param", "type"]);
        assert!(error["message"].as_str().is_some_and(|message| !message.is_empty()));
        assert_eq!(self.head.header("content-type"), Some("application/json"));
        error["code"].as_str().unwrap_or_default().to_owned()
    }
}
