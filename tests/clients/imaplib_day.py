"""Python's imaplib: a day with the mailbox that tests/clients_day.rs makes.

Values come as environment variables: IMAPS, CA, USER, TOKEN.
"""

import imaplib
import os
import ssl

env = os.environ
context = ssl.create_default_context(cafile=env["CA"])
imap = imaplib.IMAP4_SSL("localhost", int(env["IMAPS"]), ssl_context=context, timeout=30)
bearer = f"user={env['USER']}\1auth=Bearer {env['TOKEN']}\1\1"
imap.authenticate("XOAUTH2", lambda _: bearer.encode())


def ok(answer):
    assert answer[0] == "OK", answer
    return answer[1]


ok(imap.create("Work"))
ok(imap.subscribe("Work"))
assert any(line.endswith(b" Work") for line in ok(imap.list()))
assert any(line.endswith(b" Work") for line in ok(imap.lsub()))
assert ok(imap.select("INBOX")) == [b"8"]
ok(imap.store("2", "+FLAGS", r"(\Flagged)"))
ok(imap.copy("3", "Work"))
imap.literal = b"ZEBRA"
found = ok(imap.uid("SEARCH", "CHARSET", "UTF-8", "BODY"))
assert found == [b"4"], found
ok(imap.uid("COPY", "4", "Work"))
ok(imap.uid("STORE", "4:5", "+FLAGS.SILENT", r"(\Deleted)"))
gone = sorted(ok(imap.expunge())) # as 5 and 4, or 4 twice
assert gone in ([b"4", b"4"], [b"4", b"5"]), gone
ok(imap.fetch("4", "(RFC822)"))
ok(imap.append("Sent", r"(\Seen)", None, b"Subject: by imaplib\r\n\r\nA letter.\r\n"))
capabilities = imap.capabilities
if "SORT" in capabilities:
    assert ok(imap.sort("(REVERSE SUBJECT)", "UTF-8", "ALL")) == [b"6 5 4 3 2 1"]
if "THREAD=REFERENCES" in capabilities:
    assert ok(imap.thread("REFERENCES", "UTF-8", "ALL")) == [b"(1)(2)(3)(4)(5)(6)"]
if "QUOTA" in capabilities:
    print(ok(imap.getquotaroot("INBOX")))
imap.close()
imap.logout()
