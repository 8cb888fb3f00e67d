//! The official OpenAI SDK for Python against the real model.

use std::process::Command;
use testbed::{Daemon, Home, real_model};

#[tokio::test(flavor = "multi_thread")]
async fn the_official_python_sdk_notices_no_difference() {
    let python = std::env::var_os("DARKBLOOM_TEST_PYTHON")
        .expect("DARKBLOOM_TEST_PYTHON names a Python with the `openai` package; `make test` sets it");
    let model = format!("--model={}", real_model().display());
    let mut daemon = Daemon::start(Home::new(), &["up", "--port=0", &model], &[]);
    daemon.wait_for("a ready pool", |status| status["takes_work"] == true && status["base_url"].is_string()).await;
    let tests = concat!(env!("CARGO_MANIFEST_DIR"), "/../gateway/tests/sdk");
    let output = Command::new(python)
        .args(["-m", "unittest", "discover", "-s", tests, "-v"])
        .env("DARKBLOOM_BASE_URL", daemon.text("base_url"))
        .output()
        .expect("Python starts");
    let report = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{report}\n{}", String::from_utf8_lossy(&output.stdout));
    assert!(report.contains("Ran ") && !report.contains("Ran 0 tests"), "{report}");
}
