//! The listening sockets: bound here as `[listen]` says, passed by the service manager, or handed over by the process
//! that served before. Called by `Server::start`.

use std::{
    io,
    net::{SocketAddr, TcpListener},
    time::Duration,
};

use anyhow::{Context, bail};
use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};

use crate::config::Listen;

/// Connections the system may hold for us before we accept them.
const BACKLOG: i32 = 1024;
/// A connection whose peer is gone without a word is noticed by the system after about this long.
const KEEPALIVE: Duration = Duration::from_secs(120);

/// What a listener is for, as the config and the `listening` lines spell it.
pub(super) const NAMES: [&str; 3] = ["imaps", "pop3s", "http"];

/// The sockets of one address. Which of them gets a connection is the system's choice, so each has to be accepted from.
#[derive(Debug)]
pub(super) struct Entrance {
    /// One of [`NAMES`].
    pub(super) name: &'static str,
    /// The address as the config has it, where port 0 lets the system choose; none if the service manager bound it.
    pub(super) asked: Option<SocketAddr>,
    /// The address that is really bound.
    pub(super) address: SocketAddr,
    /// At least one.
    pub(super) sockets: Vec<TcpListener>,
}

impl Entrance {
    /// Takes sockets that somebody else bound, if they listen. Errors say what is wrong with them.
    pub(super) fn of(name: &str, asked: Option<SocketAddr>, sockets: Vec<TcpListener>) -> anyhow::Result<Self> {
        let Some(name) = NAMES.into_iter().find(|known| *known == name) else {
            bail!("a listening socket is named {name:?}; names are {} (FileDescriptorName=)", NAMES.join(", "));
        };
        let mut address = None;
        for socket in &sockets {
            let found = SockRef::from(socket);
            if found.r#type()? != Type::STREAM || !matches!(found.domain()?, Domain::IPV4 | Domain::IPV6) {
                bail!("the socket passed as {name} is not one for TCP");
            }
            if !found.is_listener()? {
                bail!("the socket passed as {name} does not listen");
            }
            socket.set_nonblocking(true)?;
            address = Some(socket.local_addr()?);
        }
        let Some(address) = address else { bail!("no socket was passed as {name}") };
        Ok(Self { name, asked, address, sockets })
    }
}

/// One entrance for each address of `listen`: one of `given`, or bound now with a socket for each of `threads`. Where the
/// service manager passed sockets of a name, these replace the addresses of that name. What is left over is closed.
pub(super) fn entrances(
    listen: &Listen,
    mut given: Vec<Entrance>,
    threads: usize,
) -> anyhow::Result<Vec<Entrance>> {
    let mut all = Vec::new();
    for name in NAMES {
        let (of_name, others) = given.into_iter().partition::<Vec<_>, _>(|entrance| entrance.name == name);
        given = others;
        let (passed, mut handed): (Vec<_>, Vec<_>) =
            of_name.into_iter().partition(|entrance| entrance.asked.is_none());
        if !passed.is_empty() {
            all.extend(passed);
            continue;
        }
        let (addresses, count) = match name {
            "imaps" => (&listen.imaps, threads),
            "pop3s" => (&listen.pop3s, threads),
            _ => (&listen.http, 1),
        };
        for address in addresses {
            let bound = match handed.iter().position(|entrance| entrance.asked == Some(*address)) {
                Some(place) => handed.remove(place),
                None => bind(name, *address, count).with_context(|| {
                    format!(
                        "listen.{name}: cannot listen on {address}; is the port taken, or below 1024 without the right to it?"
                    )
                })?,
            };
            all.push(bound);
        }
    }
    for entrance in all.iter().filter(|entrance| entrance.name != "http") {
        entrance.sockets.iter().try_for_each(prepare)?;
    }
    Ok(all)
}

/// So many sockets, all on one address: the system spreads connections over them.
fn bind(name: &'static str, asked: SocketAddr, count: usize) -> io::Result<Entrance> {
    let shared = count > 1;
    if shared && asked.port() != 0 {
        // Any process of this user may join sockets that share a port. A gateway started twice by mistake has to hear
        // that the port is taken, so first the port is asked for alone.
        socket(asked, false)?;
    }
    let mut address = asked;
    let mut sockets = Vec::new();
    for _ in 0..count.max(1) {
        let socket = socket(address, shared)?;
        socket.listen(BACKLOG)?;
        let listener = TcpListener::from(socket);
        // Where the system chose the port, the others take the same.
        address = listener.local_addr()?;
        sockets.push(listener);
    }
    Ok(Entrance { name, asked: Some(asked), address, sockets })
}

fn socket(address: SocketAddr, shared: bool) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(shared)?;
    if address.is_ipv6() {
        // `[::]` takes IPv4 too, as on most systems; any other address is what it says.
        socket.set_only_v6(!address.ip().is_unspecified())?;
    }
    socket.bind(&address.into())?;
    Ok(socket)
}

