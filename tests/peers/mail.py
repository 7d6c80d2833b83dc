"""A client of mail: sends and fetches mails, and prints as JSON lines which ones. Arguments: address of the server, password."""
import email, imaplib, json, poplib, smtplib, socket, ssl, sys
from email.message import EmailMessage

host, secret = sys.argv[1:]
unchecked = ssl.create_default_context()
unchecked.check_hostname = False
unchecked.verify_mode = ssl.CERT_NONE


def mail(number, subject, body="Hello\n"):
    message = EmailMessage()
    message["From"] = f"Sender <sender{number}@example.net>"
    message["To"] = f"one{number}@example.org, two{number}@example.org"
    message["Subject"] = subject
    message["Message-ID"] = f"<m{number}@example.net>"
    message.set_content(body)
    return message


def say(what, message):
    fields = {"id": message["Message-ID"], "subject": " ".join(str(message["Subject"]).split())}
    print(json.dumps({"what": what} | fields))


def send(smtp, message):
    smtp.send_message(message)
    say("sent", message)


def crlf(message):
    return message.as_bytes().replace(b"\n", b"\r\n")


def connection():
    return smtplib.SMTP(host, 2525, local_hostname="client.example.net", timeout=20)


# Several mails in a session.
with connection() as smtp:
    send(smtp, mail(1, "plain"))
    send(smtp, mail(2, "Gr\u00fc\u00dfe aus \u6771\u4eac " * 8 + "."))
    send(smtp, mail(3, "long", "A line of a long mail.\n" * 5000))
    try:
        smtp.sendmail("sender4@example.net", ["refused@refused.example"], b"Subject: refused\r\n\r\n")
        sys.exit("not refused")
    except smtplib.SMTPRecipientsRefused:
        pass

# Authentication, in each way.
for number, mechanism in [(5, "PLAIN"), (6, "LOGIN"), (7, "CRAM-MD5")]:
    with connection() as smtp:
        smtp.ehlo()
        smtp.user, smtp.password = "alice", secret
        method = getattr(smtp, "auth_" + mechanism.lower().replace("-", "_"))
        smtp.auth(mechanism, method)
        send(smtp, mail(number, "with " + mechanism))

# Commands without waiting for replies, and a mail in chunks.
with connection() as smtp:
    smtp.ehlo()
    envelope = "MAIL FROM:<sender{0}@example.net>\r\nRCPT TO:<one{0}@example.org>\r\n"
    first, second = mail(8, "pipelined"), mail(9, "in chunks")
    smtp.send((envelope.format(8) + "DATA\r\n").encode())
    replies = [smtp.getreply()[0] for _ in range(3)]
    smtp.send(crlf(first) + b".\r\n" + envelope.format(9).encode())
    replies += [smtp.getreply()[0] for _ in range(3)]
    text = crlf(second)
    smtp.send(b"BDAT 20\r\n" + text[:20] + b"BDAT %d LAST\r\n" % (len(text) - 20) + text[20:])
    replies += [smtp.getreply()[0] for _ in range(2)]
    if replies != [250, 250, 354, 250, 250, 250, 250, 250]:
        sys.exit(f"replies {replies}")
    say("sent", first)
    say("sent", second)

# Encrypted: nobody else may know of it.
with connection() as smtp:
    smtp.starttls(context=unchecked)
    smtp.login("alice", secret)
    smtp.send_message(mail(10, "hidden"))

imap = imaplib.IMAP4(host, 1143, timeout=20)
imap.login("alice", secret)
for number in range(20, 23):
    imap.append("INBOX", "", None, mail(number, f"mail {number}").as_bytes())
imap.select("INBOX")
for number in imap.search(None, "ALL")[1][0].split():
    parts = imap.fetch(number, "(UID BODY[])")[1]
    say("IMAP", email.message_from_bytes(parts[0][1]))
imap.uid("FETCH", "1:*", "(ENVELOPE FLAGS)")
imap.close()
imap.logout()

imap = imaplib.IMAP4(host, 1143, timeout=20)
imap.authenticate("PLAIN", lambda _: f"\0bob\0{secret}".encode())
imap.noop()
imap.logout()

imap = imaplib.IMAP4(host, 1143, timeout=20)
imap.starttls(ssl_context=unchecked)
imap.login("carol", secret)
imap.logout()

pop3 = poplib.POP3(host, 1110, timeout=20)
pop3.user("alice")
pop3.pass_(secret)
pop3.stat()
pop3.list()
pop3.uidl()
for number in range(1, 4):
    say("POP3", email.message_from_bytes(b"\r\n".join(pop3.retr(number)[1])))
pop3.top(1, 2)
pop3.dele(1)
pop3.quit()

pop3 = poplib.POP3(host, 1110, timeout=20)
pop3.apop("dave", secret)
pop3.quit()

pop3 = poplib.POP3(host, 1110, timeout=20)
pop3.stls(context=unchecked)
pop3.user("erin")
pop3.pass_(secret)
pop3.quit()
