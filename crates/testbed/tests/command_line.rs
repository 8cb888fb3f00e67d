//! What a person types, and what a program reads.

use std::path::Path;
use testbed::{Daemon, Home};

fn schema(name: &str) -> serde_json::Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/schemas").join(format!("{name}.schema.json"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_str(&text).expect("a schema is JSON")
}

/// Checks the keywords that our schemas use; an unknown one fails, so that nothing is skipped.
fn check(schema: &serde_json::Value, root: &serde_json::Value, value: &serde_json::Value, at: &str) {
    let Some(keywords) = schema.as_object() else {
        assert_eq!(schema, true, "{at}");
        return;
    };
    for (keyword, rule) in keywords {
        match keyword.as_str() {
            "$schema" | "title" | "description" | "$defs" | "format" | "default" => {}
            "$ref" => {
                let name = rule.as_str().and_then(|text| text.strip_prefix("#/$defs/")).expect("a local reference");
                check(&root["$defs"][name], root, value, at);
            }
            "type" => {
                let is = |kind: &str| match kind {
                    "object" => value.is_object(),
                    "array" => value.is_array(),
                    "string" => value.is_string(),
                    "boolean" => value.is_boolean(),
                    "integer" => value.is_i64() || value.is_u64(),
                    "number" => value.is_number(),
                    "null" => value.is_null(),
                    other => panic!("{at}: type {other}"),
                };
                let kinds = rule.as_array().cloned().unwrap_or_else(|| vec![rule.clone()]);
                assert!(kinds.iter().any(|kind| is(kind.as_str().expect("a type"))), "{at}: {value} is no {rule}");
            }
            "minimum" => assert!(value.as_f64().is_none_or(|number| number >= rule.as_f64().expect("a bound")), "{at}"),
            "maximum" => assert!(value.as_f64().is_none_or(|number| number <= rule.as_f64().expect("a bound")), "{at}"),
            "items" => {
                for (number, item) in value.as_array().into_iter().flatten().enumerate() {
                    check(rule, root, item, &format!("{at}[{number}]"));
                }
            }
            "required" => {
                for name in rule.as_array().expect("names") {
                    assert!(value.get(name.as_str().expect("a name")).is_some(), "{at}: {name} is missing in {value}");
                }
            }
            "properties" => {
                for (name, item) in value.as_object().into_iter().flatten() {
                    match rule.get(name) {
                        Some(rule) => check(rule, root, item, &format!("{at}.{name}")),
                        None => panic!("{at}: {name} is not documented"),
                    }
                }
            }
            "additionalProperties" => assert_eq!(rule, false, "{at}"),
            "enum" => assert!(rule.as_array().expect("values").contains(value), "{at}: {value}"),
            "const" => assert_eq!(rule, value, "{at}"),
            "anyOf" | "oneOf" => {
                let fits = |rule: &serde_json::Value| std::panic::catch_unwind(|| check(rule, root, value, at)).is_ok();
                assert!(rule.as_array().expect("alternatives").iter().any(fits), "{at}: {value} fits none of {rule}");
            }
            other => panic!("{at}: keyword {other} is not checked by this test"),
        }
    }
}

fn assert_fits(name: &str, stdout: &[u8]) -> serde_json::Value {
    let value = serde_json::from_slice(stdout).unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(stdout)));
    let schema = schema(name);
    check(&schema, &schema, &value, name);
    value
}

