// imapflow: a day with the mailbox that tests/clients_day.rs makes. Values come as environment variables: IMAPS, CA, USER, TOKEN.
import { ImapFlow } from 'imapflow';
import { readFileSync } from 'node:fs';
import assert from 'node:assert';

const { IMAPS, CA, USER, TOKEN } = process.env;
const client = new ImapFlow({
    host: 'localhost',
    port: Number(IMAPS),
    secure: true,
    tls: { ca: readFileSync(CA) },
    auth: { user: USER, accessToken: TOKEN },
    logger: process.env.DEBUG ? undefined : false
});
await client.connect();
assert.ok((await client.mailboxCreate('Work')).created);
assert.ok((await client.list()).some((folder) => folder.path === 'Work' && folder.subscribed));
const lock = await client.getMailboxLock('INBOX');
assert.ok(await client.messageFlagsAdd({ header: { subject: 'letter 1' } }, ['\\Flagged']));
assert.ok(await client.messageCopy('3', 'Work'));
const found = await client.search({ body: 'ZEBRA' }, { uid: true });
assert.deepEqual(found, [4]);
assert.ok(await client.messageMove(found, 'Work', { uid: true }));
assert.ok(await client.messageDelete('5', { uid: true }));
const { content } = await client.download('6', undefined, { uid: true });
let text = '';
for await (const chunk of content) text += chunk;
assert.match(text, /Horse number 5/);
assert.ok(await client.messageFlagsAdd('6', ['\\Seen'], { uid: true }));
assert.ok(await client.append('Sent', Buffer.from('Subject: by imapflow\r\n\r\nA letter.\r\n'), ['\\Seen']));
if (client.capabilities.has('QUOTA')) console.log('quota', JSON.stringify(await client.getQuota('INBOX')));
if (client.capabilities.has('CONDSTORE')) {
    const before = client.mailbox.highestModseq;
    assert.ok(before > 0n);
    await client.messageFlagsAdd('7', ['$Label1'], { uid: true });
    const changed = [];
    for await (const message of client.fetch('1:*', { flags: true }, { changedSince: before })) changed.push(message.uid);
    assert.deepEqual(changed, [7]);
}
lock.release();
await client.logout();
console.log('done');
