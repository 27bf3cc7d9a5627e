//! A look at a server from time to time: it takes a connection, TLS is in order, and it greets. So a server that is down is
//! passed over before somebody has to wait for it, and one that is back is used again; whether people can sign in there is
//! for them to find out. Run by `upstreams`.

use std::{io, sync::Arc, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{
    Stream,
    breaker::{Stage, Way},
    connect,
    error::UpstreamError,
    servers::Server,
};
use crate::metrics::UpstreamFailure;
use crate::model::Service;

/// A server in use that failed once is looked at again after this, so that a handful of seconds is enough to be sure.
const AGAIN: Duration = Duration::from_secs(1);
/// Longest greeting, in bytes.
const MAX_GREETING: usize = 8 * 1024;
/// How long the server may take to say goodbye.
const GOODBYE: Duration = Duration::from_secs(1);

/// Looks at the server at once and then from time to time, until `stop`.
pub(super) async fn watch(server: Arc<Server>, every: Duration, stop: CancellationToken) {
    loop {
        let Some(well) = stop.run_until_cancelled(look(&server)).await else { return };
        let unsure = !well && server.standing().up;
        let pause = if unsure { AGAIN.min(every) } else { every };
        if stop.run_until_cancelled(sleep(pause)).await.is_none() {
            return;
        }
    }
}

/// Whether the server does well; what it fails with is noted.
async fn look(server: &Server) -> bool {
    // A server that is left alone is looked at all the same; when its time for a trial has come, this is the trial.
    let tried = matches!(server.enter(Stage::Greeting), Way::Trial(_));
    match greeted(server).await {
        Ok(stream) => {
            server.succeeded(Stage::Greeting);
            leave(stream, server.service()).await;
            true
        }
        Err(error) => {
            server.failed(
                Stage::Greeting,
                None,
                tried,
                error.failure().unwrap_or(UpstreamFailure::Greeting),
                &error,
            );
            false
        }
    }
}

/// A connection on which the server has greeted.
async fn greeted(server: &Server) -> Result<Stream, UpstreamError> {
    let (upstream, address, service) = (server.upstream(), server.address(), server.service());
    let mut stream = connect::open(server, None).await?;
    let limit = server.greeting_limit;
    let line = timeout(limit, first_line(&mut stream)).await.map_err(|_| UpstreamError::TimedOut {
        upstream: upstream.to_owned(),
        server: address.to_string(),
        step: "the greeting",
        limit,
    })?;
    let said = match line {
        Ok(line) if greets(service, &line) => return Ok(stream),
        Ok(line) => shown(&line),
        Err(error) => format!("it broke off ({error})"),
    };
    Err(UpstreamError::Greeting { upstream: upstream.to_owned(), server: address.to_string(), service, said })
}

/// The first line, or what there is of it when it is longer than any greeting.
async fn first_line(stream: &mut Stream) -> io::Result<Vec<u8>> {
    let mut line = Vec::with_capacity(512);
    loop {
        let mut chunk = [0; 512];
        let count = stream.read(&mut chunk).await?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        line.extend_from_slice(chunk.get(..count).unwrap_or_default());
        if let Some(end) = memchr::memchr(b'\n', &line) {
            line.truncate(end);
            return Ok(line);
        }
        if line.len() > MAX_GREETING {
            return Ok(line);
        }
    }
}

/// `* OK` (RFC 9051 section 7.1.1), `+OK` (RFC 1939 section 4). A server that wants no sign-in (PREAUTH) is none of ours.
fn greets(service: Service, line: &[u8]) -> bool {
    let word: &[u8] = match service {
        Service::Imap => b"* OK",
        Service::Pop => b"+OK",
    };
    let Some((start, rest)) = line.split_at_checked(word.len()) else { return false };
    start.eq_ignore_ascii_case(word) && rest.first().is_none_or(|byte| matches!(byte, b' ' | b'\r'))
}

/// What a server said, for the log.
fn shown(line: &[u8]) -> String {
    let text = String::from_utf8_lossy(line);
    format!("{:?}", text.trim_end().chars().take(200).collect::<String>())
}

/// Says goodbye, so that the server does not note a connection that broke.
async fn leave(mut stream: Stream, service: Service) {
    let word: &[u8] = match service {
        Service::Imap => b"a LOGOUT\r\n",
        Service::Pop => b"QUIT\r\n",
    };
    let goodbye = async {
        stream.write_all(word).await?;
        stream.flush().await?;
        let mut chunk = [0; 512];
        // Whatever it says, within the time there is, until it hangs up.
        while stream.read(&mut chunk).await? > 0 {}
        stream.shutdown().await
    };
    // It did well already; how it says goodbye is its own affair.
    let _ = timeout(GOODBYE, goodbye).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_greeting_is_that_of_the_protocol() {
        for (service, line, expected) in [
            (Service::Imap, "* OK [CAPABILITY IMAP4rev1] ready\r", true),
            (Service::Imap, "* ok", true),
            (Service::Imap, "* PREAUTH welcome", false),
            (Service::Imap, "* BYE not now", false),
            (Service::Imap, "* OKAY", false),
            (Service::Imap, "+OK", false),
            (Service::Imap, "", false),
            (Service::Pop, "+OK ready <1@mail>", true),
            (Service::Pop, "+OK\r", true),
            (Service::Pop, "+OKAY", false),
            (Service::Pop, "-ERR not now", false),
            (Service::Pop, "HTTP/1.1 400 Bad Request", false),
        ] {
            assert_eq!(greets(service, line.as_bytes()), expected, "{service} {line:?}");
        }
        assert_eq!(shown(b"* BYE \x1b[31mno\r"), "\"* BYE \\u{1b}[31mno\"");
    }
}
