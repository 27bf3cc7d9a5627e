//! The PROXY header of version 2 that goes before everything else to servers that want one. Pure: addresses in, bytes out.
//!
//! Source: HAProxy, "The PROXY protocol" (2020/03/05), section 2.2. What reads such headers is `serve`'s own.

use std::net::{IpAddr, SocketAddr};

const START: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
/// Version 2, PROXY.
const PROXY: u8 = 0x21;
/// Version 2, LOCAL: the connection is our own, with nobody behind it.
const LOCAL: u8 = 0x20;
const TCP_4: u8 = 0x11;
const TCP_6: u8 = 0x21;

/// The two ends of a peer's connection to this gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ends {
    /// The peer, wherever it really is.
    pub peer: SocketAddr,
    /// The address of ours that it connected to.
    pub ours: SocketAddr,
}

/// The header that names these ends; without them, that of a connection of our own.
pub fn proxy_header(ends: Option<Ends>) -> Vec<u8> {
    let mut header = START.to_vec();
    let Some(Ends { peer, ours }) = ends else {
        header.extend([LOCAL, 0, 0, 0]);
        return header;
    };
    match (peer.ip().to_canonical(), ours.ip().to_canonical()) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            header.extend([PROXY, TCP_4, 0, 12]);
            header.extend(from.octets());
            header.extend(to.octets());
        }
        // One family for both: of two kinds, the IPv4 address is written as IPv6 has it (RFC 4291 section 2.5.5.2).
        (from, to) => {
            header.extend([PROXY, TCP_6, 0, 36]);
            header.extend(wide(from));
            header.extend(wide(to));
        }
    }
    header.extend(peer.port().to_be_bytes());
    header.extend(ours.port().to_be_bytes());
    header
}

fn wide(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(ip) => ip.to_ipv6_mapped().octets(),
        IpAddr::V6(ip) => ip.octets(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn header(peer: &str, ours: &str) -> Vec<u8> {
        proxy_header(Some(Ends { peer: peer.parse().unwrap(), ours: ours.parse().unwrap() }))
    }

    #[test]
    fn the_bytes_are_those_of_the_specification() {
        let start = b"\r\n\r\n\0\r\nQUIT\n".as_slice();
        let four = [start, b"\x21\x11\0\x0c\xc0\0\x02\x01\xc0\0\x02\x02\xdc\x04\x03\xe1"].concat();
        assert_eq!(header("192.0.2.1:56324", "192.0.2.2:993"), four);
        assert_eq!(header("[::ffff:192.0.2.1]:56324", "[::ffff:192.0.2.2]:993"), four, "IPv4 in IPv6 clothes");
        let six = b"\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x01".as_slice();
        let mapped = b"\0\0\0\0\0\0\0\0\0\0\xff\xff\xc0\0\x02\x01".as_slice();
        let ports = b"\0\x07\x03\xe1".as_slice();
        let head = [start, b"\x21\x21\0\x24"].concat();
        assert_eq!(header("[2001:db8::1]:7", "[2001:db8::1]:993"), [&head, six, six, ports].concat());
        assert_eq!(header("192.0.2.1:7", "[2001:db8::1]:993"), [&head, mapped, six, ports].concat());
        assert_eq!(header("[2001:db8::1]:7", "192.0.2.1:993"), [&head, six, mapped, ports].concat());
        assert_eq!(proxy_header(None), [start, b"\x20\0\0\0"].concat());
    }
}
