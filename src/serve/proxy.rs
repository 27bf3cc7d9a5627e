//! The PROXY protocol header that a trusted load balancer puts before the TLS handshake, versions 1 and 2. Pure: bytes
//! in, addresses out. Called by `serve`'s listeners, for peers in `listen.proxy_protocol_from` only.
//!
//! Source: HAProxy, "The PROXY protocol", versions 1 and 2 (2020/03/05), sections 2.1 and 2.2.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use nom::{
    IResult, Parser,
    bytes::streaming::tag,
    combinator::map,
    number::streaming::{be_u16, be_u32, be_u128},
    sequence::preceded,
};

/// Longest version 1 header, CRLF included, in bytes (section 2.1).
const MAX_V1: usize = 107;

/// Longest version 2 header that we take, in bytes. The length field allows 64 KiB; addresses need 52 (IP) or 232 (UNIX),
/// the rest is TLVs that we skip: a certificate's names, a checksum.
const MAX_V2: usize = 4096;

/// No header is longer than this many bytes: a buffer of this size that is still incomplete never completes.
pub const MAX_HEADER: usize = MAX_V2;

const V1_START: &[u8] = b"PROXY ";
const V2_START: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// What the bytes read so far are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Header {
    /// The beginning of a header: read more, and no more than [`MAX_HEADER`] in all.
    Incomplete,
    /// A whole header.
    Parsed(Parsed),
    /// No header, and no more bytes can make it one: close the connection.
    Invalid(Invalid),
}

/// A whole header: who is behind the load balancer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parsed {
    /// The client and the address it connected to. `None`: the connection is the load balancer's own (a health check),
    /// or the address is of a kind that means nothing here; the TCP addresses hold.
    pub addresses: Option<Addresses>,
    /// Length of the header in bytes; what follows belongs to the client.
    pub consumed: usize,
}

/// The two ends of the client's connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Addresses {
    /// The client.
    pub source: SocketAddr,
    /// The address the client connected to.
    pub destination: SocketAddr,
}

/// Why the bytes are no header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Invalid {
    /// Neither version's signature.
    #[error("no PROXY header")]
    Signature,
    /// Version 1: not the text it has to be, or no CRLF within its 107 bytes.
    #[error("malformed PROXY version 1 header")]
    V1,
    /// Version 2: a version, command, family or protocol that does not exist, or no TCP.
    #[error("PROXY version 2 header of unknown kind {kind:#06x}")]
    V2Kind {
        /// Bytes 13 and 14 of the header.
        kind: u16,
    },
    /// Version 2: the announced length does not hold the addresses, or passes our bound.
    #[error("PROXY version 2 header with a length of {length} bytes")]
    V2Length {
        /// The announced length.
        length: u16,
    },
}

/// Reads a header from the first bytes of a connection.
pub fn parse(bytes: &[u8]) -> Header {
    if begins(bytes, V2_START) {
        return v2(bytes);
    }
    if begins(bytes, V1_START) {
        return v1(bytes);
    }
    Header::Invalid(Invalid::Signature)
}

/// Whether `bytes` may still become, or are, something that starts with `start`.
fn begins(bytes: &[u8], start: &[u8]) -> bool {
    bytes.iter().zip(start).all(|(a, b)| a == b)
}

/// `PROXY TCP4 192.0.2.1 192.0.2.2 56324 993\r\n`
fn v1(bytes: &[u8]) -> Header {
    let within = bytes.get(..MAX_V1).unwrap_or(bytes);
    let Some(end) = memchr::memmem::find(within, b"\r\n") else {
        return if bytes.len() < MAX_V1 { Header::Incomplete } else { Header::Invalid(Invalid::V1) };
    };
    let line = within.get(V1_START.len()..end).and_then(|line| str::from_utf8(line).ok());
    match line.and_then(v1_addresses) {
        Some(addresses) => Header::Parsed(Parsed { addresses, consumed: end + 2 }),
        None => Header::Invalid(Invalid::V1),
    }
}

/// `Some(None)` for `UNKNOWN`, after which anything may stand.
fn v1_addresses(line: &str) -> Option<Option<Addresses>> {
    if line == "UNKNOWN" || line.starts_with("UNKNOWN ") {
        return Some(None);
    }
    let mut words = line.split(' ');
    let mut next = || words.next();
    let family = next()?;
    let (source, destination) = (next()?, next()?);
    let (source_port, destination_port) = (port(next()?)?, port(next()?)?);
    let address = |text: &str| -> Option<IpAddr> {
        match family {
            "TCP4" => text.parse::<Ipv4Addr>().ok().map(IpAddr::from),
            "TCP6" => text.parse::<Ipv6Addr>().ok().map(|ip| ip.to_canonical()),
            _ => None,
        }
    };
    let addresses = Addresses {
        source: SocketAddr::new(address(source)?, source_port),
        destination: SocketAddr::new(address(destination)?, destination_port),
    };
    next().is_none().then_some(Some(addresses))
}

