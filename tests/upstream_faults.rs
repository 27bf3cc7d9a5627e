//! Mail servers gone bad: whatever one does, the peer hears a true word, the gate's memory stays what it was, nothing hangs
//! beyond its limit, and nobody else notices.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::{
    io, thread,
    time::{Duration, Instant},
};

use support::{
    ANN, APP, Gate, POLICY, Setup,
    fake::{Fake, Served, Speaks},
    wire::{Imap, Pop, xoauth2},
};

const LISA: &str = "lisa@example.com";

/// A gate before two fakes, one for each protocol.
struct Stage {
    gate: Gate,
    imap: Fake,
    pop: Fake,
}

impl Stage {
    /// With these lines in `[limits]`.
    fn set(limits: &str) -> Self {
        let (imap, pop) = (Fake::start(Speaks::Imap), Fake::start(Speaks::Pop));
        let setup = Setup::behind(&format!("\"{}\"", imap.at), &format!("\"{}\"", pop.at), TO_FAKE);
        let limits = format!("{}{limits}", setup.limits);
        let gate = Gate::with(Setup { environment: vec![("MASTER", "open-sesame")], limits, ..setup });
        Self { gate, imap, pop }
    }

    /// Both play the same.
    fn plays(&self, play: impl Fn(&mut Served) -> io::Result<()> + Clone + Send + Sync + 'static) {
        self.imap.plays(play.clone());
        self.pop.plays(play);
    }

    fn oblige(&self) {
        self.imap.obliges();
        self.pop.obliges();
    }

    /// What is answered to a sign-in by IMAP, and by POP3.
    fn answers(&self) -> [String; 2] {
        let blob = xoauth2(ANN, &self.gate.token(ANN, APP));
        let imap = Imap::connect(&self.gate).command(&format!("AUTHENTICATE XOAUTH2 {blob}")).status;
        [imap, Pop::connect(&self.gate).authenticate("XOAUTH2", &blob)]
    }

    /// The audit details of so many ended sessions, with their reason before.
    fn endings(&self, count: usize) -> Vec<String> {
        let ended = |row: &serde_json::Value| row["event"] == "session.ended";
        let rows = self.gate.audit_with(&["--user", ANN], count, ended);
        let told =
            |row: serde_json::Value| format!("{}: {}", row["reason"].as_str().unwrap_or_default(), row["detail"]);
        rows.into_iter().filter(ended).map(told).collect()
    }
}

const TO_FAKE: &str = "tls = false\nhealth_s = 0\nconnect_s = 1\nlogin_s = 1\nlogin = { by = \"master\", user = \"gate\", \
                       secret_env = \"MASTER\" }\n";

/// A session of somebody else, which must not notice anything.
fn bystander(gate: &Gate) -> impl FnOnce() + use<> {
    let mut imap = gate.imap(LISA, APP);
    imap.ok("SELECT INBOX");
    let tag = imap.idle();
    move || {
        assert!(imap.wire.is_silent_for(Duration::from_millis(50)), "somebody else's session was disturbed");
        imap.wire.send("DONE");
        assert!(imap.finish(&tag).status.starts_with("OK"));
        imap.ok("NOOP");
    }
}

// ---- before anybody is signed in ----

type Play = fn(&mut Served) -> io::Result<()>;

