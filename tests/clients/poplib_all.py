"""Python's poplib: signs in by AUTH on one line and on two, writes every message to $HOME/mail.

Values come as environment variables: POP3S, CA, USER, TOKEN (or PASSWORD), AUTH. A refusal is printed.
"""

import base64
import os
import poplib
import ssl
import sys

poplib._MAXLINE = 1 << 20  # its own limit of 2048 octets a line is below what mail has

env = os.environ
context = ssl.create_default_context(cafile=env["CA"])


def sign_in(lines):
    pop = poplib.POP3_SSL("localhost", int(env["POP3S"]), context=context, timeout=30)
    try:
        if "PASSWORD" in env:
            pop.user(env["USER"])
            pop.pass_(env["PASSWORD"])
            return pop
        mechanism = env.get("AUTH", "XOAUTH2")
        bearer = f"auth=Bearer {env['TOKEN']}\1\1"
        first = f"user={env['USER']}\1" if mechanism == "XOAUTH2" else f"n,a={env['USER']},\1host=localhost\1port={env['POP3S']}\1"
        response = base64.b64encode((first + bearer).encode()).decode()
        if lines == 1:
            reply = pop._shortcmd(f"AUTH {mechanism} {response}")
        else:
            pop._putcmd(f"AUTH {mechanism}")
            challenge = pop._getline()[0]
            assert challenge.startswith(b"+"), challenge
            reply = pop._shortcmd(response)
        if not reply.startswith(b"+OK"):  # the error challenge: poplib takes any "+" for a yes
            reply = pop._shortcmd("AQ==")
        return pop
    except poplib.error_proto as error:
        print("refused:", error)
        sys.exit(1)


sign_in(1).quit()
pop = sign_in(2)
print(sorted(pop.capa()))
assert "USER" not in pop.capa()
count, total = pop.stat()
sizes = [int(line.split()[1]) for line in pop.list()[1]]
assert len(sizes) == count and sum(sizes) == total, (count, total, sizes)
uidls = [line.split()[1] for line in pop.uidl()[1]]
assert len(set(uidls)) == count
os.makedirs(os.path.join(env["HOME"], "mail", "new"))
for n in range(1, count + 1):
    message = b"".join(line + b"\r\n" for line in pop.retr(n)[1])
    head = b"".join(line + b"\r\n" for line in pop.top(n, 0)[1])
    assert message.startswith(head.rstrip(b"\r\n")), n
    # RFC 1939 ends every message with CRLF, so that one stored without it reads two octets longer.
    assert len(message) - sizes[n - 1] in (0, 2), (n, len(message), sizes[n - 1])
    with open(os.path.join(env["HOME"], "mail", "new", str(n)), "wb") as out:
        out.write(message)
pop.quit()

# UIDLs are the same in the next session, and DELE takes effect at QUIT only.
pop = sign_in(1)
assert [line.split()[1] for line in pop.uidl()[1]] == uidls
pop.dele(1)
pop.close()
pop = sign_in(1)
assert [line.split()[1] for line in pop.uidl()[1]] == uidls
pop.dele(1)
pop.quit()
pop = sign_in(1)
assert [line.split()[1] for line in pop.uidl()[1]] == uidls[1:]
pop.quit()
print("done")
