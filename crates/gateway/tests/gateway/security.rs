//! Who gets in.

use crate::{Served, fake_pool::FakePool};
use gateway::{ApiKey, Gateway, GatewayConfig, GatewayError};
use std::{net::SocketAddr, sync::Arc};

const KEY: &str = "sk-test-0123456789abcdef";
const CHAT: &str = r#"{"model":"default","messages":[{"role":"user","content":"hello"}]}"#;

async fn bind(address: &str, keys: Vec<ApiKey>) -> Result<Gateway, GatewayError> {
    let config = GatewayConfig { bind: address.parse().unwrap(), keys, ..GatewayConfig::loopback(0) };
    Gateway::bind(config, Arc::new(FakePool::default())).await
}

#[tokio::test]
async fn an_address_that_others_reach_needs_a_key() {
    for address in ["0.0.0.0:0", "[::]:0", "192.0.2.1:0", "[::ffff:192.0.2.1]:0"] {
        let error = bind(address, Vec::new()).await.unwrap_err();
        assert!(matches!(error, GatewayError::KeyRequired { .. }), "{address}: {error}");
        assert!(error.to_string().contains("set an API key"));
    }
    bind("0.0.0.0:0", vec![ApiKey::new(KEY).unwrap()]).await.unwrap();
    bind("127.0.0.1:0", Vec::new()).await.unwrap();
}

#[tokio::test]
async fn a_taken_port_is_named() {
    let first = bind("127.0.0.1:0", Vec::new()).await.unwrap();
    let address = first.local_addr().to_string();
    let error = bind(&address, Vec::new()).await.unwrap_err();
    assert!(matches!(&error, GatewayError::Bind { .. }) && error.to_string().contains(&address), "{error}");
}

#[tokio::test]
async fn with_a_key_only_the_key_opens_and_only_probes_go_without() {
    let config = GatewayConfig { keys: vec![ApiKey::new(KEY).unwrap()], ..GatewayConfig::loopback(0) };
    let served = Served::with_config(config).await;
    let mut connection = served.connect().await;
    for authorization in ["", "Bearer", "Bearer ", "Bearer wrong-0123456789abcdef", "Basic c2s=", KEY] {
        let response = connection.post("/v1/chat/completions", &[("authorization", authorization)], CHAT).await;
        assert_eq!((response.status(), response.error_code().as_str()), (401, "invalid_api_key"), "{authorization}");
        assert_eq!(response.head.header("www-authenticate"), Some("Bearer"));
        assert!(!response.text().contains(KEY));
    }
    for path in ["/v1/models", "/metrics", "/nothing"] {
        assert_eq!(connection.get(path, &[]).await.status(), 401, "{path}");
    }
    for path in ["/healthz", "/readyz"] {
        assert_eq!(connection.get(path, &[]).await.status(), 200, "{path}");
    }
    assert!(served.pool.asked.lock().unwrap().is_empty());
    let bearer = format!("Bearer {KEY}");
    // Behind a key any name of this machine is fine.
    let headers = [("authorization", bearer.as_str()), ("host", "gateway.example"), ("origin", "https://app.example")];
    assert_eq!(connection.post("/v1/chat/completions", &headers, CHAT).await.status(), 200);
}

#[tokio::test]
async fn without_a_key_a_rebound_name_or_a_foreign_page_gets_nothing() {
    let served = Served::start().await;
    let port = served.address.port();
    let mut connection = served.connect().await;
    for headers in [
        &[("host", "evil.test")][..],
        &[("host", "evil.test"), ("origin", "http://evil.test")],
        &[("origin", "https://evil.test")],
        &[("origin", "null")],
    ] {
        for path in ["/v1/models", "/healthz", "/metrics", "/nothing"] {
            let response = connection.get(path, headers).await;
            assert_eq!((response.status(), response.error_code().as_str()), (403, "not_local"), "{headers:?}");
        }
        assert_eq!(connection.post("/v1/chat/completions", headers, CHAT).await.status(), 403);
        connection = served.connect().await;
    }
    assert!(served.pool.asked.lock().unwrap().is_empty());
    for host in [format!("127.0.0.1:{port}"), format!("localhost:{port}"), format!("[::1]:{port}")] {
        assert_eq!(connection.post("/v1/chat/completions", &[("host", &host)], CHAT).await.status(), 200);
    }
}

#[tokio::test]
async fn an_absolute_url_cannot_smuggle_a_foreign_name() {
    let served = Served::start().await;
    let response = served.connect().await.get("http://evil.test/v1/models", &[]).await;
    assert_eq!(response.status(), 403);
}

#[tokio::test]
async fn loopback_of_the_sixth_version_is_loopback() {
    // A machine may have no IPv6 at all; then there is nothing to bind.
    let Ok(probe) = std::net::TcpListener::bind("[::1]:0") else { return };
    drop(probe);
    let bind: SocketAddr = "[::1]:0".parse().unwrap();
    let served = Served::with_config(GatewayConfig { bind, ..GatewayConfig::loopback(0) }).await;
    assert_eq!(served.get("/v1/models").await.status(), 200);
}
