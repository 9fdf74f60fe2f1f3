//! The few things that the runtime does to network links: loopback up, a device moved into a namespace.

use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};

use crate::{Errno, Result, check_unit};

const NAME_MAX: usize = libc::IFNAMSIZ - 1;

/// Brings the caller's network namespace's `lo` up.
///
/// # Errors
/// `EPERM`, `ENODEV`.
pub fn loopback_up() -> Result<()> {
    let socket = socket_with(
        AddressFamily::INET,
        SocketType::DGRAM,
        SocketFlags::CLOEXEC,
        None,
    )?;
    let mut request = ifreq("lo")?;
    request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
    // SAFETY: SIOCSIFFLAGS reads one ifreq, which outlives the call.
    check_unit(
        unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw const request) }.into(),
    )
}

/// The index of link `name` in the caller's network namespace.
///
/// # Errors
/// `ENODEV` when there is none of that name.
pub fn index_of(name: &str) -> Result<u32> {
    let socket = socket_with(
        AddressFamily::INET,
        SocketType::DGRAM,
        SocketFlags::CLOEXEC,
        None,
    )?;
    let mut request = ifreq(name)?;
    // SAFETY: SIOCGIFINDEX reads and writes one ifreq.
    let ret = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCGIFINDEX, &raw mut request) };
    check_unit(ret.into())?;
    // SAFETY: after success the kernel stored the index in this member.
    u32::try_from(unsafe { request.ifr_ifru.ifru_ifindex }).map_err(|_| Errno::NODEV)
}

fn ifreq(name: &str) -> Result<libc::ifreq> {
    if name.is_empty() || name.len() > NAME_MAX || name.bytes().any(|b| b == 0) {
        return Err(Errno::INVAL);
    }
    // SAFETY: ifreq is plain data; all zeros is a valid value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = from as libc::c_char;
    }
    Ok(request)
}

/// Moves link `name` of the caller's network namespace into `netns`, under `new_name`.
///
/// # Errors
/// `ENODEV`, `EEXIST` when the name is taken there, `EINVAL` for a link that cannot be moved, `EPERM`.
pub fn move_link(name: &str, netns: BorrowedFd<'_>, new_name: &str) -> Result<()> {
    if new_name.is_empty() || new_name.len() > NAME_MAX {
        return Err(Errno::INVAL);
    }
    let socket = route_socket()?;
    let mut body = Vec::with_capacity(64);
    attribute(
        &mut body,
        libc::IFLA_NET_NS_FD,
        &(netns.as_raw_fd() as u32).to_ne_bytes(),
    );
    let mut text = new_name.as_bytes().to_vec();
    text.push(0);
    attribute(&mut body, libc::IFLA_IFNAME, &text);
    change_link(&socket, index_of(name)?, 0, &body)
}

/// Sets link `index` of the caller's network namespace up.
///
/// # Errors
/// Those of rtnetlink(7).
pub fn link_up(index: u32) -> Result<()> {
    change_link(&route_socket()?, index, libc::IFF_UP as u32, &[])
}

fn route_socket() -> Result<OwnedFd> {
    socket_with(
        AddressFamily::NETLINK,
        SocketType::RAW,
        SocketFlags::CLOEXEC,
        // NETLINK_ROUTE is protocol 0.
        None,
    )
}

fn attribute(to: &mut Vec<u8>, kind: u16, value: &[u8]) {
    to.extend_from_slice(&((value.len() + 4) as u16).to_ne_bytes());
    to.extend_from_slice(&kind.to_ne_bytes());
    to.extend_from_slice(value);
    while !to.len().is_multiple_of(4) {
        to.push(0);
    }
}

/// One `RTM_NEWLINK` for an existing link, and its acknowledgement.
fn change_link(socket: &OwnedFd, index: u32, flags: u32, attributes: &[u8]) -> Result<()> {
    let length = 16 + 16 + attributes.len();
    let mut message = Vec::with_capacity(length);
    message.extend_from_slice(&(length as u32).to_ne_bytes());
    message.extend_from_slice(&libc::RTM_NEWLINK.to_ne_bytes());
    message.extend_from_slice(&((libc::NLM_F_REQUEST | libc::NLM_F_ACK) as u16).to_ne_bytes());
    message.extend_from_slice(&1u32.to_ne_bytes());
    message.extend_from_slice(&0u32.to_ne_bytes());
    // struct ifinfomsg: family, pad, type, index, flags, change
    message.extend_from_slice(&[0; 4]);
    message.extend_from_slice(&index.to_ne_bytes());
    message.extend_from_slice(&flags.to_ne_bytes());
    message.extend_from_slice(&flags.to_ne_bytes());
    message.extend_from_slice(attributes);
    rustix::net::send(socket, &message, rustix::net::SendFlags::empty())?;
    let mut answer = [0u8; 4096];
    let (n, _) = rustix::net::recv(socket, &mut answer[..], rustix::net::RecvFlags::empty())?;
    let word = |at: usize| {
        answer[..n]
            .get(at..at + 4)
            .and_then(|b| b.try_into().ok())
            .map(i32::from_ne_bytes)
    };
    match (answer.get(4..6), word(16)) {
        (Some(kind), Some(0)) if kind == (libc::NLMSG_ERROR as u16).to_ne_bytes() => Ok(()),
        (Some(_), Some(error)) if error < 0 => Err(Errno::from_raw_os_error(-error)),
        _ => Err(Errno::PROTO),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_checked_and_lo_exists() {
        assert_eq!(index_of("lo"), Ok(1));
        assert_eq!(index_of("name-that-is-too-long"), Err(Errno::INVAL));
        assert_eq!(index_of(""), Err(Errno::INVAL));
        assert_eq!(index_of("hull-none"), Err(Errno::NODEV));
    }
}
