"""Python's imaplib: signs in with XOAUTH2, writes every message of every folder to $HOME/mail, sets flags and appends.

Values come as environment variables: IMAPS, CA, USER, TOKEN (or PASSWORD). What the server refuses with is printed.
"""

import imaplib
import os
import re
import ssl
import sys

env = os.environ
context = ssl.create_default_context(cafile=env["CA"])
imap = imaplib.IMAP4_SSL("localhost", int(env["IMAPS"]), ssl_context=context, timeout=30)
try:
    if "PASSWORD" in env:
        imap.login(env["USER"], env["PASSWORD"])
    else:
        mechanism = env.get("AUTH", "XOAUTH2")
        bearer = f"auth=Bearer {env['TOKEN']}\1\1"
        first = f"user={env['USER']}\1" if mechanism == "XOAUTH2" else f"n,a={env['USER']},\1host=localhost\1port={env['IMAPS']}\1"
        answers = [first + bearer, "\1"]
        imap.authenticate(mechanism, lambda challenge: answers.pop(0).encode())
except imaplib.IMAP4.error as error:
    print("refused:", error)
    sys.exit(1)

_, folders = imap.list()
names = [re.match(rb'\(.*?\) (?:"."|NIL) (.*)$', line).group(1).decode() for line in folders]
os.makedirs(os.path.join(env["HOME"], "mail", "new"))
for number, name in enumerate(sorted(names)):
    status, (count,) = imap.select(name, readonly=True)
    assert status == "OK", (name, count)
    for n in range(1, int(count) + 1):
        _, data = imap.fetch(str(n), "(RFC822)")
        whole = data[0][1]
        _, (size,) = imap.fetch(str(n), "(RFC822.SIZE)")
        assert f"RFC822.SIZE {len(whole)}".encode() in size, (name, n, size, len(whole))
        _, data = imap.fetch(str(n), "(BODY.PEEK[HEADER] BODY.PEEK[TEXT])")
        parts = [part[1] for part in data if isinstance(part, tuple)]
        assert b"".join(parts) == whole, (name, n, "HEADER and TEXT do not add up")
        _, data = imap.fetch(str(n), "(BODY.PEEK[]<100.50>)")
        assert data[0][1] == whole[100:150], (name, n, "partial")
        with open(os.path.join(env["HOME"], "mail", "new", f"{number}-{n}"), "wb") as out:
            out.write(whole)
    imap.close()

assert imap.select("INBOX")[0] == "OK"
print(imap.store("1", "+FLAGS", r"(\Seen \Flagged $Forwarded)"))
print(imap.store("2", "FLAGS", r"(\Answered)"))
_, (found,) = imap.search("UTF-8", "SUBJECT", "plain")
print("found", found)
assert imap.append("INBOX", r"(\Draft)", imaplib.Time2Internaldate(1_700_000_000), b"Subject: appended\r\n\r\nby imaplib\r\n")[0] == "OK"
imap.close()
imap.logout()
