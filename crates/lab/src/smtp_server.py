# A mail server for a lab: it writes what it takes to standard output. Receivers whose
# names begin with "none" are refused for good, those that begin with "later" twice.
import asyncio
import sys

from aiosmtpd.smtp import SMTP


class Handler:
    def __init__(self):
        self.refusals = 2

    async def handle_RCPT(self, server, session, envelope, address, options):
        if address.startswith("none"):
            return "550 nobody of that name"
        if address.startswith("later") and self.refusals:
            self.refusals -= 1
            return "451 later"
        envelope.rcpt_tos.append(address)
        return "250 fine"

    async def handle_DATA(self, server, session, envelope):
        greeting = "EHLO" if session.extended_smtp else "HELO"
        lines = [f"{greeting} {session.host_name}", f"MAIL FROM:<{envelope.mail_from}>"]
        lines += [f"RCPT TO:<{address}>" for address in envelope.rcpt_tos]
        lines += ["", envelope.original_content.decode("latin-1").replace("\r\n", "\n")]
        print("\n".join(lines) + "=== end of mail", flush=True)
        return "250 taken"


async def main():
    handler = Handler()
    server = await asyncio.get_running_loop().create_server(
        lambda: SMTP(handler, hostname="mail.lab"), sys.argv[1], int(sys.argv[2])
    )
    await server.serve_forever()


asyncio.run(main())