/// Prepares the connections of a listening socket: they have its settings from the start, and none is set on each.
fn prepare(listener: &TcpListener) -> io::Result<()> {
    let socket = SockRef::from(listener);
    socket.set_tcp_nodelay(true)?;
    let keepalive = TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE / 4);
    socket.set_tcp_keepalive(&keepalive)
}

/// Which thread accepts from which socket, so that each thread and each socket has its part.
pub(super) fn spread<'a, T, S>(threads: &'a [T], sockets: &'a [S]) -> impl Iterator<Item = (&'a T, &'a S)> {
    let pairs = threads.len().max(sockets.len());
    threads.iter().cycle().zip(sockets.iter().cycle()).take(pairs)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use std::{collections::HashSet, net::UdpSocket, os::fd::OwnedFd};

    use super::*;

    const ANY: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);

    fn listen(imaps: &[SocketAddr], http: &[SocketAddr]) -> Listen {
        Listen { imaps: imaps.to_vec(), pop3s: Vec::new(), http: http.to_vec(), proxy_protocol_from: Vec::new() }
    }

    /// As another process gets it.
    fn copy(entrance: &Entrance) -> Entrance {
        let sockets = entrance.sockets.iter().map(|socket| socket.try_clone().unwrap()).collect();
        Entrance::of(entrance.name, entrance.asked, sockets).unwrap()
    }

    #[test]
    fn each_thread_and_each_socket_has_its_part() {
        for (threads, sockets) in [(1, 1), (1, 4), (4, 1), (2, 3), (3, 2), (4, 4)] {
            let (all_threads, all_sockets) = ((0..threads).collect::<Vec<_>>(), (0..sockets).collect::<Vec<_>>());
            let pairs: Vec<(usize, usize)> = spread(&all_threads, &all_sockets).map(|(t, s)| (*t, *s)).collect();
            let (of_threads, of_sockets): (HashSet<_>, HashSet<_>) = pairs.iter().copied().unzip();
            assert_eq!((of_threads.len(), of_sockets.len()), (threads, sockets));
            assert_eq!(pairs.len(), threads.max(sockets));
        }
    }

    #[test]
    fn what_was_handed_over_is_used_and_the_rest_is_bound_or_closed() {
        let first = entrances(&listen(&[ANY, ANY], &[ANY]), Vec::new(), 2).unwrap();
        assert_eq!(first.iter().map(|one| one.sockets.len()).collect::<Vec<_>>(), [2, 2, 1]);
        let (one, other, web) = (first[0].address, first[1].address, first[2].address);
        // One address fewer, and one that is new.
        let new = SocketAddr::new("127.0.0.2".parse().unwrap(), 0);
        let handed = first.iter().map(copy).collect();
        drop(first);
        let second = entrances(&listen(&[ANY, new], &[ANY]), handed, 3).unwrap();
        assert_eq!(second.len(), 3);
        assert_eq!((second[0].address, second[0].sockets.len()), (one, 2));
        assert_eq!((second[1].address.ip(), second[1].sockets.len()), (new.ip(), 3));
        assert_eq!(second[2].address, web);
        assert!(std::net::TcpStream::connect(one).is_ok() && std::net::TcpStream::connect(web).is_ok());
        assert!(std::net::TcpStream::connect(other).is_err(), "an address that is not asked for any more is open");
    }

    #[test]
    fn sockets_that_were_passed_replace_the_addresses_of_their_name_alone() {
        let passed = |name| {
            let socket = TcpListener::bind(ANY).unwrap();
            Entrance::of(name, None, vec![socket]).unwrap()
        };
        let given = vec![passed("imaps"), passed("imaps")];
        let expected: Vec<_> = given.iter().map(|one| one.address).collect();
        let all = entrances(&listen(&[ANY], &[ANY]), given, 2).unwrap();
        assert_eq!(all.iter().map(|one| one.name).collect::<Vec<_>>(), ["imaps", "imaps", "http"]);
        assert_eq!([all[0].address, all[1].address], *expected);
    }

    #[test]
    fn a_passed_socket_that_cannot_be_used_is_told() {
        let udp = TcpListener::from(OwnedFd::from(UdpSocket::bind(ANY).unwrap()));
        let deaf = socket(ANY, false).unwrap();
        let good = TcpListener::bind(ANY).unwrap();
        for (name, socket, said) in [
            ("imaps", udp, "is not one for TCP"),
            ("pop3s", deaf.into(), "the socket passed as pop3s does not listen"),
            ("portcullis.socket", good, "names are imaps, pop3s, http"),
        ] {
            let error = Entrance::of(name, None, vec![socket]).unwrap_err().to_string();
            assert!(error.contains(said), "{error}");
        }
    }

    #[test]
    fn a_port_that_is_taken_is_refused_also_where_it_could_be_shared() {
        let first = entrances(&listen(&[ANY], &[]), Vec::new(), 2).unwrap();
        let error = entrances(&listen(&[first[0].address], &[]), Vec::new(), 2).unwrap_err();
        assert!(error.to_string().starts_with("listen.imaps: cannot listen on "), "{error}");
    }
}