#[tokio::test(flavor = "multi_thread")]
async fn every_json_output_fits_its_schema() {
    let orchestrator = Daemon::orchestrator().await;
    let ticket = orchestrator.text("ticket");
    let node = Daemon::deterministic_node(&ticket, 1).await;
    let gateway = Daemon::gateway(&ticket).await;
    for daemon in [&orchestrator, &node, &gateway] {
        let status = assert_fits("status", &daemon.home.run(&["status", "--json"]).stdout);
        assert_eq!(status["running"], true);
    }
    let status = assert_fits("status", &orchestrator.home.run(&["status", "--json"]).stdout);
    assert_eq!(status["ticket"], ticket.as_str());
    assert_eq!(status["nodes"][0]["id"], node.text("node_id").as_str());
    let status = assert_fits("status", &node.home.run(&["status", "--json"]).stdout);
    assert_eq!((&status["active_tasks"], &status["held_back_by"]), (&0.into(), &serde_json::json!([])));

    let answer = gateway.home.run(&["run", "hello", "--max-tokens", "3", "--json"]);
    let answer = assert_fits("run", &answer.stdout);
    assert_eq!((&answer["completion_tokens"], &answer["finish_reason"]), (&3.into(), &"length".into()));
    let home = &orchestrator.home;
    let fits = |name: &str, arguments: &[&str]| assert_fits(name, &home.run(&[arguments, &["--json"]].concat()).stdout);
    let shown = fits("pool-show", &["pool", "show"]);
    assert_eq!((&shown["own_standing"], &shown["shared_ticket"]), (&"owner".into(), &true.into()));
    assert_eq!(fits("pool-policy", &["pool", "policy"]), shown["policy"]);
    fits("pool-members", &["pool", "members"]);
    let invite = fits("pool-invite", &["pool", "invite", "--uses", "3", "--for", "2d"]);
    assert_eq!(fits("pool-invites", &["pool", "invites"]).as_array().map(Vec::len), Some(2));
    let ended = fits("pool-change", &["pool", "revoke", invite["id"].as_str().expect("an id")]);
    assert_eq!(ended["changes"], 1);
    assert_eq!(fits("pool-measurements", &["pool", "measurement", "ls"]), serde_json::json!([]));
    let balance = fits("credits-balance", &["credits", "balance"]);
    assert_eq!(balance["accounts"][0]["of"], "account");
    fits("credits-history", &["credits", "history"]);
    fits("credits-statement", &["credits", "statement"]);
    assert_fits("models-ls", &gateway.home.run(&["models", "ls", "--json"]).stdout);
    let doctor = assert_fits("doctor", &node.home.run(&["doctor", "--json"]).stdout);
    let sandbox = doctor["checks"].as_array().expect("checks").iter().find(|check| check["name"] == "sandbox");
    assert_eq!(sandbox.expect("a sandbox check")["verdict"], "ok", "{doctor:#}");
    assert!(doctor["sandbox"]["denials"].as_array().is_some_and(|denials| denials.len() >= 7), "{doctor:#}");
}

#[test]
fn nothing_running_is_said_with_the_remedy() {
    let home = Home::new();
    let output = home.run(&["status"]);
    assert_eq!(output.status.code(), Some(1));
    let message = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(message.contains("nothing runs in") && message.contains("hint: ") && message.contains("darkbloom up"));
    assert_eq!(assert_fits("status", &home.run(&["status", "--json"]).stdout)["running"], false);

    let output = home.run(&["run", "hello"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("belongs to no pool yet"));
}

#[test]
fn a_bad_command_line_is_told_from_a_failure() {
    let home = Home::new();
    for arguments in [&["join", "dbt1-nonsense"][..], &["up", "--slots", "0"], &["frobnicate"], &[]] {
        let output = home.run(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(output.stdout.is_empty());
    }
    let output = home.run(&["up", "--port=0", "--model", "no-such-model"]);
    assert_eq!(output.status.code(), Some(1));
    let message = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(message.contains("no model `no-such-model`") && message.contains("darkbloom models ls"), "{message}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_beyond_loopback_needs_a_key() {
    let orchestrator = Daemon::orchestrator().await;
    let home = Home::new();
    let output = home.run(&["serve", "--join", &orchestrator.text("ticket"), "--bind", "0.0.0.0:0"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("API key"));
}

#[tokio::test(flavor = "multi_thread")]
async fn several_pools_live_side_by_side() {
    let (one, two) = (Daemon::orchestrator().await, Daemon::orchestrator().await);
    assert_ne!(one.text("pool"), two.text("pool"));
    let node = Daemon::deterministic_node(&one.text("ticket"), 1).await;
    assert_eq!(one.status()["nodes"][0]["id"], node.text("node_id").as_str());
    assert_eq!(two.status()["nodes"], serde_json::json!([]));
}
