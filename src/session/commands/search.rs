//! SEARCH and UID SEARCH (RFC 3501 section 6.4.4): which messages fit. A key is judged on what is known so far; only
//! where that does not decide is the header read, and only then the bodies. The keys themselves are judged in `plan`.

mod plan;

use super::{
    reply::{Answer, Reply, refuse},
    source,
};
use crate::imap::{
    command::{Search, SearchKey},
    write::SearchLine,
};
use crate::maildir::{MailError, MessageReader, View};
use crate::message::{self, Piece, TextDecoder};
use crate::session::login::Dialog;
use plan::{Facts, Plan};

/// Most decoded bytes of one text part that are searched. In bytes.
const MAX_TEXT: u64 = 10 * 1024 * 1024;
/// Numbers that are written before they are pushed out.
const BATCH: usize = 1000;

pub(super) async fn search(dialog: &mut Dialog, view: &View, search: &Search) -> Answer {
    let plan = Plan::new(&search.key, view);
    let (mut found, mut highest) = (Vec::new(), None);
    let by_modseq = search.key.any(&|key| matches!(key, SearchKey::Modseq(_)));
    for number in 1..=view.len() {
        dialog.link.may_go_on()?;
        tokio::task::consume_budget().await;
        let Some(meta) = view.message(number) else { continue };
        let (uid, modseq) = (meta.uid, meta.modseq);
        let mut facts = Facts { number, meta, header: None, texts: None };
        let fits = match plan.judge(&search.key, &facts) {
            Some(fits) => fits,
            None => {
                let limits = &dialog.link.house.limits.message;
                match look_inside(view, &plan, &search.key, &mut facts, limits).await {
                    Ok(fits) => fits,
                    // A message that another session removed meanwhile fits nothing any more.
                    Err(MailError::Gone { .. }) => false,
                    Err(error) => return Ok(refuse(dialog, &error)),
                }
            }
        };
        if fits {
            found.push(if search.uid { uid } else { number });
            highest = highest.max(Some(modseq).filter(|_| by_modseq));
        }
    }
    let wire = &mut dialog.link.wire;
    wire.begin_long();
    let line = SearchLine::start(&mut wire.out);
    for batch in found.chunks(BATCH) {
        line.numbers(&mut wire.out, batch);
        wire.push().await?;
    }
    if let Some(modseq) = highest {
        line.modseq(&mut wire.out, modseq);
    }
    line.end(&mut wire.out);
    wire.end_long();
    Ok(Reply::ok("SEARCH done"))
}

async fn look_inside(
    view: &View,
    plan: &Plan<'_>,
    key: &SearchKey,
    facts: &mut Facts,
    limits: &message::Limits,
) -> Result<bool, MailError> {
    let mut reader = view.read(facts.number).await?;
    facts.header = Some(source::header(&mut reader, limits.header_bytes).await?);
    if let Some(fits) = plan.judge(key, facts) {
        return Ok(fits);
    }
    facts.texts = Some(texts(&mut reader, plan, limits).await?);
    Ok(plan.judge(key, facts).unwrap_or(false))
}

/// Which of the plan's needles are in the message.
async fn texts(
    reader: &mut MessageReader,
    plan: &Plan<'_>,
    limits: &message::Limits,
) -> Result<Vec<bool>, MailError> {
    let structure = source::structure(reader, limits).await?;
    let mut found = vec![false; plan.needles.len()];
    for headers in [false, true] {
        if !plan.needles.iter().any(|needle| needle.headers == headers) {
            continue;
        }
        for piece in structure.pieces(headers) {
            let mut text = String::new();
            let mut seekers: Vec<_> = plan.needles.iter().map(|needle| needle.text.matcher()).collect();
            let mut look = |text: &str| {
                for ((seeker, found), needle) in seekers.iter_mut().zip(&mut found).zip(&plan.needles) {
                    *found |= needle.headers == headers && !*found && seeker.feed(text);
                }
            };
            match piece {
                Piece::Header(range) => {
                    let block = source::header_bytes(reader, range, limits.header_bytes).await?;
                    look(&message::decode_header_block(&block));
                }
                Piece::Text(part) => {
                    let mut decoder = TextDecoder::new(part, MAX_TEXT);
                    reader.select(part.body());
                    while let Some(chunk) = reader.next().await? {
                        text.clear();
                        let more = decoder.feed(&chunk, &mut text);
                        look(&text);
                        tokio::task::consume_budget().await;
                        if !more {
                            break;
                        }
                    }
                    text.clear();
                    decoder.finish(&mut text);
                    look(&text);
                }
            }
        }
    }
    Ok(found)
}
