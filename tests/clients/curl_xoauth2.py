"""libcurl with XOAUTH2, which the curl command never picks when OAUTHBEARER is offered too: reads the URLs named on
the command line, each into $HOME/mail/new. Values come as environment variables: CA, USER, TOKEN.
"""

import os
import sys

import pycurl

env = os.environ
folder = os.path.join(env["HOME"], "mail", "new")
os.makedirs(folder)
curl = pycurl.Curl()
curl.setopt(pycurl.CAINFO, env["CA"])
curl.setopt(pycurl.USERNAME, env["USER"])
curl.setopt(pycurl.XOAUTH2_BEARER, env["TOKEN"])
curl.setopt(pycurl.LOGIN_OPTIONS, "AUTH=XOAUTH2")
curl.setopt(pycurl.TIMEOUT, 30)
curl.setopt(pycurl.VERBOSE, 1)
sent = []
curl.setopt(pycurl.DEBUGFUNCTION, lambda kind, text: sent.append((kind, text)) or print(kind, text[:200], file=sys.stderr))
for n, url in enumerate(sys.argv[1:]):
    with open(os.path.join(folder, str(n)), "wb") as out:
        curl.setopt(pycurl.URL, url)
        curl.setopt(pycurl.WRITEDATA, out)
        curl.perform()
assert any(kind == pycurl.INFOTYPE_HEADER_OUT and b"XOAUTH2" in text for kind, text in sent), "libcurl used another mechanism"
