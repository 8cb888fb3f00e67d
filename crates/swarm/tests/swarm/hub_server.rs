//! A hub on loopback: `HEAD` and `GET` of `/owner/name/resolve/…` redirect to `/bytes/…`, with the headers that the real one
//! sends. Each repository has a file of its own, and the next transfers can be told to go wrong.

use sha2::{Digest, Sha256};
use std::{
    collections::{HashMap, VecDeque},
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Condvar, Mutex, MutexGuard},
    thread,
};

/// How one transfer goes wrong.
#[derive(Debug, Clone)]
pub(crate) enum Fault {
    /// The connection closes after so many bytes of the body.
    Cut(usize),
    /// Nothing more comes after so many bytes, until [`Hub::release`] is called; then the rest comes.
    Hang(usize),
    /// The last byte is wrong.
    CorruptLast,
    /// The length is not announced, and one byte too many comes.
    TooLong,
    /// `content-length` announces another file.
    LieLength(usize),
    /// Another status.
    Status(u16),
    /// The range is ignored: the whole file comes.
    IgnoreRange,
    /// `If-Range` is ignored: the rest of the new file comes.
    IgnoreIfRange,
}

/// One repository's file.
#[derive(Debug, Clone)]
pub(crate) struct Repo {
    pub(crate) data: Vec<u8>,
    /// Validator of the content network.
    pub(crate) etag: String,
    /// Status of the first answer of the hub, if it is not a redirect.
    pub(crate) status: Option<u16>,
    /// What `x-linked-size` says.
    pub(crate) linked_size: Option<usize>,
    /// What `x-linked-etag` says.
    pub(crate) linked_sha256: Option<String>,
    /// Whether the file list knows the file.
    pub(crate) listed: bool,
    /// The first answer never comes.
    pub(crate) silent: bool,
    /// Where bytes are: this server if `None`.
    pub(crate) bytes_at: Option<SocketAddr>,
    pub(crate) faults: VecDeque<Fault>,
}

impl Repo {
    pub(crate) fn new(data: &[u8]) -> Self {
        Self {
            data: data.to_vec(),
            etag: "\"v1\"".into(),
            status: None,
            linked_size: Some(data.len()),
            linked_sha256: Some(sha256_hex(data)),
            listed: false,
            silent: false,
            bytes_at: None,
            faults: VecDeque::new(),
        }
    }

    pub(crate) fn faults(mut self, faults: impl IntoIterator<Item = Fault>) -> Self {
        self.faults = faults.into_iter().collect();
        self
    }
}

pub(crate) fn sha256_hex(data: &[u8]) -> String {
    Sha256::digest(data).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// One request that was answered.
#[derive(Debug, Clone, Default)]
pub(crate) struct Seen {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) headers: HashMap<String, String>,
    /// Bytes of the body that were sent, or were about to be.
    pub(crate) sent: usize,
    index: usize,
}

#[derive(Default)]
struct State {
    repos: Mutex<HashMap<String, Repo>>,
    seen: Mutex<Vec<Seen>>,
    released: Mutex<bool>,
    release: Condvar,
}

/// The server. It lives as long as the test process.
#[derive(Clone)]
pub(crate) struct Hub {
    pub(crate) address: SocketAddr,
    state: Arc<State>,
}