/// Name, what the server does, what the audit row says of it.
const BEFORE: [(&str, Play, [&str; 2]); 12] = [
    ("says nothing", |it| it.waits(), ["did not answer within 1 s (signing in)"; 2]),
    (
        "goes silent in the sign-in",
        |it| it.hears_who().and_then(|_| it.waits()),
        ["did not answer within 1 s (signing in)"; 2],
    ),
    (
        "speaks something else",
        |it| it.say("HTTP/1.1 400 Bad Request\r\n\r\n").and_then(|()| it.waits()),
        ["it sent no IMAP greeting", "it sent no POP3 greeting"],
    ),
    (
        "says what is no text",
        |it| it.say(b"\x16\x03\x01\0\xff\xfe\r\n").and_then(|()| it.waits()),
        ["it sent a line that is no IMAP", "it sent no POP3 greeting"],
    ),
    (
        "lets us in unasked",
        |it| it.either("* PREAUTH welcome\r\n", "-ERR go away\r\n").and_then(|()| it.waits()),
        ["it sent PREAUTH: it asks nobody to sign in", "it closed: go away"],
    ),
    (
        "says goodbye at once",
        |it| it.either("* BYE [UNAVAILABLE] too busy\r\n", "-ERR [SYS/TEMP] too busy\r\n"),
        ["it closed: too busy"; 2],
    ),
    (
        "begins a line that never ends",
        |it| {
            it.either("* OK ", "+OK ")?;
            while it.say([b'x'; 4096]).is_ok() {}
            Ok(())
        },
        ["it sent a line that is too long"; 2],
    ),
    (
        "never comes to an end",
        |it| {
            it.either("* OK ready\r\n", "+OK ready\r\n")?;
            it.either("", "+OK list\r\n")?;
            while it.either("* OK and so on\r\n", "AND SO ON\r\n").is_ok() {}
            Ok(())
        },
        ["it sent too much before the sign-in"; 2],
    ),
    ("hangs up at once", |_| Ok(()), ["broke off the sign-in (unexpected end of file)"; 2]),
    (
        "breaks off in the sign-in",
        |it| {
            it.resets();
            it.hears_who().map(drop)
        },
        ["broke off the sign-in (Connection reset by peer"; 2],
    ),
    (
        "drips",
        |it| {
            loop {
                it.say("x")?;
                thread::sleep(Duration::from_millis(50));
            }
        },
        ["did not answer within 1 s (signing in)"; 2],
    ),
    (
        "cannot, and says so",
        |it| {
            let tag = it.hears_who()?;
            it.either(&format!("{tag} NO [UNAVAILABLE] disk\r\n"), "-ERR [SYS/TEMP] disk\r\n")
        },
        ["it refused the sign-in [UNAVAILABLE]: disk", "it refused the sign-in [SYS/TEMP]: disk"],
    ),
];

#[test]
fn a_server_that_lets_nobody_in_is_told_of_truly_and_holds_nobody_up() {
    let stage = Stage::set("");
    let undisturbed = bystander(&stage.gate);
    for (number, (name, play, details)) in BEFORE.into_iter().enumerate() {
        stage.plays(play);
        let began = Instant::now();
        let [imap, pop] = stage.answers();
        assert!(imap.starts_with("NO [UNAVAILABLE] "), "{name}: {imap}");
        assert!(pop.starts_with("-ERR [SYS/TEMP] "), "{name}: {pop}");
        assert!(began.elapsed() < Duration::from_secs(4), "{name}: {:?}", began.elapsed());
        let rows = stage.gate.audit_with(&["--cause", "unavailable_upstream"], 2 * (number + 1), |_| true);
        for (row, detail) in rows[2 * number..].iter().zip(details) {
            let told = row["detail"].as_str().unwrap();
            assert!(told.contains(" of upstream there") && told.contains(detail), "{name}: {told}");
        }
        // One that does its work is believed again at once.
        stage.oblige();
        let [imap, pop] = stage.answers();
        assert!(imap.starts_with("OK") && pop.starts_with("+OK"), "{name}, then: {imap} {pop}");
    }
    undisturbed();
    let log = stage.gate.log();
    assert!(!log.contains("open-sesame") && !log.contains("panic"), "{log}");
}

