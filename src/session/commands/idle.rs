//! IDLE (RFC 2177): news as they come, until the line DONE; and news between commands, for who asked for them (RFC 5465).

use std::future::pending;

use tokio::time::Instant;

use super::{
    Stage,
    news::{Wish, mailbox_gone},
    notify::{self, Ears},
    reply::{Answer, Reply},
};
use crate::imap::{frame::Line, write};
use crate::maildir::{MailError, Maildir};
use crate::session::{Ending, login::Dialog};

pub(super) async fn idle(
    dialog: &mut Dialog,
    mail: &Maildir,
    stage: &mut Stage,
    mut ears: Option<&mut Ears>,
) -> Answer {
    write::continuation(&mut dialog.link.wire.out, "idling");
    let end = Instant::now() + dialog.link.house.limits.imap_idle;
    loop {
        tell(dialog, mail, stage, ears.as_deref_mut(), true).await?;
        match dialog.framer.next_line() {
            Line::Text(line) if line.reveal().eq_ignore_ascii_case("DONE") => return Ok(Reply::ok("IDLE done")),
            Line::Text(_) => return Ok(Reply::bad("IDLE ends with DONE")),
            Line::Bad(bad) => {
                bad.write(&mut dialog.link.wire.out);
                return Err(Ending::Told(bad.text));
            }
            Line::Read => {}
        }
        let listens = ears.as_deref().is_none_or(|ears| ears.selected().is_none() || wants_messages(ears));
        wait(dialog, stage, ears.as_deref(), listens, end).await?;
    }
}

/// Waits for input between two commands, and tells meanwhile what NOTIFY or ENABLE METADATA asks for.
pub(super) async fn hear(
    dialog: &mut Dialog,
    mail: &Maildir,
    stage: &mut Stage,
    ears: &mut Ears,
) -> Result<(), Ending> {
    let end = Instant::now() + dialog.link.house.limits.imap_idle;
    loop {
        let listens = wants_messages(ears);
        tell(dialog, mail, stage, Some(ears), false).await?;
        if wait(dialog, stage, Some(ears), listens, end).await? {
            return Ok(());
        }
    }
}

/// Whether news of the open mailbox are asked for at any time.
fn wants_messages(ears: &Ears) -> bool {
    ears.selected().flatten().is_some_and(|selected| selected.messages)
}

/// Tells what there is to tell: in IDLE what is told without NOTIFY too, and removals in any case.
async fn tell(
    dialog: &mut Dialog,
    mail: &Maildir,
    stage: &mut Stage,
    ears: Option<&mut Ears>,
    idle: bool,
) -> Result<(), Ending> {
    let asked = ears.as_deref().and_then(Ears::selected);
    let wish = match asked {
        None if idle => Wish::AsEver,
        None => Wish::Nothing,
        Some(_) => Wish::of(asked),
    };
    let may_expunge = idle || asked.flatten().is_some_and(|selected| !selected.delayed);
    if let Stage::Open(selected) = stage {
        let awake = selected.view.wake_for_news().await;
        if selected.view.is_gone() || matches!(awake, Err(MailError::FolderGone)) {
            return Err(mailbox_gone(dialog));
        }
        if Box::pin(selected.tell_news(dialog, may_expunge, wish, &[])).await? {
            selected.tell_behind(dialog);
        }
    }
    if let Some(ears) = ears {
        Box::pin(notify::tell(dialog, mail, stage, ears)).await?;
    }
    Ok(())
}

/// Waits for input or news, at most until `end`; whether it was input. Cancel-safe: input is in the framer or unread,
/// output leaves its buffer as it is sent.
async fn wait(
    dialog: &mut Dialog,
    stage: &mut Stage,
    ears: Option<&Ears>,
    listens: bool,
    end: Instant,
) -> Result<bool, Ending> {
    let news = async {
        match stage {
            Stage::Open(selected) if listens => selected.view.changed().await,
            _ => pending().await,
        }
    };
    let told = async {
        match ears {
            Some(ears) => ears.told().await,
            None => pending().await,
        }
    };
    tokio::select! {
        heard = dialog.hear(end.saturating_duration_since(Instant::now())) => heard.map(|()| true),
        () = news => Ok(false),
        () = told => Ok(false),
    }
}
