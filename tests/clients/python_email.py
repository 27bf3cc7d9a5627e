"""What offlineimap (first argument) or getmail make of a message, a file (second argument): both take each apart and put
it together again with Python's `email` package, by the policies named here.
"""

import sys
from email import message_from_bytes, policy

program, name = sys.argv[1:]
with open(name, "rb") as file:
    whole = file.read()
if program == "offlineimap":
    read = policy.default.clone(cte_type="8bit", utf8=True, refold_source="none", linesep="\r\n")
    write = read.clone(linesep="\n")
else:
    read, write = policy.compat32, policy.compat32.clone(linesep="\n")
sys.stdout.buffer.write(message_from_bytes(whole, policy=read).as_bytes(policy=write))
