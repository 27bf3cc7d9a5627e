"""What a service manager does with sockets: binds them, puts them at descriptors 3 and up, and becomes the program.

passing.py NAMES KINDS PROGRAM ARGUMENT...: names are separated by colons, kinds (tcp, udp, deaf, unix, none) by commas.
"""

import os
import socket
import sys

names, kinds, program = sys.argv[1], sys.argv[2].split(","), sys.argv[3:]
held = []
for kind in kinds:
    if kind == "none":
        continue
    if kind == "unix":
        one = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        one.bind("\0portcullis-test-%d" % os.getpid())
        one.listen()
    else:
        one = socket.socket(socket.AF_INET, socket.SOCK_DGRAM if kind == "udp" else socket.SOCK_STREAM)
        one.bind(("127.0.0.1", 0))
        if kind == "tcp":
            one.listen(128)
    # Out of the way of the places they go to.
    held.append(os.dup2(one.fileno(), 100 + len(held)))
    one.close()
for place, each in enumerate(held):
    os.dup2(each, 3 + place, inheritable=True)
    os.close(each)
# Nothing else may be where a socket is said to be.
os.closerange(3 + len(held), 100)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS=str(len(kinds)), LISTEN_FDNAMES=names)
os.execv(program[0], program)
