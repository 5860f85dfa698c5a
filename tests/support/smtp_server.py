"""A mail server on 127.0.0.1 that prints each letter as a line of JSON: smtp_server.py PORT plain|auth|starttls|tls CERT KEY."""

import email
import email.policy
import json
import ssl
import sys
import threading

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult, LoginPassword

port, mode, cert, key = int(sys.argv[1]), *sys.argv[2:5]


class Handler:
    async def handle_RCPT(self, server, session, envelope, address, options):
        if address.startswith("gone@"):
            return "550 5.1.1 no such user"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server, session, envelope):
        letter = email.message_from_bytes(envelope.content, policy=email.policy.default)
        parts = {part.get_content_type(): part.get_content() for part in letter.walk() if not part.is_multipart()}
        print(json.dumps({
            "peer": session.peer[1],
            "encrypted": server.transport.get_extra_info("ssl_object") is not None,
            "authenticated": bool(session.authenticated),
            "to": envelope.rcpt_tos,
            "headers": {name: str(value) for name, value in letter.items()},
            "defects": [str(defect) for part in letter.walk() for defect in part.defects],
            "text": parts["text/plain"],
            "html": parts["text/html"],
        }), flush=True)
        return "250 OK"


def authenticate(server, session, envelope, mechanism, data):
    known = isinstance(data, LoginPassword) and (data.login, data.password) == (b"leuko", b"hunter2")
    return AuthResult(success=known, handled=False)


options = {}
if mode in ("starttls", "tls"):
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(cert, key)
    if mode == "starttls":
        options = {"tls_context": context, "require_starttls": True}
    else:
        options = {"ssl_context": context}
if mode != "plain":
    # aiosmtpd counts only STARTTLS as encryption.
    options |= {"authenticator": authenticate, "auth_required": True, "auth_require_tls": mode == "starttls"}
controller = Controller(Handler(), hostname="127.0.0.1", port=port, **options)
controller.start()
print("ready", flush=True)
threading.Event().wait()
