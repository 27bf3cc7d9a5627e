//! The gate in front of another mail server: a real Dovecot, in both protocols, by each way to sign in there; and what the
//! gate promises of its own sessions holds for relayed ones too.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::time::{Duration, Instant};

use support::{
    ANN, APP, Gate, POLICY, Setup,
    cyrus::Cyrus,
    deflate::Deflated,
    dovecot::{Dovecot, free_port},
    wire::{Imap, Pop},
};

/// The password of the master user.
const MASTER: &str = "open-sesame";

/// Dovecot lets a master user in for everybody.
const WITH_MASTER: &str = "
auth_mechanisms = plain external xoauth2 oauthbearer
passdb {
  driver = static
  master = yes
  args = password=open-sesame
}
protocol imap {
  mail_plugins = zlib imap_zlib
}
";

/// A gate whose mail is all on a server at these ports, which it enters as master user.
fn gate_before(ports: (u16, u16), more: &str) -> Gate {
    let upstream = format!(
        "[mail]\ndefault = \"there\"\n[[upstream]]\nname = \"there\"\nimap = [\"localhost:{}\"]\npop3 = [\"localhost:{}\"]\n\
         ca_file = \"ca.pem\"\nhealth_s = 0\nlogin = {{ by = \"master\", user = \"gate\", secret_env = \"MASTER\" }}\n{more}\n",
        ports.0, ports.1
    );
    Gate::with(Setup { more: upstream, environment: vec![("MASTER", MASTER)], ..Setup::default() })
}

fn with_dovecot(more: &str) -> Option<(Gate, Dovecot)> {
    let ports = (free_port(), free_port());
    let gate = gate_before(ports, more);
    let dovecot = Dovecot::start_at(&gate, ports, WITH_MASTER)?;
    Some((gate, dovecot))
}

fn with_cyrus() -> Option<(Gate, Cyrus)> {
    let ports = (free_port(), free_port());
    let gate = gate_before(ports, "");
    let cyrus = Cyrus::start_at(&gate, ports, MASTER)?;
    Some((gate, cyrus))
}

/// Writes and reads mail by both protocols, and is refused what the gate does not let through.
fn use_it(gate: &Gate) {
    let mut imap = Imap::connect(gate);
    let token = gate.token(ANN, APP);
    let reply = imap.command(&format!("AUTHENTICATE XOAUTH2 {}", support::wire::xoauth2(ANN, &token)));
    assert!(reply.status.starts_with("OK [CAPABILITY IMAP4rev1 "), "{}", reply.status);
    assert!(!reply.status.contains(" AUTH=") && !reply.status.contains("UNAUTHENTICATE"), "{}", reply.status);
    let capability = imap.ok("CAPABILITY");
    assert!(
        capability.lines().iter().any(|line| line.starts_with("* CAPABILITY IMAP4rev1 ")),
        "{:?}",
        capability.lines()
    );
    let large = [&b"Subject: large\r\n\r\n"[..], &b"It goes on and on.\r\n".repeat(50_000)].concat();
    let letters: [&[u8]; 3] =
        [b"Subject: one\r\n\r\nfirst\r\n", b"Subject: two\r\n\r\n.\r\n..\r\nsecond\r\n", &large];
    for letter in letters {
        imap.append("INBOX", "\\Flagged", letter);
    }
    let bodies = |imap: &mut Imap| imap.read_all("INBOX").into_iter().map(|(_, body)| body).collect::<Vec<_>>();
    assert_eq!(bodies(&mut imap), letters);
    for forbidden in ["UNAUTHENTICATE", "LOGIN ann x", "PROXYAUTH ann"] {
        let refused = imap.command(forbidden);
        assert!(refused.status.starts_with("BAD"), "{forbidden}: {}", refused.status);
    }
    imap.ok("CREATE Work");
    imap.ok("SELECT INBOX");
    imap.ok("UID COPY 1:* Work");
    imap.ok("STORE 1 +FLAGS.SILENT (\\Deleted)");
    imap.ok("EXPUNGE");
    assert_eq!(bodies(&mut imap), letters[1..]);
    let bye = imap.command("LOGOUT");
    assert!(bye.status.starts_with("OK"), "{}", bye.status);

    let mut pop = Pop::connect(gate);
    pop.xoauth2(ANN, &token);
    assert!(pop.command("STAT").starts_with("+OK 2 "));
    let capa = String::from_utf8(pop.long("CAPA")).unwrap();
    assert!(capa.contains("UIDL\r\n") && !capa.contains("SASL") && !capa.contains("USER"), "{capa}");
    assert_eq!(pop.long("RETR 1"), letters[1]);
    assert_eq!(pop.long("RETR 2"), letters[2]);
    for forbidden in ["XWHAT", "USER ann", "STLS", "AUTH"] {
        assert!(pop.command(forbidden).starts_with("-ERR"), "{forbidden}");
    }
    assert!(pop.command("DELE 1").starts_with("+OK"));
    assert!(pop.command("QUIT").starts_with("+OK"));
    assert_eq!(bodies(&mut gate.imap(ANN, APP)), letters[2..]);
}

