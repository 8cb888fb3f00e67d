//! Wayland's `ext-idle-notify-v1`: the compositor says when nobody has been there for a while, and when somebody is back.
//!
//! Three requests and two events need no library. A message on Wayland's wire is the object's id, then length and opcode in
//! one word, then arguments of whole words, all in the byte order of the machine (The Wayland Protocol, chapter 4, "Wire
//! Format"). Opcodes are positions in `wayland.xml` and `ext-idle-notify-v1.xml`.

use super::{Known, Slot};
use crate::readings::Missing;
use protocol::time::unix_ms;
use std::{
    env,
    io::{self, Read, Write},
    os::unix::net::UnixStream,
    path::PathBuf,
    time::{Duration, SystemTime},
};

/// The compositor counts somebody as gone after this long.
const IDLE_AFTER_MS: u32 = 1_000;
/// Longest wait for the list of what the compositor offers.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(2);

const DISPLAY: u32 = 1;
const REGISTRY: u32 = 2;
const LISTED: u32 = 3;
const SEAT: u32 = 4;
const NOTIFIER: u32 = 5;
const NOTIFICATION: u32 = 6;

pub(super) fn watch(slot: &Slot) -> Result<(), Missing> {
    let stream = UnixStream::connect(socket()?).map_err(|error| Missing(error.to_string()))?;
    follow(slot, stream)
}

/// Where the compositor listens: `WAYLAND_DISPLAY`, a path or a name in `XDG_RUNTIME_DIR`.
fn socket() -> Result<PathBuf, Missing> {
    let not_set = |name: &str| Missing(format!("`{name}` is not set"));
    let display = PathBuf::from(env::var_os("WAYLAND_DISPLAY").ok_or_else(|| not_set("WAYLAND_DISPLAY"))?);
    if display.is_absolute() {
        return Ok(display);
    }
    let folder = env::var_os("XDG_RUNTIME_DIR").ok_or_else(|| not_set("XDG_RUNTIME_DIR"))?;
    Ok(PathBuf::from(folder).join(display))
}

/// Asks for notifications and puts them into the slot until the connection ends.
fn follow(slot: &Slot, mut stream: UnixStream) -> Result<(), Missing> {
    let fail = |error: io::Error| Missing(error.to_string());
    stream.set_read_timeout(Some(ANSWER_TIME_MAX)).map_err(fail)?;
    // `wl_display.get_registry`, and `wl_display.sync` for a mark behind the list.
    request(&mut stream, DISPLAY, 1, &[Argument::Word(REGISTRY)]).map_err(fail)?;
    request(&mut stream, DISPLAY, 0, &[Argument::Word(LISTED)]).map_err(fail)?;
    let (mut seat, mut notifier) = (None, None);
    loop {
        let event = Event::read(&mut stream).map_err(fail)?;
        match (event.object, event.opcode) {
            // `wl_registry.global`: name, interface, version.
            (REGISTRY, 0) => match event.text(1) {
                Some(b"wl_seat") => seat = seat.or(event.word(0)),
                Some(b"ext_idle_notifier_v1") => notifier = notifier.or(event.word(0)),
                _ => {}
            },
            (LISTED, _) => break,
            (DISPLAY, 0) => return Err(Missing("the compositor refuses".to_owned())),
            _ => {}
        }
    }
    let seat = seat.ok_or_else(|| Missing("the compositor has no seat".to_owned()))?;
    let notifier = notifier.ok_or_else(|| Missing("the compositor has no ext-idle-notify".to_owned()))?;
    // `wl_registry.bind`: name, interface, version, new id.
    let bind =
        |name, interface, id| [Argument::Word(name), Argument::Text(interface), Argument::Word(1), Argument::Word(id)];
    request(&mut stream, REGISTRY, 0, &bind(seat, "wl_seat", SEAT)).map_err(fail)?;
    request(&mut stream, REGISTRY, 0, &bind(notifier, "ext_idle_notifier_v1", NOTIFIER)).map_err(fail)?;
    // `ext_idle_notifier_v1.get_idle_notification` respects inhibitors: whoever watches a film is there.
    let asked = [NOTIFICATION, IDLE_AFTER_MS, SEAT].map(Argument::Word);
    request(&mut stream, NOTIFIER, 1, &asked).map_err(fail)?;
    // Somebody counts as there until the compositor says otherwise.
    slot.set(Known::Active);
    while slot.is_read() {
        let event = match Event::read(&mut stream) {
            Ok(event) => event,
            // Nothing has changed.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
            Err(error) => return Err(fail(error)),
        };
        match (event.object, event.opcode) {
            (NOTIFICATION, 0) => {
                let now_unix_ms = unix_ms(SystemTime::now());
                slot.set(Known::Since(now_unix_ms.saturating_sub(u64::from(IDLE_AFTER_MS))));
            }
            (NOTIFICATION, 1) => slot.set(Known::Active),
            (DISPLAY, 0) => return Err(Missing("the compositor refuses".to_owned())),
            _ => {}
        }
    }
    Ok(())
}