impl Hub {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let hub = Self { address: listener.local_addr().unwrap(), state: Arc::default() };
        let accepting = hub.clone();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let hub = accepting.clone();
                // A client that goes away mid-transfer is what these tests are about.
                thread::spawn(move || drop(hub.serve(stream)));
            }
        });
        hub
    }

    pub(crate) fn with(repo: Repo) -> Self {
        let hub = Self::start();
        hub.put("owner/name", repo);
        hub
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) fn put(&self, name: &str, repo: Repo) {
        self.repos().insert(name.to_owned(), repo);
    }

    pub(crate) fn change(&self, change: impl FnOnce(&mut Repo)) {
        change(self.repos().get_mut("owner/name").unwrap());
    }

    pub(crate) fn release(&self) {
        *self.state.released.lock().unwrap() = true;
        self.state.release.notify_all();
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.state.seen.lock().unwrap().clone()
    }

    /// Transfers of bytes.
    pub(crate) fn transfers(&self) -> Vec<Seen> {
        self.seen().into_iter().filter(|seen| seen.method == "GET" && seen.path.starts_with("/bytes/")).collect()
    }

    fn count(&self, seen: &Seen, bytes: usize) {
        self.state.seen.lock().unwrap()[seen.index].sent += bytes;
    }

    fn repos(&self) -> MutexGuard<'_, HashMap<String, Repo>> {
        self.state.repos.lock().unwrap()
    }

    fn serve(&self, mut stream: TcpStream) -> std::io::Result<()> {
        let mut reader = BufReader::new(stream.try_clone()?);
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line)? == 0 {
                return Ok(());
            }
            let mut words = line.split_whitespace().map(str::to_owned);
            let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
            let mut seen = Seen { method, path, ..Seen::default() };
            loop {
                let mut header = String::new();
                reader.read_line(&mut header)?;
                let Some((name, value)) = header.trim_end().split_once(": ") else { break };
                seen.headers.insert(name.to_ascii_lowercase(), value.to_owned());
            }
            // Noted before it is answered: whoever has the answer finds the note.
            seen.index = {
                let mut all = self.state.seen.lock().unwrap();
                all.push(seen.clone());
                all.len() - 1
            };
            if !self.answer(&mut stream, &seen)? {
                return Ok(());
            }
        }
    }

    /// Answers one request; whether the connection may be used again.
    fn answer(&self, stream: &mut TcpStream, seen: &Seen) -> std::io::Result<bool> {
        let path = seen.path.clone();
        if let Some(rest) = path.strip_prefix("/bytes/") {
            return self.send_bytes(stream, seen, rest);
        }
        if let Some(rest) = path.strip_prefix("/api/models/") {
            let name: String = rest.split('/').take(2).collect::<Vec<_>>().join("/");
            let listed = self.repos().get(&name).filter(|repo| repo.listed).cloned();
            let Some(repo) = listed else { return reply(stream, 404, "", b"") };
            assert_eq!(rest, format!("{name}/tree/main/dir"));
            let (oid, size) = (sha256_hex(&repo.data), repo.data.len());
            let body = format!(
                r#"[{{"type":"file","oid":"1","size":7,"path":"dir/other"}},{{"type":"file","oid":"2","size":{size},"path":"dir/model.gguf","lfs":{{"oid":"{oid}","size":{size},"pointerSize":134}}}}]"#
            );
            return reply(stream, 200, "content-type: application/json\r\n", body.as_bytes());
        }
        let Some((name, _)) = path[1..].split_once("/resolve/main/dir/model.gguf") else {
            return reply(stream, 404, "", b"");
        };
        let repo = self.repos().get(name).cloned();
        let Some(repo) = repo else { return reply(stream, 404, "x-error-code: RepoNotFound\r\n", b"") };
        if repo.silent {
            // Until the client gives up.
            let mut end = [0];
            return stream.read(&mut end).map(|_| false);
        }
        if let Some(status) = repo.status {
            return reply(stream, status, "", b"");
        }
        let address = repo.bytes_at.unwrap_or(self.address);
        let mut headers = format!("location: http://{address}/bytes/{name}\r\n");
        if let Some(size) = repo.linked_size {
            headers += &format!("x-linked-size: {size}\r\n");
        }
        if let Some(sha256) = &repo.linked_sha256 {
            headers += &format!("x-linked-etag: \"{sha256}\"\r\n");
        }
        reply(stream, 302, &headers, b"")
    }

    fn send_bytes(&self, stream: &mut TcpStream, seen: &Seen, name: &str) -> std::io::Result<bool> {
        let (repo, fault) = {
            let mut repos = self.repos();
            let Some(repo) = repos.get_mut(name) else { return reply(stream, 404, "", b"") };
            let fault = if seen.method == "GET" { repo.faults.pop_front() } else { None };
            (repo.clone(), fault)
        };
        let mut data = repo.data.clone();
        if let Some(Fault::Status(status)) = fault {
            return reply(stream, status, "", b"");
        }
        if let Some(Fault::CorruptLast) = fault {
            *data.last_mut().unwrap() ^= 1;
        }
        let range = seen.headers.get("range").and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-'));
        let mut start = range.map_or(0, |start| start.parse::<usize>().unwrap());
        let same = seen.headers.get("if-range").is_none_or(|etag| *etag == repo.etag);
        if matches!(fault, Some(Fault::IgnoreRange)) || (!same && !matches!(fault, Some(Fault::IgnoreIfRange))) {
            start = 0;
        }
        if start >= data.len() {
            return reply(stream, 416, "", b"");
        }
        let mut head = if start == 0 {
            "HTTP/1.1 200 OK\r\n".to_owned()
        } else {
            format!(
                "HTTP/1.1 206 Partial Content\r\ncontent-range: bytes {start}-{}/{}\r\n",
                data.len() - 1,
                data.len()
            )
        };
        head += &format!("etag: {}\r\n", repo.etag);
        let mut body = data.split_off(start);
        match fault {
            Some(Fault::TooLong) => {
                body.push(0);
                head += "connection: close\r\n";
            }
            Some(Fault::LieLength(length)) => head += &format!("content-length: {length}\r\n"),
            _ => head += &format!("content-length: {}\r\n", body.len()),
        }
        stream.write_all(head.as_bytes())?;
        stream.write_all(b"\r\n")?;
        if seen.method == "HEAD" {
            return Ok(true);
        }
        let first = match fault {
            Some(Fault::Cut(bytes) | Fault::Hang(bytes)) => bytes.min(body.len()),
            _ => body.len(),
        };
        for chunk in body[..first].chunks(16 << 10) {
            self.count(seen, chunk.len());
            stream.write_all(chunk)?;
        }
        match fault {
            Some(Fault::Cut(_) | Fault::TooLong | Fault::LieLength(_)) => return Ok(false),
            Some(Fault::Hang(_)) => {
                let released = self.state.released.lock().unwrap();
                drop(self.state.release.wait_while(released, |released| !*released).unwrap());
                self.count(seen, body.len() - first);
                stream.write_all(&body[first..])?;
            }
            _ => {}
        }
        Ok(true)
    }
}

fn reply(stream: &mut TcpStream, status: u16, headers: &str, body: &[u8]) -> std::io::Result<bool> {
    let head = format!("HTTP/1.1 {status} Whatever\r\n{headers}content-length: {}\r\n\r\n", body.len());
    stream.write_all(head.as_bytes())?;
    stream.write_all(body)?;
    Ok(true)
}
