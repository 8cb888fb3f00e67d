//! `darkbloom doctor`: checks this machine and names the remedy for what is wrong.

use super::daemon;
use crate::{
    cli::OutputArguments,
    control,
    failure::Failure,
    home::{Home, KeyRole},
    report::{Check, Doctor, Status, Verdict},
};
use indicatif::HumanBytes;
use owner::Purpose;
use std::{
    process::{ExitCode, Stdio},
    time::Duration,
};
use swarm::{catalogue::Catalogue, store::Store};
use tokio::process::Command;

const PROBE_TIME_MAX: Duration = Duration::from_secs(20);
/// The default model, its copy while it is verified, and a registry.
const DISK_BYTES_MIN: u64 = 1 << 30;

pub async fn run(home: &Home, arguments: &OutputArguments) -> Result<ExitCode, Failure> {
    let running = control::ask(home, control::Question::Status).await?;
    let mut checks = vec![home_check(home), disk_check(home), lending_check(home), daemon_check(running.as_ref())];
    let (sandbox_check, sandbox) = sandbox_checks().await;
    checks.push(sandbox_check);
    checks.push(model_check(home).await);
    checks.push(python_check().await);
    checks.push(pool_check(home).await);
    if let Some(status) = &running {
        checks.extend(held_back_checks(status));
    }
    let healthy = checks.iter().all(|check| check.verdict != Verdict::Failed);
    let doctor = Doctor { healthy, checks, sandbox };
    if arguments.json {
        println!("{}", serde_json::to_string_pretty(&doctor).expect("a report is plain data"));
    } else {
        print(&doctor);
    }
    Ok(if healthy { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn print(doctor: &Doctor) {
    for check in &doctor.checks {
        let verdict = match check.verdict {
            Verdict::Ok => "ok     ",
            Verdict::Warning => "warning",
            Verdict::Failed => "FAILED ",
        };
        println!("{verdict} {}: {}", check.name, check.found);
        if let Some(remedy) = &check.remedy {
            println!("        hint: {remedy}");
        }
    }
    let sandbox = doctor.sandbox.as_ref();
    for layer in list(sandbox, "layers") {
        println!("        layer {}: {} {}", word(layer, "name"), word(layer, "state"), word(layer, "detail"));
    }
    for denial in list(sandbox, "denials") {
        let denied = denial.get("denied").and_then(serde_json::Value::as_bool) == Some(true);
        println!(
            "        {} {} ({})",
            if denied { "denied " } else { "ALLOWED" },
            word(denial, "action"),
            word(denial, "by")
        );
    }
}

fn list<'a>(value: Option<&'a serde_json::Value>, name: &str) -> &'a [serde_json::Value] {
    value.and_then(|value| value.get(name)).and_then(serde_json::Value::as_array).map_or(&[], Vec::as_slice)
}

fn word<'a>(value: &'a serde_json::Value, name: &str) -> &'a str {
    value.get(name).and_then(serde_json::Value::as_str).unwrap_or_default()
}

fn check(name: &str, verdict: Verdict, found: impl Into<String>) -> Check {
    Check { name: name.to_owned(), verdict, found: found.into(), remedy: None }
}

fn hinted(name: &str, verdict: Verdict, found: impl Into<String>, remedy: impl Into<String>) -> Check {
    Check { remedy: Some(remedy.into()), ..check(name, verdict, found) }
}

fn home_check(home: &Home) -> Check {
    check("home", Verdict::Ok, format!("{}, for its owner only", home.path().display()))
}

fn disk_check(home: &Home) -> Check {
    match nix::sys::statvfs::statvfs(home.path()) {
        Ok(disk) => {
            let free = wide(disk.blocks_available()).saturating_mul(wide(disk.fragment_size()));
            let found = format!("{} free", HumanBytes(free));
            if free >= DISK_BYTES_MIN {
                check("disk", Verdict::Ok, found)
            } else {
                hinted("disk", Verdict::Warning, found, "make room, or choose another disk with `--home DIR`")
            }
        }
        Err(error) => check("disk", Verdict::Warning, format!("cannot be read: {error}")),
    }
}

fn lending_check(home: &Home) -> Check {
    let path = home.config();
    match home.lend_settings(Purpose::Join) {
        Ok(_) if path.exists() => check("lending", Verdict::Ok, format!("as {} says", path.display())),
        Ok(_) => check("lending", Verdict::Ok, format!("with the defaults; {} can change them", path.display())),
        Err(error) => {
            hinted("lending", Verdict::Failed, error.to_string(), "docs/LENDING.md has every field with its values")
        }
    }
}

/// Counts of blocks have another width on each platform.
fn wide(count: impl Into<u64>) -> u64 {
    count.into()
}

fn daemon_check(running: Option<&Status>) -> Check {
    match running {
        Some(status) => check("daemon", Verdict::Ok, format!("running: {}", status.roles.join(", "))),
        None => hinted("daemon", Verdict::Warning, "nothing runs in this home", "start a pool with `darkbloom up`"),
    }
}

