//! All bytes on the loopback interface, as a packet socket sees them. Takes root, or CAP_NET_RAW.

use std::{
    io,
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
};

/// One packet: its transport protocol, its ports, and all of its bytes.
#[derive(Debug, Clone)]
pub struct Packet {
    /// 6 is TCP, 17 is UDP.
    pub protocol: u8,
    /// Source and destination.
    pub ports: (u16, u16),
    /// Whether it was seen as it was sent. What one process sends to another is seen again as it arrives.
    pub is_outgoing: bool,
    /// From the IP header on.
    pub bytes: Vec<u8>,
}

/// Captures until it is stopped.
pub struct Capture {
    stop: Arc<AtomicBool>,
    packets: Arc<Mutex<Vec<Packet>>>,
    thread: JoinHandle<()>,
}

impl Capture {
    /// Starts capturing on the loopback interface.
    pub fn start() -> io::Result<Self> {
        let socket = open()?;
        let (stop, packets) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(Vec::new())));
        let (stopping, kept) = (Arc::clone(&stop), Arc::clone(&packets));
        let thread = std::thread::spawn(move || {
            let mut buffer = vec![0u8; 1 << 17];
            while !stopping.load(Ordering::Relaxed) {
                if let Some((read, is_outgoing)) = receive(&socket, &mut buffer)
                    && let Some(packet) = parse(&buffer[..read], is_outgoing)
                {
                    kept.lock().expect("no holder panics").push(packet);
                }
            }
        });
        Ok(Self { stop, packets, thread })
    }

    /// Ends the capture and gives what was seen.
    pub fn stop(self) -> Vec<Packet> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("the capture does not panic");
        std::mem::take(&mut *self.packets.lock().expect("no holder panics"))
    }
}

fn open() -> io::Result<OwnedFd> {
    let all = libc::ETH_P_ALL as u16;
    // SAFETY: plain system calls with constant arguments; the result is checked.
    let fd = unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, i32::from(all.to_be())) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: `fd` was just opened and belongs to nobody else.
    let socket = unsafe { OwnedFd::from_raw_fd(fd) };
    let index = nix::net::if_::if_nametoindex("lo")?;
    // SAFETY: an all-zero address is a valid one; every field that matters is set below.
    let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    address.sll_family = libc::AF_PACKET as u16;
    address.sll_protocol = all.to_be();
    address.sll_ifindex = i32::try_from(index).map_err(io::Error::other)?;
    let length = libc::socklen_t::try_from(size_of::<libc::sockaddr_ll>()).map_err(io::Error::other)?;
    // SAFETY: the address is of the type and length that the family needs.
    if unsafe { libc::bind(fd, (&raw const address).cast(), length) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // Wakes up to look whether it should stop; room for bursts.
    let timeout = libc::timeval { tv_sec: 0, tv_usec: 50_000 };
    let room: libc::c_int = 64 << 20;
    set_option(fd, libc::SO_RCVTIMEO, &timeout)?;
    set_option(fd, libc::SO_RCVBUFFORCE, &room)?;
    Ok(socket)
}

/// The next packet's length, and whether it is being sent; `None` where none came in time.
fn receive(socket: &OwnedFd, buffer: &mut [u8]) -> Option<(usize, bool)> {
    // SAFETY: an all-zero address is a valid one.
    let mut from: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    let mut length = libc::socklen_t::try_from(size_of::<libc::sockaddr_ll>()).ok()?;
    // SAFETY: buffer and address are valid for the lengths that are given with them; the descriptor is open.
    let read = unsafe {
        let into = buffer.as_mut_ptr().cast();
        libc::recvfrom(socket.as_raw_fd(), into, buffer.len(), 0, (&raw mut from).cast(), &raw mut length)
    };
    Some((usize::try_from(read).ok()?, from.sll_pkttype == libc::PACKET_OUTGOING))
}

fn set_option<T>(fd: i32, option: i32, value: &T) -> io::Result<()> {
    let length = libc::socklen_t::try_from(size_of::<T>()).map_err(io::Error::other)?;
    // SAFETY: the pointer and the length describe one value of the type that the option takes.
    let set = unsafe { libc::setsockopt(fd, libc::SOL_SOCKET, option, std::ptr::from_ref(value).cast(), length) };
    if set == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

fn parse(bytes: &[u8], is_outgoing: bool) -> Option<Packet> {
    let (protocol, header) = match bytes.first()? >> 4 {
        4 => (*bytes.get(9)?, usize::from(bytes[0] & 0x0f) * 4),
        6 => (*bytes.get(6)?, 40),
        _ => return None,
    };
    let port = |at: usize| Some(u16::from_be_bytes([*bytes.get(header + at)?, *bytes.get(header + at + 1)?]));
    Some(Packet { protocol, ports: (port(0)?, port(2)?), is_outgoing, bytes: bytes.to_vec() })
}