#[test]
fn a_server_that_hangs_in_sign_ins_costs_few_people_their_time_though_it_greets() {
    let fake = Fake::start(Speaks::Imap);
    let to_fake = TO_FAKE.replace("health_s = 0", "health_s = 1");
    let setup = Setup::behind(&format!("\"{}\"", fake.at), "", &to_fake);
    let people = [ANN, LISA, "bob@example.com", "cora@example.com"];
    let more = ["bob", "cora"].map(|name| format!("[user.\"{name}@example.com\"]\nunit = \"/\"\n"));
    let policy = format!("{POLICY}{}", more.concat());
    let gate = Gate::with(Setup { environment: vec![("MASTER", "open-sesame")], policy, ..setup });
    // Looks at it and people who sign in are served alike.
    fake.plays(|it| it.hears_who().and_then(|_| it.waits()));
    let sign_in = |user: &str| {
        let blob = xoauth2(user, &gate.token(user, APP));
        Imap::connect(&gate).command(&format!("AUTHENTICATE XOAUTH2 {blob}")).status
    };
    // One person's trouble is not the server's.
    for user in [ANN, ANN, ANN, LISA, "bob@example.com"] {
        assert!(!gate.log().contains("server is passed over"), "{}", gate.log());
        assert!(sign_in(user).starts_with("NO [UNAVAILABLE] "));
        // Long enough for a look.
        thread::sleep(Duration::from_millis(1200));
    }
    gate.wait_for_log("server is passed over until it does well again");
    let until = Instant::now() + Duration::from_secs(6);
    let (mut at_once, mut late) = (0, 0);
    while Instant::now() < until {
        let began = Instant::now();
        assert!(sign_in(people[(at_once + late) % people.len()]).starts_with("NO [UNAVAILABLE] "));
        if began.elapsed() < Duration::from_millis(700) {
            at_once += 1
        } else {
            late += 1
        }
        thread::sleep(Duration::from_millis(200));
    }
    assert!(late <= 3 && at_once > late, "{late} waited, {at_once} did not");
    assert!(!gate.log().contains("server is used again"), "{}", gate.log());
    fake.obliges();
    let until = Instant::now() + Duration::from_secs(20);
    while !sign_in(ANN).contains("OK") {
        assert!(Instant::now() < until, "nobody is let in again");
        thread::sleep(Duration::from_millis(100));
    }
    gate.wait_for_log("server is used again");
}

#[test]
fn a_mailbox_that_is_in_use_there_is_in_use_here() {
    let stage = Stage::set("");
    stage.plays(|it| {
        let tag = it.hears_who()?;
        it.either(&format!("{tag} NO [INUSE] by another program\r\n"), "-ERR [IN-USE] by another program\r\n")
    });
    let [imap, pop] = stage.answers();
    assert!(imap.starts_with("NO [INUSE] ") && pop.starts_with("-ERR [IN-USE] "), "{imap} {pop}");
    let rows = stage.gate.audit_with(&["--cause", "upstream_refused"], 2, |_| true);
    assert!(rows[0]["detail"].as_str().unwrap().contains("[INUSE]: by another program"), "{rows:?}");
}

// ---- after the sign-in ----

/// Signs in by both and asks for a message.
fn asked(gate: &Gate) -> (Imap, Pop) {
    let (mut imap, mut pop) = (gate.imap(ANN, APP), gate.pop(ANN, APP));
    imap.send("FETCH 1 BODY[]");
    pop.wire.send("RETR 1");
    (imap, pop)
}

#[test]
fn a_server_that_closes_in_the_middle_of_a_message_leaves_it_cut_and_unsigned() {
    let stage = Stage::set("");
    let undisturbed = bystander(&stage.gate);
    for resets in [false, true] {
        stage.plays(move |it| {
            it.lets_in()?;
            it.line()?;
            it.either("* 1 FETCH (BODY[] {1000}\r\nhalf of it", "+OK\r\nhalf of it")?;
            thread::sleep(Duration::from_millis(100));
            if resets {
                it.resets();
            }
            Ok(())
        });
        let (mut imap, mut pop) = asked(&stage.gate);
        assert_eq!(String::from_utf8(imap.wire.rest()).unwrap(), "* 1 FETCH (BODY[] {1000}\r\nhalf of it");
        assert_eq!(String::from_utf8(pop.wire.rest()).unwrap(), "+OK\r\nhalf of it");
    }
    let told = stage.endings(4);
    assert!(told.iter().all(|told| told.starts_with("upstream gone: ")), "{told:?}");
    undisturbed();
}

