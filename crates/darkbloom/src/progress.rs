//! Draws what a fetch reports.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::IsTerminal;
use swarm::progress::{Phase, Progress};
use tokio::{sync::watch, task::JoinHandle};

/// Draws on standard error until the reporter is dropped: a bar on a terminal, a line for each phase elsewhere.
pub fn draw(mut watch: watch::Receiver<Progress>) -> JoinHandle<()> {
    tokio::spawn(async move {
        let terminal = std::io::stderr().is_terminal();
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
        let mut shown = (Phase::Starting, String::new());
        let mut passed_over = 0;
        loop {
            let now = watch.borrow_and_update().clone();
            for reason in now.passed_over.iter().skip(passed_over) {
                bar.suspend(|| eprintln!("passed over {reason}"));
            }
            passed_over = now.passed_over.len();
            let here = (now.phase, now.origin.clone().unwrap_or_default());
            if here != shown {
                begin_phase(&bar, &now, terminal);
                shown = here;
            }
            bar.set_position(now.bytes_done);
            if watch.changed().await.is_err() {
                break;
            }
        }
        bar.finish_and_clear();
    })
}

fn begin_phase(bar: &ProgressBar, now: &Progress, terminal: bool) {
    // Checking a file of 100 MB takes no time worth a line.
    let worth_a_line = matches!(now.phase, Phase::Downloading | Phase::Unpacking | Phase::Waiting);
    if worth_a_line && !terminal {
        let from = now.origin.as_ref().map_or_else(String::new, |origin| format!(" from {origin}"));
        eprintln!("{} {}{from}", now.phase.name(), now.model);
    }
    let template = match now.bytes_total {
        Some(_) => "{msg} {wide_bar} {bytes}/{total_bytes} {bytes_per_sec} {eta}",
        None => "{msg} {spinner} {bytes} {bytes_per_sec}",
    };
    bar.reset();
    if let Some(total) = now.bytes_total {
        bar.set_length(total);
    }
    // What was there before this run is no speed of this run.
    bar.set_position(now.bytes_done);
    bar.reset_eta();
    bar.set_style(ProgressStyle::with_template(template).expect("the templates above are well-formed"));
    bar.set_message(format!("{} {}", now.phase.name(), now.model));
}