/// Decimal, no sign, no leading zero.
fn port(text: &str) -> Option<u16> {
    let plain = text.bytes().all(|b| b.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    plain.then(|| text.parse().ok()).flatten()
}

/// What follows the head of a version 2 header.
#[derive(Clone, Copy)]
enum Block {
    Tcp4,
    Tcp6,
    /// LOCAL, UNSPEC or UNIX: at least this many bytes, to be skipped.
    Skipped(u16),
}

impl Block {
    /// Bytes 13 and 14: version and command, family and transport. Unassigned values must be refused (section 2.2).
    fn of(kind: u16) -> Option<Self> {
        match kind.to_be_bytes() {
            [0x20, _] | [0x21, 0x00] => Some(Self::Skipped(0)),
            [0x21, 0x11] => Some(Self::Tcp4),
            [0x21, 0x21] => Some(Self::Tcp6),
            [0x21, 0x31] => Some(Self::Skipped(216)),
            _ => None,
        }
    }

    const fn length(self) -> u16 {
        match self {
            Self::Tcp4 => 12,
            Self::Tcp6 => 36,
            Self::Skipped(length) => length,
        }
    }
}

fn v2(bytes: &[u8]) -> Header {
    let Ok((rest, (kind, length))) = v2_head(bytes) else {
        return Header::Incomplete;
    };
    let Some(block) = Block::of(kind) else {
        return Header::Invalid(Invalid::V2Kind { kind });
    };
    let consumed = V2_START.len() + 4 + usize::from(length);
    if length < block.length() || consumed > MAX_V2 {
        return Header::Invalid(Invalid::V2Length { length });
    }
    if rest.len() < usize::from(length) {
        return Header::Incomplete;
    }
    match v2_addresses(block, rest) {
        Ok((_, addresses)) => Header::Parsed(Parsed { addresses, consumed }),
        Err(_) => Header::Incomplete,
    }
}

fn v2_head(bytes: &[u8]) -> IResult<&[u8], (u16, u16)> {
    preceded(tag(V2_START), (be_u16, be_u16)).parse(bytes)
}

/// Two addresses, two ports; the TLVs behind them stay unread.
fn v2_addresses(block: Block, rest: &[u8]) -> IResult<&[u8], Option<Addresses>> {
    let (rest, (source, destination)) = match block {
        Block::Skipped(_) => return Ok((rest, None)),
        Block::Tcp4 => (ip4, ip4).parse(rest)?,
        Block::Tcp6 => (ip6, ip6).parse(rest)?,
    };
    let (rest, (source_port, destination_port)) = (be_u16, be_u16).parse(rest)?;
    let addresses = Addresses {
        source: SocketAddr::new(source, source_port),
        destination: SocketAddr::new(destination, destination_port),
    };
    Ok((rest, Some(addresses)))
}

fn ip4(bytes: &[u8]) -> IResult<&[u8], IpAddr> {
    map(be_u32, |bits| IpAddr::from(Ipv4Addr::from_bits(bits))).parse(bytes)
}

/// An IPv4 address in IPv6 clothes counts as IPv4: limits and networks must not be passed by spelling.
fn ip6(bytes: &[u8]) -> IResult<&[u8], IpAddr> {
    map(be_u128, |bits| Ipv6Addr::from_bits(bits).to_canonical()).parse(bytes)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use proptest::prelude::*;

    use super::*;
    use crate::upstream::{Ends, proxy_header};

    fn v2_bytes(kind: u16, block: &[u8]) -> Vec<u8> {
        let mut bytes = V2_START.to_vec();
        bytes.extend(kind.to_be_bytes());
        bytes.extend(u16::try_from(block.len()).unwrap().to_be_bytes());
        bytes.extend(block);
        bytes
    }

    fn parsed(bytes: &[u8], source: &str, destination: &str) -> Header {
        let addresses = Addresses { source: source.parse().unwrap(), destination: destination.parse().unwrap() };
        Header::Parsed(Parsed { addresses: Some(addresses), consumed: bytes.len() })
    }

    #[test]
    fn version_1_names_the_client() {
        let line = b"PROXY TCP4 192.0.2.1 192.0.2.2 56324 993\r\n";
        assert_eq!(parse(line), parsed(line, "192.0.2.1:56324", "192.0.2.2:993"));
        let line = b"PROXY TCP6 2001:db8::1 ::1 1 65535\r\n";
        assert_eq!(parse(line), parsed(line, "[2001:db8::1]:1", "[::1]:65535"));
        let line = b"PROXY TCP6 ::ffff:192.0.2.1 ::1 0 1\r\n";
        assert_eq!(parse(line), parsed(line, "192.0.2.1:0", "[::1]:1"), "IPv4 in IPv6 clothes");
        for line in ["PROXY UNKNOWN\r\n", "PROXY UNKNOWN ffff:f...f:ffff 65535 65535\r\n"] {
            let expected = Header::Parsed(Parsed { addresses: None, consumed: line.len() });
            assert_eq!(parse(line.as_bytes()), expected, "{line:?}");
        }
    }

    #[test]
    fn version_1_that_is_not_exact_is_refused() {
        for line in [
            "PROXY TCP4 192.0.2.1 192.0.2.2 56324\r\n",
            "PROXY TCP4 192.0.2.1 192.0.2.2 56324 993 \r\n",
            "PROXY TCP4 192.0.2.1 192.0.2.2 56324 99 3\r\n",
            "PROXY TCP4 192.0.2.1  192.0.2.2 56324 993\r\n",
            "PROXY TCP4 192.0.2.1 192.0.2.2 65536 993\r\n",
            "PROXY TCP4 192.0.2.1 192.0.2.2 0993 993\r\n",
            "PROXY TCP4 192.0.2.1 192.0.2.2 +993 993\r\n",
            "PROXY TCP4 192.0.2.1 192.0.2.2 -1 993\r\n",
            "PROXY TCP4 192.0.2.256 192.0.2.2 1 993\r\n",
            "PROXY TCP4 ::1 ::1 1 993\r\n",
            "PROXY TCP6 192.0.2.1 192.0.2.2 1 993\r\n",
            "PROXY UDP4 192.0.2.1 192.0.2.2 1 993\r\n",
            "PROXY UNKNOWNX\r\n",
            "PROXY \r\n",
            "PROXY TCP4 192.0.2.1 192.0.2.2 1 993\n\r\n",
        ] {
            assert_eq!(parse(line.as_bytes()), Header::Invalid(Invalid::V1), "{line:?}");
        }
    }

    #[test]
    fn version_1_ends_within_107_bytes() {
        let line = |length: usize| format!("PROXY UNKNOWN {}\r\n", "x".repeat(length - 16));
        assert!(matches!(parse(line(107).as_bytes()), Header::Parsed(_)));
        assert_eq!(parse(line(108).as_bytes()), Header::Invalid(Invalid::V1));
        assert_eq!(parse(&line(200).as_bytes()[..106]), Header::Incomplete);
        assert_eq!(parse(&line(200).as_bytes()[..107]), Header::Invalid(Invalid::V1));
    }

    #[test]
    fn version_2_names_the_client_and_its_tlvs_are_skipped() {
        let four = [192, 0, 2, 1, 192, 0, 2, 2, 0xdc, 0x04, 0x03, 0xe1];
        let bytes = v2_bytes(0x2111, &four);
        assert_eq!(parse(&bytes), parsed(&bytes, "192.0.2.1:56324", "192.0.2.2:993"));
        let with_tlv = v2_bytes(0x2111, &[&four[..], &[0x04, 0, 3, 1, 2, 3]].concat());
        assert_eq!(parse(&with_tlv), parsed(&with_tlv, "192.0.2.1:56324", "192.0.2.2:993"));
        let mut six = [0; 36];
        six[..2].copy_from_slice(&[0x20, 0x01]);
        (six[15], six[31], six[33], six[35]) = (1, 1, 7, 8);
        let bytes = v2_bytes(0x2121, &six);
        assert_eq!(parse(&bytes), parsed(&bytes, "[2001::1]:7", "[::1]:8"));
    }

    #[test]
    fn version_2_without_a_client_leaves_the_tcp_addresses() {
        for (name, kind, block) in [
            ("LOCAL", 0x2000, &[][..]),
            ("LOCAL with addresses", 0x2011, &[1; 12]),
            ("LOCAL of an unknown family", 0x20ff, &[1; 3]),
            ("UNSPEC", 0x2100, &[]),
            ("UNSPEC with a TLV", 0x2100, &[4, 0, 0]),
            ("UNIX", 0x2131, &[0; 216]),
        ] {
            let bytes = v2_bytes(kind, block);
            assert_eq!(parse(&bytes), Header::Parsed(Parsed { addresses: None, consumed: bytes.len() }), "{name}");
        }
    }

    #[test]
    fn version_2_of_an_unknown_kind_or_a_wrong_length_is_refused() {
        for kind in [0x1111, 0x3111, 0x2211, 0x2112, 0x2122, 0x2132, 0x2141, 0x2113, 0x2101, 0x2110] {
            assert_eq!(parse(&v2_bytes(kind, &[0; 216])), Header::Invalid(Invalid::V2Kind { kind }), "{kind:#x}");
        }
        for (kind, length) in
            [(0x2111, 11), (0x2121, 35), (0x2131, 215), (0x2111, 0), (0x2100, 4081), (0x2111, 65_535)]
        {
            let bytes = v2_bytes(kind, &vec![0; usize::from(length)]);
            assert_eq!(parse(&bytes), Header::Invalid(Invalid::V2Length { length }), "{kind:#x} {length}");
            assert_eq!(
                parse(&bytes[..16]),
                Header::Invalid(Invalid::V2Length { length }),
                "said before it is read"
            );
        }
        assert!(matches!(parse(&v2_bytes(0x2100, &[0; 4080])), Header::Parsed(_)), "at the bound");
    }

    #[test]
    fn what_is_no_header_is_refused_at_its_first_byte() {
        for bytes in [&b"\x16\x03\x01\x02\x00\x01"[..], b"a1 LOGIN", b"proxy TCP4", b"\r\n\r\nX", b"PROXX"] {
            assert_eq!(parse(bytes), Header::Invalid(Invalid::Signature), "{bytes:?}");
        }
        assert_eq!(parse(b""), Header::Incomplete);
    }

    fn header() -> impl Strategy<Value = Vec<u8>> {
        let v1 = (any::<[u8; 4]>(), any::<[u8; 4]>(), any::<u16>(), any::<u16>()).prop_map(|(a, b, p, q)| {
            format!("PROXY TCP4 {} {} {p} {q}\r\n", Ipv4Addr::from(a), Ipv4Addr::from(b)).into_bytes()
        });
        let kinds = proptest::sample::select(vec![0x2111, 0x2121, 0x2131, 0x2100, 0x2000]);
        let v2 = (kinds, proptest::collection::vec(any::<u8>(), 216..300));
        prop_oneof![v1, v2.prop_map(|(kind, block)| v2_bytes(kind, &block))]
    }

    fn socket_address() -> impl Strategy<Value = SocketAddr> {
        let four = any::<[u8; 4]>().prop_map(IpAddr::from);
        let ip = prop_oneof![four, any::<[u8; 16]>().prop_map(IpAddr::from)];
        (ip, any::<u16>()).prop_map(|(ip, port)| SocketAddr::new(ip, port))
    }

    #[test]
    fn a_header_of_our_own_that_names_nobody_is_read_as_one() {
        let bytes = proxy_header(None);
        assert_eq!(parse(&bytes), Header::Parsed(Parsed { addresses: None, consumed: bytes.len() }));
    }

    proptest! {
        /// Towards an upstream we say what we would understand ourselves: of IPv4, IPv6, and one of each.
        #[test]
        fn a_header_of_our_own_is_read_as_it_was_meant(peer in socket_address(), ours in socket_address()) {
            let bytes = proxy_header(Some(Ends { peer, ours }));
            let canonical = |at: SocketAddr| SocketAddr::new(at.ip().to_canonical(), at.port());
            let addresses = Some(Addresses { source: canonical(peer), destination: canonical(ours) });
            prop_assert_eq!(parse(&bytes), Header::Parsed(Parsed { addresses, consumed: bytes.len() }));
        }

        #[test]
        fn a_header_is_whole_at_its_last_byte_and_not_before(bytes in header(), more in proptest::collection::vec(any::<u8>(), 0..40)) {
            let whole = parse(&bytes);
            prop_assert!(matches!(&whole, Header::Parsed(parsed) if parsed.consumed == bytes.len()), "{whole:?}");
            for cut in 0..bytes.len() {
                prop_assert_eq!(parse(&bytes[..cut]), Header::Incomplete, "cut at byte {}", cut);
            }
            prop_assert_eq!(parse(&[&bytes[..], &more].concat()), whole, "what follows is the client's");
        }

        #[test]
        fn any_bytes_get_an_answer_and_never_wait_past_the_bound(
            start in proptest::sample::select(vec![&b""[..], V1_START, V2_START, b"\r\n\r\n\0\r\nQUIT\n\x21\x11"]),
            bytes in proptest::collection::vec(any::<u8>(), 0..MAX_HEADER * 2),
        ) {
            let bytes = [start, &bytes].concat();
            match parse(&bytes) {
                Header::Incomplete => prop_assert!(bytes.len() < MAX_HEADER),
                Header::Parsed(parsed) => prop_assert!(parsed.consumed <= bytes.len().min(MAX_HEADER)),
                Header::Invalid(_) => {}
            }
        }
    }
}