#[test]
fn a_server_that_closes_between_two_answers_is_told_of() {
    let stage = Stage::set("");
    for resets in [false, true] {
        stage.plays(move |it| {
            it.lets_in()?;
            let line = it.line()?;
            let tag = line.split(' ').next().unwrap();
            it.either(&format!("{tag} OK\r\n"), "+OK\r\n.\r\n")?;
            thread::sleep(Duration::from_millis(100));
            if resets {
                it.resets();
            }
            Ok(())
        });
        let (mut imap, mut pop) = asked(&stage.gate);
        assert_eq!(imap.wire.line(), "t2 OK");
        assert_eq!(imap.bye().0, "[UNAVAILABLE] The mail server is gone; connect again in a moment");
        assert_eq!(
            String::from_utf8(pop.wire.rest()).unwrap(),
            "+OK\r\n.\r\n-ERR [SYS/TEMP] the mail server is gone; connect again in a moment\r\n"
        );
    }
    // Its own goodbye is passed on, and nothing is added to it.
    stage.plays(|it| {
        it.lets_in()?;
        it.line()?;
        it.say("* BYE [UNAVAILABLE] shutting down\r\n")
    });
    let mut imap = stage.gate.imap(ANN, APP);
    imap.send("IDLE");
    assert_eq!(imap.bye().0, "[UNAVAILABLE] shutting down");
    let told = stage.endings(5);
    assert_eq!(told.iter().filter(|told| told.starts_with("upstream gone: ")).count(), 4, "{told:?}");
    assert_eq!(told.iter().filter(|told| told.starts_with("upstream goodbye: ")).count(), 1, "{told:?}");
}

#[test]
fn a_server_that_drips_is_passed_on_drop_by_drop() {
    let stage = Stage::set("");
    stage.plays(|it| {
        it.lets_in()?;
        let line = it.line()?;
        let answer = match it.speaks() {
            Speaks::Imap => {
                format!("* 1 FETCH (BODY[] {{5}}\r\nab\r\nc)\r\n{} OK\r\n", line.split(' ').next().unwrap())
            }
            Speaks::Pop => "+OK\r\nab\r\n..\r\n.\r\n".to_owned(),
        };
        for byte in answer.bytes() {
            it.say([byte])?;
            thread::sleep(Duration::from_millis(50));
        }
        it.obliges()
    });
    let (mut imap, mut pop) = asked(&stage.gate);
    let began = Instant::now();
    let mut whole = Vec::new();
    let mut pieces = 0;
    while !whole.ends_with(b"t2 OK\r\n") {
        whole.extend(imap.wire.some());
        pieces += 1;
    }
    assert!(pieces > 20 && began.elapsed() < Duration::from_secs(10), "{pieces} pieces, {:?}", began.elapsed());
    assert_eq!(String::from_utf8(whole).unwrap(), "* 1 FETCH (BODY[] {5}\r\nab\r\nc)\r\nt2 OK\r\n");
    let mut text = Vec::new();
    while !text.ends_with(b"\r\n.\r\n") {
        text.extend(pop.wire.some());
    }
    assert_eq!(text, b"+OK\r\nab\r\n..\r\n.\r\n");
    imap.ok("NOOP");
    assert!(pop.command("NOOP").starts_with("+OK"));
}

/// In KiB: TLS, sockets and allocator may take some, but no part of what passes through.
const LITTLE: u64 = 12 * 1024;

/// So large is a message, in octets.
const GIGABYTE: usize = 1 << 30;

/// Answers with a gigabyte, or as much as the other side takes.
fn floods(it: &mut Served) -> io::Result<()> {
    it.lets_in()?;
    let line = it.line()?;
    match (it.speaks(), line.contains("FETCH")) {
        (Speaks::Pop, _) => it.say("+OK\r\n")?,
        (Speaks::Imap, true) => it.say(format!("* 1 FETCH (BODY[] {{{GIGABYTE}}}\r\n"))?,
        // A line that never ends.
        (Speaks::Imap, false) => it.say("* SEARCH")?,
    }
    let piece = " 1234567".repeat(8 * 1024);
    for _ in 0..GIGABYTE / piece.len() {
        it.say(&piece)?;
    }
    it.either(&format!(")\r\n{} OK\r\n", line.split(' ').next().unwrap()), "\r\n.\r\n")?;
    it.obliges()
}

