//! What should not be sent: the right typed answer, and everything goes on.

use protocol::{
    ids::TaskId,
    ipc::Rejection,
    limits,
    stream::{Refused, Reply},
    task::{Finish, Frame, Generation, Message, Sampling, Task},
};
use serde_json::json;
use std::{
    io::{Read, Write},
    net::{TcpStream, UdpSocket},
    time::Duration,
};
use testbed::{Daemon, hostile::Hostile, http};

struct Pool {
    orchestrator: Daemon,
    node: Daemon,
    gateway: Daemon,
    ticket: String,
}

impl Pool {
    async fn start() -> Self {
        let orchestrator = Daemon::orchestrator().await;
        let ticket = orchestrator.text("ticket");
        let node = Daemon::deterministic_node(&ticket, 1).await;
        let gateway = Daemon::gateway(&ticket).await;
        Self { orchestrator, node, gateway, ticket }
    }

    fn url(&self, path: &str) -> String {
        format!("{}{path}", self.gateway.text("base_url"))
    }

    /// Everything still runs, and answers.
    async fn assert_well(&mut self) {
        assert!(self.orchestrator.is_running() && self.node.is_running() && self.gateway.is_running());
        assert_eq!(self.node.status()["takes_work"], true);
        assert!(!http::chat(&self.gateway.text("base_url"), "are you well?", 4).await.is_empty());
    }
}

fn short_task() -> Task {
    let messages = vec![Message { role: "user".to_owned(), content: "secret question".to_owned() }];
    let generation = Generation { max_tokens: Some(3), sampling: Sampling::greedy(), ..Generation::default() };
    Task::Chat { messages, generation }
}

