//! Many connections, slow ones, silent ones, and the end of all of them.

use crate::{
    Served,
    fake_pool::{Script, done, started, tokens},
    http_client::Connection,
};
use gateway::Limits;
use protocol::task::Finish;
use std::time::Duration;

const CHAT: &str = r#"{"model":"default","messages":[{"role":"user","content":"hello"}]}"#;
const STREAM: &str = r#"{"model":"default","stream":true,"messages":[{"role":"user","content":"a b"}]}"#;

/// Both ends of every connection are in this process; many systems allow it 1,024 or 256 files unless it asks.
fn raise_file_limit() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, soft.max(hard.min(10_000)), hard).unwrap();
}

#[tokio::test]
async fn a_thousand_silent_connections_hurt_nobody() {
    raise_file_limit();
    let served = Served::start().await;
    let mut silent = Vec::new();
    for _ in 0..1000 {
        silent.push(served.connect().await);
    }
    // Half of them have begun a request that never goes on.
    for connection in silent.iter_mut().step_by(2) {
        connection.send(b"POST /v1/chat/completions HTTP/1.1\r\nhost: loc").await;
    }
    for _ in 0..20 {
        assert_eq!(served.chat(CHAT).await.status(), 200);
    }
    let metrics = served.get("/metrics").await.text();
    let open = metrics.lines().find_map(|line| line.strip_prefix("darkbloom_gateway_connections ")).unwrap();
    assert!(open.parse::<u32>().unwrap() > 1000, "none of them was closed: {open}");
}

#[tokio::test]
async fn beyond_the_limit_the_silent_make_room_for_who_asks() {
    let limits = Limits { connections_max: 50, ..Limits::default() };
    let served = Served::with_limits(limits).await;
    let mut silent = Vec::new();
    for _ in 0..200 {
        silent.push(served.connect().await);
    }
    assert_eq!(served.chat(CHAT).await.status(), 200);
    for mut evicted in silent.into_iter().take(150) {
        assert!(evicted.try_head().await.is_none(), "the oldest were closed");
    }
}

#[tokio::test]
async fn a_connection_that_asks_is_never_closed_for_another() {
    let limits = Limits { connections_max: 2, ..Limits::default() };
    let served = Served::with_limits(limits).await;
    let mut streams = Vec::new();
    for model in ["one", "two"] {
        let frames = served.pool.live(model);
        let mut connection = served.connect().await;
        connection.send_post("/v1/chat/completions", &[], &STREAM.replace("default", model)).await;
        frames.send(Ok(started())).unwrap();
        connection.head().await;
        connection.event().await;
        streams.push((frames, connection));
    }
    let refused = served.connect().await.response().await;
    assert_eq!((refused.status(), refused.error_code().as_str()), (503, "rate_limit_exceeded"));
    assert_eq!(refused.head.header("retry-after"), Some("1"));
    for (frames, connection) in &mut streams {
        frames.send(Ok(tokens("still here"))).unwrap();
        assert!(connection.event().await.contains("still here"));
    }
}

#[tokio::test]
async fn a_head_that_does_not_come_closes_its_connection() {
    let limits = Limits { head_timeout: Duration::from_millis(20), ..Limits::default() };
    let served = Served::with_limits(limits).await;
    let mut silent = served.connect().await;
    let mut slow = served.connect().await;
    slow.send(b"GET /v1/models HTTP/1.1\r\nhost: localhost\r\nx-slow: ").await;
    assert!(silent.try_head().await.is_none());
    assert!(slow.try_head().await.is_none());
}

#[tokio::test]
async fn a_connection_that_asked_once_may_wait_longer_but_not_forever() {
    let limits =
        Limits { head_timeout: Duration::from_secs(600), idle_timeout: Duration::from_millis(20), ..Limits::default() };
    let served = Served::with_limits(limits).await;
    let mut connection = served.connect().await;
    assert_eq!(connection.get("/healthz", &[]).await.status(), 200);
    connection.closed().await;
}

#[tokio::test]
async fn tasks_beyond_the_limit_are_refused_early() {
    let served = Served::with_limits(Limits { requests_max: 1, ..Limits::default() }).await;
    let frames = served.pool.live("default");
    let mut first = served.connect().await;
    first.send_post("/v1/chat/completions", &[], STREAM).await;
    frames.send(Ok(started())).unwrap();
    first.head().await;
    let response = served.chat(CHAT).await;
    assert_eq!((response.status(), response.error_code().as_str()), (429, "rate_limit_exceeded"));
    assert_eq!(served.get("/v1/models").await.status(), 200);
    drop(first);
    served.pool.answer_dropped().await;
    while served.chat(CHAT).await.status() == 429 {}
}

#[tokio::test]
async fn a_reader_that_stops_reading_is_cut_off_and_its_task_cancelled() {
    let served = Served::with_limits(Limits { stall_timeout: Duration::from_millis(50), ..Limits::default() }).await;
    served.pool.script("default", Script::Endless("lorem ipsum dolor sit amet"));
    let mut connection = served.connect().await;
    connection.send_post("/v1/chat/completions", &[], STREAM).await;
    connection.head().await;
    served.pool.answer_dropped().await;
}

#[tokio::test]
async fn a_shutdown_lets_answers_finish_and_closes_the_rest() {
    let mut served = Served::start().await;
    let frames = served.pool.live("default");
    let mut streaming = served.connect().await;
    streaming.send_post("/v1/chat/completions", &[], STREAM).await;
    frames.send(Ok(started())).unwrap();
    streaming.head().await;
    streaming.event().await;
    let mut silent = served.connect().await;
    let mut kept_alive = served.connect().await;
    assert_eq!(kept_alive.get("/healthz", &[]).await.status(), 200);

    served.shutdown.cancel();
    silent.closed().await;
    kept_alive.closed().await;
    frames.send(Ok(tokens("to the end"))).unwrap();
    assert!(streaming.event().await.contains("to the end"));
    frames.send(Ok(done(Finish::Stop, 1))).unwrap();
    assert!(streaming.event().await.contains("[DONE]"));
    assert_eq!(streaming.chunk().await, None);
    streaming.closed().await;
    (&mut served.serving).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_shutdown_cuts_answers_that_do_not_finish() {
    let limits = Limits { drain_timeout: Duration::from_millis(20), ..Limits::default() };
    let mut served = Served::with_limits(limits).await;
    let frames = served.pool.live("default");
    let mut streaming: Connection = served.connect().await;
    streaming.send_post("/v1/chat/completions", &[], STREAM).await;
    frames.send(Ok(started())).unwrap();
    streaming.head().await;
    served.shutdown.cancel();
    (&mut served.serving).await.unwrap().unwrap();
    streaming.closed().await;
    assert!(frames.is_closed());
}
