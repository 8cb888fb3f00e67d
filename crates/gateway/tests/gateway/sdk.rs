//! The official `openai` Python SDK as a client, against the fake pool. The end-to-end test runs the same file against
//! a real one.

use crate::{Served, fake_pool::MODEL};
use std::process::Stdio;
use tokio::process::Command;

/// `DARKBLOOM_TEST_PYTHON` names a Python with the package `openai`; `make test` provides it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_official_sdk_works_unchanged() {
    let python = std::env::var("DARKBLOOM_TEST_PYTHON")
        .expect("DARKBLOOM_TEST_PYTHON names a Python with the `openai` package; `make test` sets it");
    let served = Served::start().await;
    let output = Command::new(python)
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/sdk/test_openai_sdk.py"))
        .env("DARKBLOOM_BASE_URL", format!("http://{}/v1", served.address))
        .env("DARKBLOOM_EMBEDDING_MODEL", MODEL)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .unwrap();
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{out}\n{err}");
}
