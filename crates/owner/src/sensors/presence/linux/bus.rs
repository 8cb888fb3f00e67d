//! D-Bus: logind's sessions, and GNOME's idle monitor.

use super::{Known, LOOK_EVERY, Slot};
use crate::readings::Missing;
use protocol::time::unix_ms;
use rustbus::{
    MessageBuilder, MessageType, RpcConn, Unmarshal,
    connection::Timeout,
    connection::ll_conn::force_finish_on_error,
    message_builder::MarshalledMessage,
    wire::{ObjectPath, unmarshal::traits::Variant},
};
use std::time::{Duration, SystemTime};

/// Longest wait for an answer of the bus.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(2);
const TIMEOUT: Timeout = Timeout::Duration(ANSWER_TIME_MAX);
const LOGIND: &str = "org.freedesktop.login1";

/// A row of logind's `ListSessions`: only the path matters, and only its place says so.
#[derive(rustbus::Signature, rustbus::Unmarshal)]
struct Session {
    _id: String,
    _user_id: u32,
    _user_name: String,
    _seat: String,
    path: ObjectPath<String>,
}

/// Sends a call and waits for its answer.
fn ask(bus: &mut RpcConn, mut call: MarshalledMessage) -> Result<MarshalledMessage, Missing> {
    let fail = |error: rustbus::connection::Error| Missing(error.to_string());
    let sending = bus.send_message(&mut call).map_err(fail)?;
    let serial = sending.write(TIMEOUT).map_err(force_finish_on_error).map_err(fail)?;
    let answer = bus.wait_response(serial, TIMEOUT).map_err(fail)?;
    match answer.typ {
        MessageType::Reply => Ok(answer),
        _ => Err(Missing(answer.dynheader.error_name.clone().unwrap_or_else(|| "no answer".to_owned()))),
    }
}

fn property(bus: &mut RpcConn, path: &str, interface: &str, name: &str) -> Result<MarshalledMessage, Missing> {
    let call = MessageBuilder::new().call("Get").with_interface("org.freedesktop.DBus.Properties").on(path).at(LOGIND);
    let mut call = call.build();
    call.body.push_param2(interface, name).map_err(|error| Missing(error.to_string()))?;
    ask(bus, call)
}

fn read<'a, T: Unmarshal<'a, 'a>>(answer: &'a MarshalledMessage) -> Result<T, Missing> {
    answer.body.parser().get().map_err(|error| Missing(format!("an answer that cannot be read: {error:?}")))
}

fn value<'a, T: Unmarshal<'a, 'a>>(answer: &'a MarshalledMessage) -> Result<T, Missing> {
    let variant: Variant<'a, 'a> = read(answer)?;
    variant.get().map_err(|error| Missing(format!("a value that cannot be read: {error:?}")))
}

/// logind: each graphical session's idle hint, which its desktop sets. (For terminals logind looks where we look too.)
pub(super) fn sessions(slot: &Slot) -> Result<(), Missing> {
    let mut bus = RpcConn::system_conn(TIMEOUT).map_err(|error| Missing(error.to_string()))?;
    while slot.is_read() {
        let known = look_at_sessions(&mut bus)?;
        slot.set(known);
        slot.pause(LOOK_EVERY);
    }
    Ok(())
}

fn look_at_sessions(bus: &mut RpcConn) -> Result<Known, Missing> {
    let call = MessageBuilder::new().call("ListSessions").with_interface("org.freedesktop.login1.Manager");
    let answer = ask(bus, call.on("/org/freedesktop/login1").at(LOGIND).build())?;
    let sessions: Vec<Session> = read(&answer)?;
    let mut latest = Known::Nobody;
    for session in sessions {
        // One that ends while it is looked at says nothing any more.
        if let Ok(known) = look_at_session(bus, session.path.as_ref()) {
            latest = later(latest, known);
        }
    }
    Ok(latest)
}

fn look_at_session(bus: &mut RpcConn, path: &str) -> Result<Known, Missing> {
    const SESSION: &str = "org.freedesktop.login1.Session";
    let kind = property(bus, path, SESSION, "Type")?;
    let class = property(bus, path, SESSION, "Class")?;
    // Not the login screen, and not terminals.
    if value::<&str>(&class)? != "user" || !["x11", "wayland", "mir"].contains(&value::<&str>(&kind)?) {
        return Ok(Known::Nobody);
    }
    let is_idle: bool = value(&property(bus, path, SESSION, "IdleHint")?)?;
    let since_us: u64 = value(&property(bus, path, SESSION, "IdleSinceHint")?)?;
    Ok(match (is_idle, since_us) {
        // A desktop that has never set the hint says nothing by it.
        (_, 0) => Known::Unreadable,
        (true, since_us) => Known::Since(since_us / 1_000),
        (false, _) => Known::Active,
    })
}

/// Of two sessions the one that says more for somebody's presence.
fn later(one: Known, other: Known) -> Known {
    let rank = |known: &Known| match known {
        Known::Active => (3, 0),
        Known::Since(unix_ms) => (2, *unix_ms),
        Known::Unreadable => (1, 0),
        _ => (0, 0),
    };
    if rank(&other) > rank(&one) { other } else { one }
}

/// GNOME: milliseconds since the last input, from the compositor.
pub(super) fn mutter(slot: &Slot) -> Result<(), Missing> {
    if std::env::var_os("DBUS_SESSION_BUS_ADDRESS").is_none() {
        return Err(Missing("`DBUS_SESSION_BUS_ADDRESS` is not set".to_owned()));
    }
    let mut bus = RpcConn::session_conn(TIMEOUT).map_err(|error| Missing(error.to_string()))?;
    while slot.is_read() {
        let call = MessageBuilder::new().call("GetIdletime").with_interface("org.gnome.Mutter.IdleMonitor");
        let call = call.on("/org/gnome/Mutter/IdleMonitor/Core").at("org.gnome.Mutter.IdleMonitor").build();
        let idle_ms: u64 = read(&ask(&mut bus, call)?)?;
        slot.set(Known::Since(unix_ms(SystemTime::now()).saturating_sub(idle_ms)));
        slot.pause(LOOK_EVERY);
    }
    Ok(())
}