#[test]
fn mail_on_a_dovecot_is_read_and_written_through_the_gate() {
    let Some((gate, dovecot)) = with_dovecot("") else { return };
    use_it(&gate);
    assert_eq!(dovecot.imap(&gate, ANN).read_all("INBOX").len(), 1, "it is Dovecot's own mailbox");
}

#[test]
fn mail_on_a_cyrus_is_read_and_written_through_the_gate() {
    let Some((gate, _cyrus)) = with_cyrus() else { return };
    use_it(&gate);
}

#[test]
fn a_relayed_session_ends_with_the_right_to_it() {
    let Some((gate, _dovecot)) = with_dovecot("") else { return };
    let mut idle = gate.imap(ANN, APP);
    idle.ok("SELECT INBOX");
    idle.idle();
    let mut pop = gate.pop(ANN, APP);
    assert!(pop.command("STAT").starts_with("+OK 0 "));
    // In the middle of a message that the peer does not read.
    let mut busy = gate.imap(ANN, APP);
    let large = [&b"Subject: large\r\n\r\n"[..], &b"It goes on and on.\r\n".repeat(400_000)].concat();
    busy.append("INBOX", "", &large);
    busy.ok("SELECT INBOX");
    busy.send("FETCH 1 BODY[]");
    std::thread::sleep(Duration::from_millis(300));

    let began = Instant::now();
    gate.set_policy(
        &POLICY
            .replace("[unit.\"/\"]\nimap = \"any\"\npop = \"any\"", "[unit.\"/\"]\nimap = \"off\"\npop = \"off\""),
    );
    let (line, at) = idle.bye();
    assert!(line.starts_with("[CONTACTADMIN] IMAP access is disabled"), "{line}");
    assert!(at - began < Duration::from_secs(2), "{:?}", at - began);
    let rest = String::from_utf8_lossy(&pop.wire.rest()).into_owned();
    assert!(rest.starts_with("-ERR [SYS/PERM] POP access is disabled"), "{rest}");
    // It may come to its end, if the peer is quick; until then nothing of ours is in it.
    let rest = String::from_utf8(busy.wire.rest()).unwrap();
    let (head, body) = rest.split_once("\r\n").unwrap();
    assert!(head.starts_with("* 1 FETCH (") && head.ends_with(&format!("BODY[] {{{}}}", large.len())), "{head}");
    match body.split_at_checked(large.len()) {
        Some((_, behind)) => assert!(behind.starts_with(")\r\n") && behind.contains("\r\n* BYE ["), "{behind}"),
        None => assert!(!body.contains("BYE"), "a word of ours inside a message"),
    }
    assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
}

