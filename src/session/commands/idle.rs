//! IDLE (RFC 2177): news as they come, until the line DONE.

use std::future::pending;

use tokio::time::Instant;

use super::{Answer, Reply, mailbox_gone, tell_news};
use crate::imap::{frame::Line, write};
use crate::maildir::View;
use crate::session::{Ending, login::Dialog};

pub(super) async fn idle(dialog: &mut Dialog, mut view: Option<&mut View>) -> Answer {
    write::continuation(&mut dialog.wire.out, "idling");
    let end = Instant::now() + dialog.house.limits.imap_idle;
    loop {
        if let Some(view) = view.as_deref_mut() {
            tell_news(dialog, view, true);
            if view.is_gone() {
                return Err(mailbox_gone(dialog));
            }
        }
        match dialog.framer.next_line() {
            Line::Text(line) if line.reveal().eq_ignore_ascii_case("DONE") => return Ok(Reply::ok("IDLE done")),
            Line::Text(_) => return Ok(Reply::bad("IDLE ends with DONE")),
            Line::Bad(bad) => {
                bad.write(&mut dialog.wire.out);
                return Err(Ending::Unreadable(bad.text));
            }
            Line::Read => {}
        }
        let news = async {
            match view.as_deref_mut() {
                Some(view) => view.changed().await,
                None => pending().await,
            }
        };
        tokio::select! {
            heard = dialog.hear(end.saturating_duration_since(Instant::now())) => heard?,
            () = news => {}
        }
    }
}
