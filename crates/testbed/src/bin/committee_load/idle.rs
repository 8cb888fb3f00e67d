//! What four orchestrators without anything to do send: every packet of theirs that crosses the loopback interface, with its
//! IP and UDP headers.

use super::{MEMBERS, tell, ticket};
use std::time::Duration;
use testbed::{capture::Capture, committee::Committee};

/// Links are made, and what follows from that is said.
const SETTLE: Duration = Duration::from_secs(15);
const UDP: u8 = 17;

pub(super) async fn measure(length: Duration) {
    let committee = Committee::of(MEMBERS).await;
    let ticket = ticket(&committee);
    tokio::time::sleep(SETTLE).await;
    let before = committee.height(0);
    let capture = match Capture::start() {
        Ok(capture) => capture,
        Err(error) => {
            eprintln!("packets cannot be seen ({error}): it takes root, or CAP_NET_RAW");
            return;
        }
    };
    // Nobody is asked meanwhile: answers would be counted.
    tokio::time::sleep(length).await;
    let packets = capture.stop();
    tell("blocks", committee.height(0) - before);
    for (number, orchestrator) in ticket.orchestrators.iter().enumerate() {
        let ports: Vec<u16> = orchestrator.addresses.iter().map(|address| address.port()).collect();
        let sent = packets
            .iter()
            .filter(|packet| packet.is_outgoing && packet.protocol == UDP && ports.contains(&packet.ports.0));
        let (count, bytes) = sent.fold((0, 0), |(count, bytes), packet| (count + 1, bytes + packet.bytes.len()));
        tell(&format!("member_{number}_bytes_per_s"), bytes as f64 / length.as_secs_f64());
        tell(&format!("member_{number}_packets_per_s"), f64::from(count) / length.as_secs_f64());
    }
}