#[test]
fn gigabytes_pass_through_little_memory_and_a_peer_that_takes_none_is_given_up() {
    let stage = Stage::set("output_stall_s = 2\n");
    let undisturbed = bystander_among_floods(&stage);
    let before = stage.gate.memory().0;
    let session = || stage.gate.imap(ANN, APP);
    let (mut whole, mut slow, mut stuck, mut line) = (session(), session(), session(), session());
    let mut pop = stage.gate.pop(ANN, APP);
    for imap in [&mut whole, &mut slow, &mut stuck] {
        imap.send("FETCH 1 BODY[]");
    }
    line.send("SEARCH ALL");
    pop.wire.send("RETR 1");
    let reader = thread::spawn(move || {
        assert_eq!(whole.wire.line(), format!("* 1 FETCH (BODY[] {{{GIGABYTE}}}"));
        let all = GIGABYTE + ")\r\nt2 OK\r\n".len();
        let mut taken = 0;
        while taken < all {
            let some = whole.wire.some().len();
            assert!(some > 0, "closed after {taken} octets");
            taken += some;
        }
        assert_eq!(taken, all);
        whole
    });
    let began = Instant::now();
    let mut taken = 0;
    while began.elapsed() < Duration::from_secs(4) {
        taken += slow.wire.some().len() + line.wire.some().len();
        // Who talks on and on takes nothing all the same.
        stuck.wire.send("a NOOP");
        pop.wire.send("NOOP");
        thread::sleep(Duration::from_millis(2));
    }
    assert!(taken > 8 << 20, "only {taken} octets came through");
    // By now those who take nothing are out.
    let told = stage.endings(2);
    assert!(told.iter().all(|told| told.starts_with("peer gone: ")), "{told:?}");
    drop((slow, line));
    reader.join().unwrap().ok("NOOP");
    let after = stage.gate.memory().0;
    assert!(after - before < LITTLE, "{} KiB more, while more than a gigabyte passed", after - before);
    undisturbed();
}

/// Somebody else, at the same server.
fn bystander_among_floods(stage: &Stage) -> impl FnOnce() + use<> {
    stage.oblige();
    let done = bystander(&stage.gate);
    stage.plays(floods);
    done
}

#[test]
fn a_server_that_takes_nothing_is_given_up_and_the_peer_is_told() {
    let stage = Stage::set("output_stall_s = 2\nappend_bytes = 104857600\n");
    let (given_up, hear_that) = std::sync::mpsc::channel();
    let (tell, hear) = std::sync::mpsc::channel();
    let hear_that = std::sync::Mutex::new(hear_that);
    stage.imap.plays(move |it| {
        it.lets_in()?;
        it.line()?;
        it.say("+ go\r\n")?;
        let _ = hear_that.lock().unwrap().recv_timeout(Duration::from_secs(15));
        let _ = tell.send(it.bytes(64 << 20).map(drop).map_err(|error| error.kind()));
        Ok(())
    });
    let before = stage.gate.memory().0;
    let mut imap = stage.gate.imap(ANN, APP);
    imap.send(&format!("APPEND INBOX {{{}}}", 64 << 20));
    assert_eq!(imap.wire.line(), "+ go");
    let began = Instant::now();
    imap.wire.send_bytes(&vec![b'x'; 64 << 20]);
    let (text, _) = imap.bye();
    assert!(text.starts_with("[UNAVAILABLE] The mail server"), "{text}");
    assert!(began.elapsed() < Duration::from_secs(6), "{:?}", began.elapsed());
    let told = stage.endings(1);
    assert!(told[0].starts_with("upstream gone: "), "{told:?}");
    // When it listens again it finds the message broken off, not ended.
    given_up.send(()).unwrap();
    assert_eq!(hear.recv_timeout(Duration::from_secs(10)).unwrap(), Err(io::ErrorKind::ConnectionReset));
    let after = stage.gate.memory().0;
    assert!(after - before < LITTLE, "{} KiB more", after - before);
}