enum Argument {
    Word(u32),
    Text(&'static str),
}

fn request(stream: &mut UnixStream, object: u32, opcode: u16, arguments: &[Argument]) -> io::Result<()> {
    let mut body = Vec::new();
    for argument in arguments {
        match argument {
            Argument::Word(word) => body.extend(word.to_ne_bytes()),
            Argument::Text(text) => {
                // With its final zero, and filled up to a whole word.
                let bytes = u32::try_from(text.len() + 1).expect("names of interfaces are short");
                body.extend(bytes.to_ne_bytes());
                body.extend(text.as_bytes());
                body.resize((body.len() + 1).next_multiple_of(4), 0);
            }
        }
    }
    let bytes = u16::try_from(body.len() + 8).expect("requests are short");
    let head = u32::from(bytes) << 16 | u32::from(opcode);
    let message = [&object.to_ne_bytes()[..], &head.to_ne_bytes(), &body].concat();
    stream.write_all(&message)
}

/// An event: at most 64 KiB, as its length has 16 bits.
struct Event {
    object: u32,
    opcode: u16,
    body: Vec<u8>,
}

impl Event {
    /// The next one; `WouldBlock` where there is none yet.
    fn read(stream: &mut UnixStream) -> io::Result<Self> {
        let mut head = [0; 8];
        // A time-out in the middle of a message would lose its beginning: wait for the first byte only.
        let first = stream.read(&mut head)?;
        if first == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let broken = |error: io::Error| io::Error::other(format!("the compositor stopped in a message: {error}"));
        stream.read_exact(&mut head[first..]).map_err(broken)?;
        let word = |at: usize| u32::from_ne_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
        let (object, second) = (word(0), word(4));
        let length = (second >> 16) as usize;
        let rest = length.checked_sub(8).ok_or_else(|| io::Error::other("the compositor sent a short message"))?;
        let mut body = vec![0; rest];
        stream.read_exact(&mut body).map_err(broken)?;
        Ok(Self { object, opcode: (second & 0xffff) as u16, body })
    }

    /// The argument that begins at this word.
    fn word(&self, at: usize) -> Option<u32> {
        let bytes = self.body.get(4 * at..4 * at + 4)?;
        Some(u32::from_ne_bytes(bytes.try_into().ok()?))
    }

    /// The text that begins at this word, without its final zero.
    fn text(&self, at: usize) -> Option<&[u8]> {
        let length = usize::try_from(self.word(at)?).ok()?.checked_sub(1)?;
        self.body.get(4 * at + 4..)?.get(..length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        sync::{Arc, Mutex},
        thread,
        time::Instant,
    };

    fn slot() -> Slot {
        Slot(Arc::new(Mutex::new((Known::Nothing, Instant::now()))))
    }

    fn global(stream: &mut UnixStream, name: u32, interface: &'static str) {
        let arguments = [Argument::Word(name), Argument::Text(interface), Argument::Word(1)];
        request(stream, REGISTRY, 0, &arguments).unwrap();
    }

    fn until(slot: &Slot, condition: impl Fn(&Known) -> bool) {
        let start = Instant::now();
        while !condition(&slot.get().0) {
            assert!(start.elapsed() < Duration::from_secs(20), "{:?}", slot.get());
            thread::yield_now();
        }
    }

    #[test]
    fn a_compositor_tells_of_absence_and_return() {
        let (ours, mut compositor) = UnixStream::pair().unwrap();
        let slot = slot();
        let own = slot.clone();
        let following = thread::spawn(move || follow(&own, ours));
        let asked = Event::read(&mut compositor).unwrap();
        assert_eq!((asked.object, asked.opcode, asked.word(0)), (DISPLAY, 1, Some(REGISTRY)));
        Event::read(&mut compositor).unwrap();
        global(&mut compositor, 7, "wl_compositor");
        global(&mut compositor, 8, "wl_seat");
        global(&mut compositor, 9, "ext_idle_notifier_v1");
        request(&mut compositor, LISTED, 0, &[Argument::Word(0)]).unwrap();
        let bound = Event::read(&mut compositor).unwrap();
        assert_eq!((bound.word(0), bound.text(1)), (Some(8), Some(&b"wl_seat"[..])));
        let bound = Event::read(&mut compositor).unwrap();
        assert_eq!((bound.word(0), bound.text(1)), (Some(9), Some(&b"ext_idle_notifier_v1"[..])));
        let asked = Event::read(&mut compositor).unwrap();
        assert_eq!((asked.object, asked.opcode), (NOTIFIER, 1));
        assert_eq!([0, 1, 2].map(|at| asked.word(at)), [NOTIFICATION, IDLE_AFTER_MS, SEAT].map(Some));
        until(&slot, |known| matches!(known, Known::Active));
        request(&mut compositor, NOTIFICATION, 0, &[]).unwrap();
        until(&slot, |known| matches!(known, Known::Since(at) if *at > 0));
        request(&mut compositor, NOTIFICATION, 1, &[]).unwrap();
        until(&slot, |known| matches!(known, Known::Active));
        drop(compositor);
        assert!(following.join().unwrap().is_err(), "its end is no absence");
    }

    #[test]
    fn nonsense_is_an_error() {
        for bytes in [&[0_u8; 8][..], &[255; 8], &[1, 0, 0]] {
            let (ours, mut compositor) = UnixStream::pair().unwrap();
            compositor.write_all(bytes).unwrap();
            drop(compositor);
            assert!(follow(&slot(), ours).is_err());
        }
        let (ours, mut compositor) = UnixStream::pair().unwrap();
        request(&mut compositor, LISTED, 0, &[]).unwrap();
        assert!(follow(&slot(), ours).unwrap_err().0.contains("no seat"));
    }
}