/// Runs the worker's own probe: it enters the real sandbox and tries what must fail.
async fn sandbox_checks() -> (Check, Option<serde_json::Value>) {
    const NAME: &str = "sandbox";
    let program = match daemon::worker_program(None) {
        Ok(program) => program,
        Err(_) => {
            let remedy = "`cargo build --release` builds both programs; keep them in one directory";
            return (hinted(NAME, Verdict::Failed, "the worker's program is missing", remedy), None);
        }
    };
    let probe = Command::new(program).arg("probe").stdin(Stdio::null()).kill_on_drop(true).output();
    let output = match tokio::time::timeout(PROBE_TIME_MAX, probe).await {
        Ok(Ok(output)) => output,
        Ok(Err(error)) => return (check(NAME, Verdict::Failed, format!("the probe did not start: {error}")), None),
        Err(_) => return (check(NAME, Verdict::Failed, "the probe did not end"), None),
    };
    let report: Option<serde_json::Value> = serde_json::from_slice(&output.stdout).ok();
    let found = match (output.status.success(), &report) {
        (true, Some(_)) => return (check(NAME, Verdict::Ok, "every denial was tried and holds"), report),
        (_, None) => String::from_utf8_lossy(&output.stderr).lines().next().unwrap_or("no report").to_owned(),
        (false, Some(_)) => "something that must be denied is allowed".to_owned(),
    };
    let remedy =
        "the worker does not start without its sandbox: it needs Linux 5.13 or later with Landlock and seccomp";
    (hinted(NAME, Verdict::Failed, found, remedy), report)
}

async fn model_check(home: &Home) -> Check {
    const NAME: &str = "default model";
    let remedy = "fetch it with `darkbloom models pull`; `darkbloom up` does too";
    let models = home.models();
    let look = tokio::task::spawn_blocking(move || {
        let store = Store::open(models)?;
        let mut damaged = None;
        for stored in store.list()? {
            match store.open_verified(stored.digest) {
                Ok(file) => return Ok(Some(file.bytes)),
                Err(error) => damaged = Some(error),
            }
        }
        damaged.map_or(Ok(None), Err)
    });
    match look.await {
        Ok(Ok(Some(bytes))) => check(NAME, Verdict::Ok, format!("a verified model is here ({})", HumanBytes(bytes))),
        Ok(Ok(None)) => {
            let needed = Catalogue::built_in().resolve("default").first().map_or(0, |entry| entry.size.bytes());
            hinted(NAME, Verdict::Warning, format!("not here yet ({} to fetch)", HumanBytes(needed)), remedy)
        }
        Ok(Err(error)) => hinted(NAME, Verdict::Failed, error.to_string(), remedy),
        Err(error) => check(NAME, Verdict::Failed, error.to_string()),
    }
}

async fn python_check() -> Check {
    let pip = Command::new("python3").args(["-m", "pip", "--version"]).stdin(Stdio::null()).output();
    match pip.await {
        Ok(output) if output.status.success() => {
            let version = String::from_utf8_lossy(&output.stdout);
            check("pip", Verdict::Ok, version.split(" from ").next().unwrap_or_default().trim().to_owned())
        }
        _ => hinted(
            "pip",
            Verdict::Warning,
            "not found: one of the default model's two origins needs it",
            "install it (Debian: `apt-get install python3-pip`), or rely on the model hub",
        ),
    }
}

async fn pool_check(home: &Home) -> Check {
    const NAME: &str = "pool";
    let Ok(ticket) = home.ticket() else {
        return hinted(
            NAME,
            Verdict::Warning,
            "this home belongs to no pool yet",
            "`darkbloom up` or `darkbloom join TICKET`",
        );
    };
    let pool = ticket.pool.short();
    let asked = async {
        let client = daemon::start_client(home, KeyRole::Asker, ticket).await.map_err(|failure| failure.to_string())?;
        let models = client.models().await.map_err(|error| error.to_string());
        client.close().await;
        models
    };
    match asked.await {
        Ok(models) => {
            let ready: u32 = models.iter().map(|model| model.ready_nodes).sum();
            let found = format!("{pool} answers; {} models, {ready} ready nodes", models.len());
            if ready > 0 {
                check(NAME, Verdict::Ok, found)
            } else {
                hinted(NAME, Verdict::Warning, found, "lend a machine with `darkbloom join`")
            }
        }
        Err(error) => hinted(
            NAME,
            Verdict::Warning,
            format!("{pool}: {error}"),
            "is its machine up? start it there with `darkbloom up`",
        ),
    }
}

fn held_back_checks(status: &Status) -> Vec<Check> {
    let held = |reason: &crate::report::Reason| Check {
        remedy: reason.remedy.clone(),
        ..check("node", Verdict::Warning, format!("takes no work: {}", reason.message))
    };
    status.held_back_by.iter().flatten().map(held).collect()
}