#[tokio::test(flavor = "multi_thread")]
async fn http_errors_are_typed() {
    let mut pool = Pool::start().await;
    let url = pool.url("/chat/completions");
    let client = http::client();
    let raw = async |body: Vec<u8>| {
        let request = client.post(&url).header("content-type", "application/json").body(body);
        let response = request.send().await.expect("an answer");
        let status = response.status().as_u16();
        let text = response.text().await.expect("a body");
        let value: serde_json::Value = serde_json::from_str(&text).expect("the error envelope");
        assert!(value["error"]["message"].is_string() && value["error"]["type"].is_string(), "{text}");
        (status, value["error"]["code"].as_str().unwrap_or_default().to_owned())
    };
    assert_eq!(raw(b"{\"model\": ".to_vec()).await.0, 400, "malformed JSON");
    assert_eq!(raw(vec![0xff; 100]).await.0, 400, "not even text");
    let mut unknown = http::chat_body("hi", 4);
    unknown["model"] = json!("no-such-model");
    assert_eq!(raw(unknown.to_string().into_bytes()).await, (404, "model_not_found".to_owned()));
    let long = http::chat_body(&"word ".repeat(2000), 4);
    assert_eq!(raw(long.to_string().into_bytes()).await, (400, "context_length_exceeded".to_owned()));
    let oversized = http::chat_body(&"x".repeat(64 << 20), 4);
    let status = client.post(&url).header("content-type", "application/json").body(oversized.to_string()).send().await;
    // Either the refusal is read, or the connection is closed on a sender that does not stop.
    if let Ok(response) = status {
        assert_eq!(response.status().as_u16(), 413);
    }
    pool.assert_well().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_silent_connections_do_not_matter() {
    let mut pool = Pool::start().await;
    let base_url = pool.gateway.text("base_url");
    let address = base_url.trim_start_matches("http://").trim_end_matches("/v1").to_owned();
    let mut silent = Vec::new();
    for _ in 0..1000 {
        silent.push(TcpStream::connect(&address).expect("the gateway listens"));
    }
    pool.assert_well().await;
    // Half a request is silence too.
    for connection in &mut silent {
        let _ = connection.write_all(b"POST /v1/chat/completions HTTP/1.1\r\nhost: loc");
    }
    pool.assert_well().await;
    // In the end they are closed.
    let mut first = silent.swap_remove(0);
    first.set_read_timeout(Some(Duration::from_secs(60))).expect("a timeout");
    let mut rest = Vec::new();
    let ended = first.read_to_end(&mut rest);
    assert!(ended.is_ok() || ended.is_err_and(|error| error.kind() == std::io::ErrorKind::ConnectionReset));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_sealed_task_is_refused_inside_the_sandbox() {
    let mut pool = Pool::start().await;
    let hostile = Hostile::join(&pool.ticket).await;
    let refused = |replies: Vec<Reply>| match replies.last() {
        Some(Reply::Refused(Refused::Worker(rejection))) => *rejection,
        other => panic!("{other:?}"),
    };

    let id = TaskId::random();
    let grant = hostile.grant(id).await;
    let (mut sealed, _) = Hostile::seal(&grant, id, &short_task());
    sealed.ciphertext[7] ^= 1;
    assert_eq!(refused(hostile.send(&grant, &grant.candidates[0].permit, &sealed).await), Rejection::NotAuthentic);

    let id = TaskId::random();
    let grant = hostile.grant(id).await;
    let (mut sealed, _) = Hostile::seal(&grant, id, &short_task());
    sealed.ciphertext.truncate(100);
    assert_eq!(refused(hostile.send(&grant, &grant.candidates[0].permit, &sealed).await), Rejection::NotAuthentic);

    let id = TaskId::random();
    let grant = hostile.grant(id).await;
    let (mut sealed, _) = Hostile::seal(&grant, id, &short_task());
    sealed.key.0[0] ^= 1;
    assert_eq!(refused(hostile.send(&grant, &grant.candidates[0].permit, &sealed).await), Rejection::UnknownKey);
    pool.assert_well().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_is_refused_by_the_node_and_by_the_worker() {
    let mut pool = Pool::start().await;
    let hostile = Hostile::join(&pool.ticket).await;
    let id = TaskId::random();
    let grant = hostile.grant(id).await;
    let permit = &grant.candidates[0].permit;
    let (sealed, mut opener) = Hostile::seal(&grant, id, &short_task());

    let replies = hostile.send(&grant, permit, &sealed).await;
    let mut frames = Vec::new();
    for reply in &replies {
        if let Reply::Frames(sealed) = reply {
            frames.extend(sealed.iter().map(|bytes| opener.open(bytes).expect("authentic, in order")));
        }
    }
    assert!(matches!(frames.last(), Some(Frame::Done { finish: Finish::Length, .. })), "{frames:?}");
    assert!(opener.is_complete());

    let again = hostile.send(&grant, permit, &sealed).await;
    assert_eq!(again, [Reply::Refused(Refused::Replayed)], "the same permit");
    // A new permit for the same task id passes the node; the worker has run this sealing.
    let fresh = hostile.grant(id).await;
    let again = hostile.send(&fresh, &fresh.candidates[0].permit, &sealed).await;
    let refused =
        matches!(again.last(), Some(Reply::Refused(Refused::Replayed | Refused::Worker(Rejection::Replayed))));
    assert!(refused, "{again:?}");
    pool.assert_well().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_permit_is_for_one_client() {
    let mut pool = Pool::start().await;
    let (owner, thief) = (Hostile::join(&pool.ticket).await, Hostile::join(&pool.ticket).await);
    let id = TaskId::random();
    let grant = owner.grant(id).await;
    let (sealed, _) = Hostile::seal(&grant, id, &short_task());
    let replies = thief.send(&grant, &grant.candidates[0].permit, &sealed).await;
    assert!(matches!(replies.as_slice(), [Reply::Refused(Refused::Permit { .. })]), "{replies:?}");
    let mut forged = grant.candidates[0].permit.clone();
    forged.payload[40] ^= 1;
    let replies = owner.send(&grant, &forged, &sealed).await;
    assert!(matches!(replies.as_slice(), [Reply::Refused(Refused::Permit { .. })]), "{replies:?}");
    pool.assert_well().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_on_every_port_changes_nothing() {
    let mut pool = Pool::start().await;
    let hostile = Hostile::join(&pool.ticket).await;
    let id = TaskId::random();
    let grant = hostile.grant(id).await;
    let ticket: protocol::ticket::Ticket = pool.ticket.parse().expect("a ticket");

    // Packets that are no QUIC.
    let noise = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    for target in grant.candidates[0].addresses.iter().chain(&ticket.orchestrators[0].addresses) {
        for length in [0usize, 1, 20, 100, 1200, 1500, 9000] {
            let bytes: Vec<u8> = (0..length).map(|at| (at * 31 + length) as u8).collect();
            for _ in 0..20 {
                noise.send_to(&bytes, target).expect("sent");
            }
        }
    }
    // Streams that carry no permit, one that never ends, and one that says nothing.
    let (_connection, mut sender, mut receiver) = hostile.open_stream(&grant).await;
    sender.message(&vec![0xa5u8; 2000], limits::PERMIT_BYTES_MAX).await.expect("sent");
    let reply: Option<Reply> = receiver.message(limits::STREAM_MESSAGE_BYTES_MAX).await.expect("a reply");
    assert_eq!(reply, Some(Reply::Refused(Refused::Malformed)));
    let (_connection, mut sender, mut receiver) = hostile.open_stream(&grant).await;
    // The node stops listening at the length, before the rest has arrived.
    let _ = sender.message(&vec![0u8; 1 << 20], 2 << 20).await;
    let reply: Option<Reply> = receiver.message(limits::STREAM_MESSAGE_BYTES_MAX).await.expect("a reply");
    assert_eq!(reply, Some(Reply::Refused(Refused::Malformed)), "longer than a permit may be");
    let _silent = hostile.open_stream(&grant).await;
    // A question to the orchestrator that is none.
    let (mut sender, mut receiver) = hostile.link().open_stream().await.expect("a stream");
    sender.message(&vec![0xffu8; 300], limits::LINK_MESSAGE_BYTES_MAX).await.expect("sent");
    sender.finish();
    let answer: Option<protocol::link::Answer> =
        receiver.message(limits::LINK_MESSAGE_BYTES_MAX).await.expect("an answer");
    assert_eq!(answer, Some(protocol::link::Answer::Malformed));
    pool.assert_well().await;
}