#[test]
fn compression_goes_through_to_the_peer() {
    let Some((gate, dovecot)) = with_dovecot("") else { return };
    let mut imap = gate.imap(ANN, APP);
    assert!(imap.ok("CAPABILITY").lines()[0].contains(" COMPRESS=DEFLATE"));
    // A command that the server answers comes first, and one that is sent without waiting after it.
    let (select, tag) = (imap.send("SELECT INBOX"), imap.send("COMPRESS DEFLATE"));
    let lines: Vec<String> = std::iter::from_fn(|| Some(imap.wire.line()))
        .take_while(|line| *line != format!("{tag} OK DEFLATE active"))
        .collect();
    let mut session = Deflated::over(imap.wire);
    if !lines.iter().any(|line| line.starts_with(&format!("{select} OK"))) {
        assert!(session.until(&select).last().unwrap().contains(" OK [READ-WRITE]"), "{lines:?}");
    }
    session.send("b COMPRESS DEFLATE");
    assert_eq!(session.line(), "b NO [COMPRESSIONACTIVE] Compression is active already");
    let message = [&b"Subject: long\r\n\r\n"[..], &b"again and again\r\n".repeat(20_000)].concat();
    session.send(&format!("c APPEND INBOX {{{}}}", message.len()));
    assert!(session.line().starts_with('+'));
    session.send_bytes(&message);
    session.send("");
    assert!(session.until("c").last().unwrap().starts_with("c OK"));
    session.send("d IDLE");
    assert!(session.line().starts_with('+'));
    dovecot.imap(&gate, ANN).append("INBOX", "", b"Subject: new\r\n\r\n");
    while session.line() != "* 2 EXISTS" {}
    session.send("DONE");
    assert!(session.until("d").last().unwrap().starts_with("d OK"));
    session.send("e UID FETCH 1 BODY.PEEK[]");
    let head = session.line();
    assert!(head.ends_with(&format!("{{{}}}", message.len())), "{head}");
    assert_eq!(session.bytes(message.len()), message);
    session.until("e");
    session.send("f LOGOUT");
    assert!(session.until("f").last().unwrap().starts_with("f OK"));
    assert_eq!(session.line_or_end(), None);
}

#[test]
fn commands_sent_without_waiting_are_all_answered() {
    let Some((gate, _dovecot)) = with_dovecot("") else { return };
    let mut imap = Imap::connect(&gate);
    let blob = support::wire::xoauth2(ANN, &gate.token(ANN, APP));
    imap.wire.send_bytes(
        format!(
            "a AUTHENTICATE XOAUTH2 {blob}\r\nb ID (\"name\" \"x\" \"x-originating-ip\" \"192.0.2.1\")\r\nc SELECT INBOX\r\n\
             d APPEND INBOX {{5+}}\r\na: b\n\r\ne LOGIN ann x\r\nf NOOP\r\ng CAPABILITY\r\nh LOGOUT\r\n"
        )
        .as_bytes(),
    );
    let text = String::from_utf8(imap.wire.rest()).unwrap();
    for (tag, status) in
        [("a", "OK"), ("b", "OK"), ("c", "OK"), ("d", "OK"), ("e", "BAD"), ("f", "OK"), ("g", "OK"), ("h", "OK")]
    {
        assert!(text.lines().any(|line| line.starts_with(&format!("{tag} {status}"))), "{tag}: {text}");
    }
    let row =
        gate.audit_with(&["--user", ANN], 2, |_| true).into_iter().find(|row| row["event"] == "session.ended");
    let detail = row.unwrap()["detail"].as_str().unwrap().to_owned();
    assert!(detail.starts_with("logout; ") && detail.contains("of upstream there"), "{detail}");
}

