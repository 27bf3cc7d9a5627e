//! A mail server that does as a test says, however wrong that is: on a port of its own, without TLS, one thread for each
//! connection. Ended when dropped, with all its connections.

use std::{
    io::{self, BufRead, BufReader, Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use base64::{Engine, engine::general_purpose::STANDARD};

/// What it speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Speaks {
    Imap,
    Pop,
}

/// What it does with a connection; afterwards that is closed.
type Play = Arc<dyn Fn(&mut Served) -> io::Result<()> + Send + Sync>;

/// A running server.
pub struct Fake {
    /// Where.
    pub at: SocketAddr,
    inner: Arc<Inner>,
    accepts: Option<JoinHandle<()>>,
}

struct Inner {
    speaks: Speaks,
    play: Mutex<Play>,
    open: Mutex<Vec<TcpStream>>,
    /// Whose mailboxes were opened.
    owners: Mutex<Vec<String>>,
    busy: AtomicUsize,
    is_over: AtomicBool,
}

impl Fake {
    /// On 127.0.0.1; it lets everybody in and says yes to everything.
    pub fn start(speaks: Speaks) -> Self {
        Self::at(speaks, "127.0.0.1:0".parse().unwrap())
    }

    /// The same at this address.
    pub fn at(speaks: Speaks, address: SocketAddr) -> Self {
        let listener = TcpListener::bind(address).unwrap_or_else(|error| panic!("{address}: {error}"));
        let inner = Arc::new(Inner {
            speaks,
            play: Mutex::new(Arc::new(obliging)),
            open: Mutex::default(),
            owners: Mutex::default(),
            busy: AtomicUsize::new(0),
            is_over: AtomicBool::new(false),
        });
        let (at, serves) = (listener.local_addr().unwrap(), Arc::clone(&inner));
        let accepts = thread::spawn(move || {
            for tcp in listener.incoming() {
                if serves.is_over.load(Ordering::Relaxed) {
                    return;
                }
                let tcp = tcp.unwrap();
                tcp.set_nodelay(true).unwrap();
                serves.open.lock().unwrap().push(tcp.try_clone().unwrap());
                serves.busy.fetch_add(1, Ordering::SeqCst);
                let inner = Arc::clone(&serves);
                thread::spawn(move || serve(tcp, inner));
            }
        });
        Self { at, inner, accepts: Some(accepts) }
    }

    /// From now on new connections get this.
    pub fn plays(&self, play: impl Fn(&mut Served) -> io::Result<()> + Send + Sync + 'static) {
        *self.inner.play.lock().unwrap() = Arc::new(play);
    }

    /// From now on it lets everybody in and says yes to everything.
    pub fn obliges(&self) {
        self.plays(obliging);
    }

    /// Whose mailboxes were opened so far, in the order in which they were.
    pub fn owners(&self) -> Vec<String> {
        self.inner.owners.lock().unwrap().clone()
    }

    /// How many connections it has not done with.
    pub fn busy(&self) -> usize {
        self.inner.busy.load(Ordering::SeqCst)
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.inner.is_over.store(true, Ordering::Relaxed);
        let _ = TcpStream::connect(self.at);
        if let Some(accepts) = self.accepts.take() {
            let _ = accepts.join();
        }
        for tcp in self.inner.open.lock().unwrap().drain(..) {
            let _ = tcp.shutdown(Shutdown::Both);
        }
    }
}

fn serve(tcp: TcpStream, inner: Arc<Inner>) {
    let play = Arc::clone(&inner.play.lock().unwrap());
    let lines = BufReader::new(tcp.try_clone().unwrap());
    let mut served = Served { tcp, lines, inner: Arc::clone(&inner), resets: false };
    let _ = play(&mut served);
    let at = served.tcp.peer_addr().ok();
    inner.open.lock().unwrap().retain(|tcp| tcp.peer_addr().ok() != at);
    if served.resets {
        let _ = socket2::SockRef::from(&served.tcp).set_linger(Some(Duration::ZERO));
    } else {
        let _ = served.tcp.shutdown(Shutdown::Both);
    }
    drop(served);
    inner.busy.fetch_sub(1, Ordering::SeqCst);
}

/// The server's side of one connection.
pub struct Served {
    tcp: TcpStream,
    lines: BufReader<TcpStream>,
    inner: Arc<Inner>,
    resets: bool,
}

impl Served {
    /// What it speaks.
    pub fn speaks(&self) -> Speaks {
        self.inner.speaks
    }

    /// Says the one or the other, by what it speaks.
    pub fn either(&mut self, imap: &str, pop: &str) -> io::Result<()> {
        self.say(if self.speaks() == Speaks::Imap { imap } else { pop })
    }

    pub fn say(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.tcp.write_all(bytes.as_ref())
    }

    /// The next line, without its end.
    pub fn line(&mut self) -> io::Result<String> {
        let mut line = String::new();
        if self.lines.read_line(&mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(line.trim_end().to_owned())
    }

    pub fn bytes(&mut self, count: usize) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; count];
        self.lines.read_exact(&mut bytes)?;
        Ok(bytes)
    }

    /// Greets; what it lists suffices for the sign-in by a master user.
    pub fn greets(&mut self) -> io::Result<()> {
        self.either("* OK [CAPABILITY IMAP4rev1 SASL-IR AUTH=PLAIN] ready\r\n", "+OK ready\r\n")?;
        if self.speaks() == Speaks::Pop {
            self.line()?;
            self.say("+OK\r\nSASL PLAIN\r\nUIDL\r\n.\r\n")?;
        }
        Ok(())
    }

    /// Greets and hears who signs in; gives the beginning of the answer.
    pub fn hears_who(&mut self) -> io::Result<String> {
        self.greets()?;
        let line = self.line()?;
        let tag = line.split(' ').next().unwrap().to_owned();
        // OWNER NUL MASTER NUL PASSWORD (RFC 4616).
        let message = STANDARD.decode(line.rsplit(' ').next().unwrap()).unwrap_or_default();
        if let Some(end) = message.iter().position(|byte| *byte == 0) {
            self.inner.owners.lock().unwrap().push(String::from_utf8_lossy(&message[..end]).into_owned());
        }
        Ok(tag)
    }

    /// Lets everybody in.
    pub fn lets_in(&mut self) -> io::Result<()> {
        let tag = self.hears_who()?;
        self.either(&format!("{tag} OK [CAPABILITY IMAP4rev1 IDLE LITERAL+] in\r\n"), "+OK in\r\n")
    }

    /// Says yes to everything until the end.
    pub fn obliges(&mut self) -> io::Result<()> {
        loop {
            let line = self.line()?;
            let (tag, verb) = line.split_once(' ').unwrap_or((&line, ""));
            match (self.speaks(), verb) {
                (Speaks::Pop, _) => self.say("+OK\r\n")?,
                (Speaks::Imap, "IDLE") => {
                    self.say("+ idling\r\n")?;
                    self.line()?;
                    self.say(format!("{tag} OK\r\n"))?;
                }
                (Speaks::Imap, "LOGOUT") => return self.say(format!("* BYE\r\n{tag} OK\r\n")),
                (Speaks::Imap, _) => self.say(format!("{tag} OK done\r\n"))?,
            }
            if line == "QUIT" {
                return Ok(());
            }
        }
    }

    /// Does nothing until the other side has closed, or for a minute.
    pub fn waits(&mut self) -> io::Result<()> {
        self.tcp.set_read_timeout(Some(Duration::from_secs(60)))?;
        while self.lines.read(&mut [0; 4096])? > 0 {}
        Ok(())
    }

    /// In the end it breaks off instead of closing.
    pub fn resets(&mut self) {
        self.resets = true;
    }
}

fn obliging(served: &mut Served) -> io::Result<()> {
    served.lets_in()?;
    served.obliges()
}
