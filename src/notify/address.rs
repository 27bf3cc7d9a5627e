//! Which addresses a webhook may reach. A URL that an admin enters must not become a way into the networks that the gateway
//! can reach and the admin cannot: so only addresses of the public Internet, unless the operator says otherwise.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Whether this address is one of the public Internet: global unicast, by the registries of special-purpose addresses
/// (RFC 6890 and IANA's lists). An IPv6 address that carries an IPv4 one is as public as that.
pub(super) fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    let special = match (a, b, c) {
        (0 | 10 | 127, ..) => true,
        (100, 64..=127, _) => true,             // shared address space (RFC 6598)
        (169, 254, _) => true,                  // link local, where clouds keep their metadata
        (172, 16..=31, _) => true,              // private (RFC 1918)
        (192, 0, 0 | 2) => true,                // protocol assignments, documentation
        (192, 88, 99) => true,                  // 6to4 relays, deprecated
        (192, 168, _) => true,                  // private
        (198, 18 | 19, _) => true,              // benchmarks (RFC 2544)
        (198, 51, 100) | (203, 0, 113) => true, // documentation
        (224.., ..) => true,                    // multicast, reserved, broadcast
        _ => false,
    };
    !special
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    let [a, b, c, d, e, f, g, h] = address.segments();
    let carried = |high: u16, low: u16| {
        let ([w, x], [y, z]) = (high.to_be_bytes(), low.to_be_bytes());
        is_public_v4(Ipv4Addr::new(w, x, y, z))
    };
    match (a, b) {
        (0, 0) if (c, d, e, f) == (0, 0, 0, 0xffff) => carried(g, h), // IPv4-mapped
        (0x64, 0xff9b) if (c, d, e, f) == (0, 0, 0, 0) => carried(g, h), // NAT64 (RFC 6052)
        (0x2002, _) => carried(b, c),                                 // 6to4 (RFC 3056)
        (0x2001, 0..=0x1ff) => false,                                 // Teredo, ORCHID and other assignments
        (0x2001, 0xdb8) => false,                                     // documentation
        (0x3fff, 0..=0xfff) => false,                                 // documentation (RFC 9637)
        // Of all of IPv6 only 2000::/3 is given out as global unicast.
        _ => a & 0xe000 == 0x2000,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn only_addresses_of_the_public_internet_are_public() {
        for (text, public) in [
            ("8.8.8.8", true),
            ("198.51.99.1", true),
            ("172.32.0.1", true),
            ("100.128.0.1", true),
            ("0.0.0.0", false),
            ("10.1.2.3", false),
            ("100.64.0.1", false),
            ("127.0.0.1", false),
            ("127.255.255.254", false),
            ("169.254.169.254", false),
            ("172.16.0.1", false),
            ("172.31.255.255", false),
            ("192.0.0.8", false),
            ("192.0.2.1", false),
            ("192.168.1.1", false),
            ("198.18.0.1", false),
            ("203.0.113.9", false),
            ("224.0.0.1", false),
            ("240.0.0.1", false),
            ("255.255.255.255", false),
            ("2606:4700::1111", true),
            ("2a00:1450:4001::1", true),
            ("::", false),
            ("::1", false),
            ("::ffff:127.0.0.1", false),
            ("::ffff:10.0.0.1", false),
            ("::ffff:8.8.8.8", true),
            ("::127.0.0.1", false),
            ("64:ff9b::a9fe:a9fe", false),
            ("64:ff9b::808:808", true),
            ("64:ff9b:1::1", false),
            ("100::1", false),
            ("2001::1", false),
            ("2001:db8::1", false),
            ("2002:7f00:1::1", false),
            ("2002:c0a8:101::1", false),
            ("3fff::1", false),
            ("fc00::1", false),
            ("fd12:3456::1", false),
            ("fe80::1", false),
            ("fec0::1", false),
            ("ff02::1", false),
        ] {
            assert_eq!(is_public(text.parse().unwrap()), public, "{text}");
        }
    }
}