/// Dovecot skips a line that it makes nothing of, but takes the bytes of a literal behind it for commands.
#[test]
fn a_command_hidden_in_a_literal_is_not_carried_out() {
    let Some((gate, dovecot)) = with_dovecot("") else { return };
    for (n, start) in ["a NOOP {", "a FETCH 1 \"x {", "a NOOP{", "a XFOO {", "a SUBSCRIBE x y {"].iter().enumerate()
    {
        let mut imap = gate.imap(ANN, APP);
        let hidden = format!("b CREATE smuggled{n}\r\n");
        imap.wire.send_bytes(format!("{start}{}+}}\r\n{hidden}\r\nc NOOP\r\n", hidden.len()).as_bytes());
        let lines: Vec<String> =
            std::iter::from_fn(|| Some(imap.wire.line())).take_while(|line| !line.starts_with("c ")).collect();
        assert!(lines.iter().all(|line| !line.starts_with('+') && !line.starts_with("b ")), "{start}: {lines:?}");
    }
    let mut imap = gate.imap(ANN, APP);
    imap.wire.send_bytes(b"a IDLE {100}\r\nDONE\r\n");
    assert!(imap.wire.line().starts_with("a BAD"));
    let mut imap = gate.imap(ANN, APP);
    imap.wire.send_bytes(b"a NOOP\r\na APPEND INBOX {18}\r\n");
    let both = [imap.wire.line(), imap.wire.line()];
    assert!(
        both.iter().any(|line| line.starts_with("a BAD")) && !both.iter().any(|line| line.starts_with('+')),
        "{both:?}"
    );
    let folders = dovecot.imap(&gate, ANN).ok("LIST \"\" *").lines();
    assert!(!folders.iter().any(|line| line.contains("smuggled")), "{folders:?}");
}

/// A literal that a program sends without waiting reaches a server all the same, and its word for us is not passed on.
#[test]
fn a_program_that_does_not_wait_is_served() {
    let Some((gate, _dovecot)) = with_dovecot("") else { return };
    let mut imap = gate.imap(ANN, APP);
    let message = [&b"Subject: x\r\n\r\n"[..], &b"word \r\n".repeat(40_000)].concat();
    let text = format!("a SELECT {{5+}}\r\nINBOX\r\nb APPEND {{5+}}\r\nINBOX (\\Seen) {{{}+}}\r\n", message.len());
    imap.wire.send_bytes(&[text.as_bytes(), &message, b"\r\nc FETCH 1 RFC822.SIZE\r\nd LOGOUT\r\n"].concat());
    let heard = String::from_utf8(imap.wire.rest()).unwrap();
    assert!(heard.contains("\r\nb OK") && heard.contains(&format!("RFC822.SIZE {}", message.len())), "{heard}");
    assert!(!heard.contains("\r\n+") && heard.contains("\r\nd OK"), "{heard}");
}

/// What the gate answers by itself is bounded too, and so is what waits for a peer that compresses and does not read.
#[test]
fn a_peer_that_takes_nothing_holds_little_of_the_gate() {
    let Some((gate, dovecot)) = with_dovecot("") else { return };
    let mut direct = dovecot.imap(&gate, ANN);
    // Noise, which deflate makes no smaller.
    let mut seed = 7_u64;
    let noise: Vec<u8> = std::iter::repeat_with(|| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        b'0' + u8::try_from(seed >> 58).unwrap()
    })
    .take(24 * 1024 * 1024)
    .collect();
    let lines: Vec<u8> = noise.chunks(70).flat_map(|line| [line, b"\r\n"].concat()).collect();
    direct.append("INBOX", "", &lines);
    let mut imap = gate.imap(ANN, APP);
    imap.ok("SELECT INBOX");
    let tag = imap.send("COMPRESS DEFLATE");
    assert_eq!(imap.wire.line(), format!("{tag} OK DEFLATE active"));
    let (_, before) = gate.memory();
    let mut session = Deflated::over(imap.wire);
    session.send("a FETCH 1 BODY[]");
    let mut asking = gate.imap(ANN, APP);
    assert!(asking.wire.send_until_stuck(&b"a CAPABILITY\r\n".repeat(1000), 10_000), "it takes whatever comes");
    std::thread::sleep(Duration::from_secs(1));
    let (_, after) = gate.memory();
    assert!(after < before + 12 * 1024, "{before} KiB before, {after} KiB after");
}