#[test]
fn the_last_words_of_a_server_that_listens_no_more_reach_the_peer() {
    let stage = Stage::set("append_bytes = 104857600\n");
    stage.imap.plays(|it| {
        it.lets_in()?;
        let line = it.line()?;
        it.say("+ go\r\n")?;
        // It closes with much unread, which breaks the connection off behind these words.
        thread::sleep(Duration::from_millis(300));
        let tag = line.split(' ').next().unwrap();
        it.say(format!("{tag} NO [OVERQUOTA] the mailbox is full\r\n* BYE enough\r\n"))
    });
    let mut imap = stage.gate.imap(ANN, APP);
    imap.send(&format!("APPEND INBOX {{{}}}", 9 << 20));
    assert_eq!(imap.wire.line(), "+ go");
    // It reads once it has sent all, as most programs do.
    imap.wire.send_bytes(&vec![b'x'; 8 << 20]);
    for _ in 0..16 {
        imap.wire.send_bytes(&[b'x'; 64 * 1024]);
        thread::sleep(Duration::from_millis(60));
    }
    let told = String::from_utf8(imap.wire.rest()).unwrap();
    assert_eq!(told, "t2 NO [OVERQUOTA] the mailbox is full\r\n* BYE enough\r\n");
}

#[test]
fn who_has_to_leave_in_the_middle_of_an_answer_that_never_ends_leaves_for_that_reason() {
    let off = POLICY.replace("imap = \"any\"", "imap = \"off\"").replace("pop = \"any\"", "pop = \"off\"");
    for reason in ["policy_service_off: ", "shutdown: "] {
        let stage = Stage::set("");
        stage.plays(|it| {
            it.lets_in()?;
            it.line()?;
            it.either("* 1 FETCH (BODY[] {1000}\r\nhalf of it", "+OK\r\nhalf of it\r\n")?;
            it.waits()
        });
        let (mut imap, mut pop) = asked(&stage.gate);
        assert_eq!(imap.wire.line(), "* 1 FETCH (BODY[] {1000}");
        assert_eq!(pop.wire.line(), "+OK");
        let began = Instant::now();
        if reason == "shutdown: " {
            stage.gate.signal("TERM");
        } else {
            stage.gate.set_policy(&off);
        }
        assert_eq!(String::from_utf8(imap.wire.rest()).unwrap(), "half of it");
        assert_eq!(String::from_utf8(pop.wire.rest()).unwrap(), "half of it\r\n");
        assert!(began.elapsed() < Duration::from_secs(8), "{:?}", began.elapsed());
        let told = stage.endings(2);
        assert!(told.iter().all(|told| told.starts_with(reason)), "{told:?}");
    }
}

// ---- closing and breaking off pass through ----

#[test]
fn what_a_peer_said_before_it_closed_is_still_answered() {
    let stage = Stage::set("");
    stage.plays(|it| {
        it.lets_in()?;
        let line = it.line()?;
        // The end has come before the answer.
        let ended = it.line().is_err_and(|error| error.kind() == io::ErrorKind::UnexpectedEof);
        let said = if ended { "OK" } else { "NO" };
        it.either(&format!("{} {said}\r\n", line.split(' ').next().unwrap()), &format!("+{said}\r\n"))
    });
    let (mut imap, mut pop) = (stage.gate.imap(ANN, APP), stage.gate.pop(ANN, APP));
    imap.send("NOOP");
    imap.wire.close_half();
    pop.wire.send("NOOP");
    pop.wire.close_half();
    assert_eq!(String::from_utf8(imap.wire.rest()).unwrap(), "t2 OK\r\n");
    assert_eq!(String::from_utf8(pop.wire.rest()).unwrap(), "+OK\r\n");
}

#[test]
fn a_peer_that_breaks_off_is_not_taken_for_one_that_has_said_all() {
    let stage = Stage::set("");
    let (tell, hear) = std::sync::mpsc::channel();
    stage.imap.plays(move |it| {
        it.lets_in()?;
        it.line()?;
        it.say("+ go\r\n")?;
        let end = it.bytes(100_000).map(drop).map_err(|error| error.kind());
        let _ = tell.send(end);
        Ok(())
    });
    let mut imap = stage.gate.imap(ANN, APP);
    imap.send("APPEND INBOX {100000}");
    assert_eq!(imap.wire.line(), "+ go");
    imap.wire.send_bytes(&[b'x'; 50_000]);
    imap.wire.reset();
    assert_eq!(hear.recv_timeout(Duration::from_secs(10)).unwrap(), Err(io::ErrorKind::ConnectionReset));
}
