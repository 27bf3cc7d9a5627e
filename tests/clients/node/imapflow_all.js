// imapflow: signs in, reads every message of every folder into $HOME/mail/new, sets flags, appends, moves, hears news
// in IDLE. Values come as environment variables: IMAPS, CA, USER, TOKEN (or PASSWORD). A refusal is printed.
import { ImapFlow } from 'imapflow';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import assert from 'node:assert';

const { IMAPS, CA, USER, TOKEN, PASSWORD, HOME } = process.env;
const client = new ImapFlow({
    host: 'localhost',
    port: Number(IMAPS),
    secure: true,
    tls: { ca: readFileSync(CA) },
    auth: PASSWORD ? { user: USER, pass: PASSWORD } : { user: USER, accessToken: TOKEN },
    logger: process.env.DEBUG ? undefined : false
});
client.on('error', (error) => console.error('error event:', error.message));

try {
    await client.connect();
} catch (error) {
    console.log('refused:', error.responseText ?? error.message, error.serverResponseCode ?? '', JSON.stringify(error.oauthError ?? null));
    process.exit(1);
}

const folder = join(HOME, 'mail', 'new');
mkdirSync(folder, { recursive: true });
const list = await client.list({ statusQuery: { messages: true, uidNext: true, unseen: true } });
console.log('folders', JSON.stringify(list.map((box) => [box.path, box.specialUse ?? null, box.subscribed, box.status?.messages])));
let number = 0;
for (const box of list) {
    const lock = await client.getMailboxLock(box.path, { readOnly: true });
    try {
        if (!client.mailbox.exists) continue;
        for await (const message of client.fetch('1:*', { source: true, size: true, envelope: true, bodyStructure: true, flags: true, internalDate: true })) {
            assert.equal(message.source.length, message.size, `${box.path} ${message.uid}`);
            assert.ok(message.envelope && message.bodyStructure, `${box.path} ${message.uid}`);
            writeFileSync(join(folder, String(number++)), message.source);
        }
        // The download of single parts, with offsets, of a message in nested parts.
        const [nested] = await client.search({ subject: 'nested' }, { uid: true }) || [];
        if (nested) {
            const { content } = await client.download(String(nested), '2', { uid: true });
            let text = '';
            for await (const chunk of content) text += chunk;
            assert.match(text, /innermost/);
        }
    } finally {
        lock.release();
    }
}

const lock = await client.getMailboxLock('INBOX');
assert.ok(await client.messageFlagsAdd('1', ['\\Seen', '\\Flagged', '$Label1']));
assert.ok(await client.messageFlagsSet('2', ['\\Answered']));
const appended = await client.append('INBOX', Buffer.from('Subject: appended\r\n\r\nby imapflow\r\n'), ['\\Draft'], new Date('2023-11-14T22:13:20Z'));
assert.ok(appended.uid && appended.uidValidity, 'APPENDUID');
const made = await client.mailboxCreate(['Öffentlich', '日報']);
const moved = await client.messageMove(String(appended.uid), made.path, { uid: true });
assert.ok(moved.uidMap.has(appended.uid), 'COPYUID');

// News while in IDLE: another connection appends.
const news = new Promise((resolve, reject) => {
    client.on('exists', resolve);
    setTimeout(() => reject(new Error('no news in IDLE within 20 s')), 20000).unref();
});
client.idle().catch(() => {});
await new Promise((resolve) => setTimeout(resolve, 300));
const other = new ImapFlow({ ...client.options, auth: { user: USER, accessToken: TOKEN } });
await other.connect();
await other.append('INBOX', Buffer.from('Subject: news\r\n\r\nnews\r\n'));
await other.logout();
const heard = await news;
console.log('news', heard.prevCount, heard.count);
lock.release();
await client.logout();
console.log('done');
process.exit(0);
