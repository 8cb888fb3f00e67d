//! X11's screen saver extension (MIT-SCREEN-SAVER) counts the time since the last input.

use super::{Known, LOOK_EVERY, Slot};
use crate::readings::Missing;
use protocol::time::unix_ms;
use std::{env, time::SystemTime};
use x11rb::{connection::Connection, protocol::screensaver};

pub(super) fn watch(slot: &Slot) -> Result<(), Missing> {
    // Xwayland sees only what goes to its own windows.
    if env::var_os("WAYLAND_DISPLAY").is_some() {
        return Err(Missing("the display is Wayland's".to_owned()));
    }
    if env::var_os("DISPLAY").is_none() {
        return Err(Missing("`DISPLAY` is not set".to_owned()));
    }
    let (connection, screen) = x11rb::connect(None).map_err(|error| Missing(error.to_string()))?;
    let root = connection.setup().roots.get(screen).ok_or_else(|| Missing("no screen".to_owned()))?.root;
    while slot.is_read() {
        let cookie = screensaver::query_info(&connection, root).map_err(|error| Missing(error.to_string()))?;
        let info = cookie.reply().map_err(|error| Missing(error.to_string()))?;
        let now_unix_ms = unix_ms(SystemTime::now());
        slot.set(Known::Since(now_unix_ms.saturating_sub(u64::from(info.ms_since_user_input))));
        slot.pause(LOOK_EVERY);
    }
    Ok(())
}
