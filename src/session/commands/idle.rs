//! IDLE (RFC 2177): news as they come, until the line DONE.

use std::future::pending;

use tokio::time::Instant;

use super::{
    news::{Selected, mailbox_gone},
    reply::{Answer, Reply},
};
use crate::imap::{frame::Line, write};
use crate::session::{Ending, login::Dialog};

pub(super) async fn idle(dialog: &mut Dialog, mut selected: Option<&mut Selected>) -> Answer {
    write::continuation(&mut dialog.link.wire.out, "idling");
    let end = Instant::now() + dialog.link.house.limits.imap_idle;
    loop {
        if let Some(selected) = selected.as_deref_mut() {
            if selected.view.is_gone() {
                return Err(mailbox_gone(dialog));
            }
            selected.tell_news(dialog, true).await?;
        }
        match dialog.framer.next_line() {
            Line::Text(line) if line.reveal().eq_ignore_ascii_case("DONE") => return Ok(Reply::ok("IDLE done")),
            Line::Text(_) => return Ok(Reply::bad("IDLE ends with DONE")),
            Line::Bad(bad) => {
                bad.write(&mut dialog.link.wire.out);
                return Err(Ending::Told(bad.text));
            }
            Line::Read => {}
        }
        let news = async {
            match selected.as_deref_mut() {
                Some(selected) => selected.view.changed().await,
                None => pending().await,
            }
        };
        // Both branches may be dropped: input is in the framer or unread, output leaves its buffer as it is sent.
        tokio::select! {
            heard = dialog.hear(end.saturating_duration_since(Instant::now())) => heard?,
            () = news => {}
        }
    }
}
