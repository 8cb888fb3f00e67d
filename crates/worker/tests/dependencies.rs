//! The worker links no networking code: what is not there cannot be reached by a hostile model or prompt.

#![allow(clippy::unwrap_used, reason = "clippy's exemption covers test functions, not what they call")]

use std::{collections::BTreeSet, process::Command};

/// Runtimes, sockets, TLS, HTTP, QUIC, name resolution.
const NETWORKING: &[&str] = &[
    "async-std",
    "axum",
    "curl",
    "h2",
    "h3",
    "hickory-proto",
    "hickory-resolver",
    "hyper",
    "hyper-util",
    "iroh",
    "iroh-blobs",
    "iroh-gossip",
    "iroh-relay",
    "isahc",
    "mio",
    "native-tls",
    "netdev",
    "noq",
    "openssl",
    "openssl-sys",
    "quinn",
    "quinn-proto",
    "quinn-udp",
    "reqwest",
    "rustls",
    "s2n-quic",
    "smol",
    "socket2",
    "tokio",
    "tokio-rustls",
    "tower-http",
    "tungstenite",
    "ureq",
];

/// Names of all packages that a package links or builds with, on every platform.
fn tree(package: &str) -> BTreeSet<String> {
    let output = Command::new(env!("CARGO"))
        .args(["tree", "--package", package, "--edges", "normal,build", "--target", "all", "--prefix", "none"])
        .args(["--format", "{p}", "--locked", "--offline"])
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().filter_map(|line| line.split(' ').next()).filter(|name| !name.is_empty()).map(str::to_owned).collect()
}

fn networking_in(package: &str) -> Vec<String> {
    tree(package).into_iter().filter(|name| NETWORKING.contains(&name.as_str())).collect()
}

#[test]
fn the_worker_links_no_networking_code() {
    assert!(tree("worker").contains("protocol"), "the tree was read");
    assert_eq!(networking_in("worker"), Vec::<String>::new());
}

#[test]
fn the_same_search_finds_it_in_the_gateway() {
    let found = networking_in("gateway");
    for name in ["tokio", "hyper"] {
        assert!(found.iter().any(|package| package == name), "{name} is not in {found:?}");
    }
}