#[test]
fn an_upstream_that_is_down_or_refuses_is_told_apart() {
    let Some((gate, dovecot)) = with_dovecot("connect_s = 2") else { return };
    drop(dovecot);
    let blob = support::wire::xoauth2(ANN, &gate.token(ANN, APP));
    let reply = Imap::connect(&gate).command(&format!("AUTHENTICATE XOAUTH2 {blob}"));
    assert!(reply.status.starts_with("NO [UNAVAILABLE] "), "{}", reply.status);
    let reply = Pop::connect(&gate).authenticate("XOAUTH2", &blob);
    assert!(reply.starts_with("-ERR [SYS/TEMP] "), "{reply}");
    let rows = gate.audit_with(&["--cause", "unavailable_upstream"], 2, |_| true);
    let detail = rows.last().unwrap()["detail"].as_str().unwrap();
    assert!(detail.contains("upstream there refuses connections"), "{detail}");
}

#[test]
fn mail_moves_between_the_store_and_a_server_and_is_read_only_and_limited_there_too() {
    let Some((gate, _dovecot)) = with_dovecot("") else { return };
    let root = "[unit.\"/\"]\n";
    let says = |lines: &str| POLICY.replace(root, &format!("{root}{lines}\n"));
    let subjects = |imap: &mut Imap| imap.read_all("INBOX").into_iter().map(|(_, body)| body).collect::<Vec<_>>();
    let moved = |imap: &mut Imap| {
        let text = imap.bye().0;
        assert!(text.starts_with("[UNAVAILABLE] This mailbox has moved to another server."), "{text}");
    };
    let mut there = gate.imap(ANN, APP);
    there.append("INBOX", "", b"Subject: there\r\n\r\nthere\r\n");
    there.ok("SELECT INBOX");
    there.idle();
    // What `mail.default` says already moves nothing.
    gate.set_policy(&says("mail = \"there\""));
    assert!(there.wire.is_silent_for(Duration::from_millis(800)));
    gate.set_policy(&says("mail = \"maildir\""));
    moved(&mut there);
    let mut here = gate.imap(ANN, APP);
    assert!(subjects(&mut here).is_empty(), "another mailbox");
    here.append("INBOX", "", b"Subject: here\r\n\r\nhere\r\n");
    // A user's own home beats the unit's; a server that the upstream does not have is refused, and changes nothing.
    let pinned = |home: &str| {
        let user = "[user.\"ann@example.com\"]\n";
        says("mail = \"maildir\"").replace(user, &format!("{user}mail = \"{home}\"\n"))
    };
    gate.set_policy(&pinned("there/LOCALHOST"));
    moved(&mut here);
    let mut there = gate.imap(ANN, APP);
    assert_eq!(subjects(&mut there), [b"Subject: there\r\n\r\nthere\r\n"]);
    gate.set_policy(&pinned("there/elsewhere.internal"));
    gate.wait_for_log("the upstream there has no server elsewhere.internal");
    there.ok("NOOP");
    let knock = || {
        let blob = support::wire::xoauth2(ANN, &gate.token(ANN, APP));
        Imap::connect(&gate).command(&format!("AUTHENTICATE XOAUTH2 {blob}")).status
    };

    gate.set_policy(&says("read_only = true"));
    let (text, _) = there.bye();
    assert!(text.starts_with("[NOPERM]") || text.starts_with("[UNAVAILABLE]"), "{text}");
    let mut reader = gate.imap(ANN, APP);
    assert_eq!(subjects(&mut reader), [b"Subject: there\r\n\r\nthere\r\n"]);
    assert!(reader.command("CREATE Mine").status.starts_with("NO [NOPERM]"));
    gate.set_policy(&says("bytes_per_day = 1"));
    // What was before there was a limit does not count.
    assert!(reader.wire.is_silent_for(Duration::from_millis(2_500)), "{}", reader.wire.line());
    reader.send("NOOP");
    let (text, _) = reader.bye();
    assert!(text.starts_with("[LIMIT] Your limit of 1 bytes a day is used up."), "{text}");
    assert!(knock().starts_with("NO [LIMIT] Your limit of 1 bytes a day is used up."), "{}", knock());
}
